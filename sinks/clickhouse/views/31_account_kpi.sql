-- A subscription of an account on a day: its state at the end of the day, the account's profile, seats added (growth
-- alone) and removed in 28 days, its MRR and that of the same date 12 months ago. From its first state until 13 months
-- after its cancellation. Users are of the newest seats_synced by then, else sums over the newest pings of 28 days of
-- the installations that are linked to it.
CREATE OR REPLACE VIEW {database}.account_kpi
(
    as_of Date32, account_id String, subscription_id String, parent_account_id String, deployment String, plan String,
    country String, geo String, territory String, segment String, buyer_persona String, acquisition_channel String,
    acquisition_source String, seats Int64, seats_added_28d Int64, seats_removed_28d Int64, mrr Decimal(18, 2),
    mrr_12m_ago Decimal(18, 2), billable_users Nullable(Int64), max_users Nullable(Int64)
)
AS
SELECT
    held.as_of AS as_of,
    held.account_id AS account_id,
    held.subscription_id AS subscription_id,
    held.parent_account_id AS parent_account_id,
    held.deployment AS deployment,
    held.plan AS plan,
    held.country AS country,
    held.geo AS geo,
    held.territory AS territory,
    held.segment AS segment,
    held.buyer_persona AS buyer_persona,
    held.acquisition_channel AS acquisition_channel,
    held.acquisition_source AS acquisition_source,
    held.seats AS seats,
    held.seats_added_28d AS seats_added_28d,
    held.seats_removed_28d AS seats_removed_28d,
    held.mrr AS mrr,
    held.mrr_12m_ago AS mrr_12m_ago,
    if(held.synced, held.billable_users, told.billable_users) AS billable_users,
    if(held.synced, held.max_users, told.max_users) AS max_users
FROM {database}.subscription_day AS held
LEFT JOIN
(
    SELECT
        scope.as_of AS as_of, link.account_id AS account_id, link.subscription_id AS subscription_id,
        sum(scope.billable_users) AS billable_users, sum(scope.historical_max_users) AS max_users
    FROM (SELECT * FROM {database}.ping_day WHERE population = 'self_managed') AS scope
    INNER JOIN (SELECT * FROM {database}.scope_link WHERE population = 'self_managed') AS link
        ON link.scope_id = scope.scope_id AND link.first_day <= scope.as_of AND scope.as_of < link.until
    GROUP BY as_of, account_id, subscription_id
) AS told
    ON told.as_of = held.as_of AND told.account_id = held.account_id AND told.subscription_id = held.subscription_id
