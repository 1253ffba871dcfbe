-- Sums over all accounts, kept: they are computed again only when the accounts have changed.

CREATE TABLE IF NOT EXISTS {database}.billing_sums
(
    accounts UInt64 COMMENT 'account_digest.accounts: the accounts of which these are the sums',
    held_steps Array(Tuple(cell UInt64, day Date32, held Int64, seats Int64, mrr Int64)) COMMENT 'rows of held_step',
    growth_steps Array(Tuple(cell UInt64, day Date32, movements Int64, seats Int64)) COMMENT 'rows of growth_step',
    movement_steps Array(Tuple(cell UInt64, step UInt32, day Date32, movements Int64, seat Decimal(38, 0), tier Decimal(38, 0), discount Decimal(38, 0), price Decimal(38, 0))) COMMENT 'rows of movement_step',
    tier_steps Array(Tuple(cell UInt64, plan_from String, plan_to String, direction String, day Date32, movements Int64, seats Int64, mrr Int64)) COMMENT 'rows of tier_step',
    retention_steps Array(Tuple(level String, day Date32, base Int64, current Int64, gross Int64, customers Int64, churned Int64)) COMMENT 'rows of retention_step',
    made_at DateTime64(6, 'UTC') DEFAULT now64(6)
)
ENGINE = {replacing_made_at}
ORDER BY tuple()
COMMENT 'The newest sums over all accounts that were kept: one row, which views take while no account has changed since';
