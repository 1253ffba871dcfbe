-- Internal. The kept sums, if they are of the accounts as they are now: one row or none.
CREATE OR REPLACE VIEW {database}.current_sums
(
    held_steps Array(Tuple(cell UInt64, day Date32, held Int64, seats Int64, mrr Int64)),
    growth_steps Array(Tuple(cell UInt64, day Date32, movements Int64, seats Int64)),
    movement_steps Array(Tuple(
        cell UInt64, step UInt32, day Date32, movements Int64, seat Decimal(38, 0), tier Decimal(38, 0),
        discount Decimal(38, 0), price Decimal(38, 0))),
    tier_steps Array(Tuple(
        cell UInt64, plan_from String, plan_to String, direction String, day Date32, movements Int64, seats Int64,
        mrr Int64)),
    retention_steps Array(Tuple(
        level String, day Date32, base Int64, current Int64, gross Int64, customers Int64, churned Int64))
)
AS
SELECT held_steps, growth_steps, movement_steps, tier_steps, retention_steps
FROM {database}.billing_sums FINAL
WHERE accounts = (SELECT accounts FROM {database}.account_digest)
