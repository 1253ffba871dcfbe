-- How much of what a subscription has bought is in use: billable users and active users (mau of the scopes that are
-- linked to it; basis says how they were counted, '' without usage) by its seats, and the seats that it owes: users at
-- their height beyond its seats. Both ratios may be above 1.
CREATE OR REPLACE VIEW {database}.kpi_seat_utilization
(
    as_of Date32, account_id String, subscription_id String, plan String, seats Int64, billable_users Nullable(Int64),
    mau Nullable(UInt64), basis String, utilization Nullable(Float64), active_utilization Nullable(Float64),
    seats_owed Nullable(Int64)
)
AS
SELECT
    bought.as_of AS as_of,
    bought.account_id AS account_id,
    bought.subscription_id AS subscription_id,
    bought.plan AS plan,
    bought.seats AS seats,
    -- users as in account_kpi, but in one pass over the scopes
    if(bought.synced, bought.billable_users, used.billable) AS billable_users,
    if(used.has_total, toNullable(used.mau_), NULL) AS mau,
    multiIf(used.has_exact AND used.has_reported, 'mixed', used.has_exact, 'exact', used.has_reported, 'reported', '')
        AS basis,
    if(bought.synced, bought.billable_users, used.billable) / nullIf(bought.seats, 0) AS utilization,
    if(used.has_total, used.mau_ / nullIf(bought.seats, 0), NULL) AS active_utilization,
    if(
        if(bought.synced, bought.max_users, used.highest) IS NULL, NULL,
        greatest(assumeNotNull(if(bought.synced, bought.max_users, used.highest)) - bought.seats, 0)
    ) AS seats_owed
FROM
(
    SELECT as_of, account_id, subscription_id, plan, seats, synced, billable_users, max_users
    FROM {database}.subscription_day
) AS bought
LEFT JOIN
(
    SELECT
        scope.as_of AS as_of, link.account_id AS account_id, link.subscription_id AS subscription_id,
        sum(scope.billable_users) AS billable,
        sum(scope.historical_max_users) AS highest,
        sum(scope.total) AS mau_,
        max(scope.has_total) AS has_total,
        max(scope.has_figure AND scope.is_exact) AS has_exact,
        max(scope.has_figure AND NOT scope.is_exact) AS has_reported
    FROM
    (
        SELECT
            as_of, population, scope_id, true AS has_figure, is_exact, total, has_total,
            NULL AS billable_users, NULL AS historical_max_users
        FROM {database}.scope_usage
        UNION ALL
        SELECT as_of, toString(population), scope_id, false, false, 0, false, billable_users, historical_max_users
        FROM {database}.ping_day
        WHERE population = 'self_managed'
    ) AS scope
    INNER JOIN {database}.scope_link AS link
        ON link.population = scope.population AND link.scope_id = scope.scope_id
        AND link.first_day <= scope.as_of AND scope.as_of < link.until
    GROUP BY as_of, account_id, subscription_id
) AS used
    ON used.as_of = bought.as_of AND used.account_id = bought.account_id
    AND used.subscription_id = bought.subscription_id
