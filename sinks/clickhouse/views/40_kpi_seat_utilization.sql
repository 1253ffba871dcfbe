-- How much of what a subscription has bought is in use: billable users and active users (mau of the scopes that are
-- linked to it; basis says how they were counted, '' without usage) by its seats, and the seats that it owes: users at
-- their height beyond its seats. Both ratios may be above 1.
CREATE OR REPLACE VIEW {database}.kpi_seat_utilization AS
SELECT
    bought.as_of AS as_of,
    bought.account_id AS account_id,
    bought.subscription_id AS subscription_id,
    bought.plan AS plan,
    bought.seats AS seats,
    bought.billable_users AS billable_users,
    if(used.has_total, toNullable(used.mau), NULL) AS mau,
    multiIf(used.has_exact AND used.has_reported, 'mixed', used.has_exact, 'exact', used.has_reported, 'reported', '')
        AS basis,
    bought.billable_users / nullIf(bought.seats, 0) AS utilization,
    if(used.has_total, used.mau / nullIf(bought.seats, 0), NULL) AS active_utilization,
    if(bought.max_users IS NULL, NULL, greatest(assumeNotNull(bought.max_users) - bought.seats, 0)) AS seats_owed
FROM
(
    SELECT as_of, account_id, subscription_id, plan, seats, billable_users, max_users FROM {database}.account_kpi
) AS bought
LEFT JOIN
(
    SELECT
        as_of, account_id, subscription_id,
        sum(total) AS mau,
        max(has_total) AS has_total,
        max(is_exact) AS has_exact,
        max(NOT is_exact) AS has_reported
    FROM {database}.subscription_usage
    GROUP BY as_of, account_id, subscription_id
) AS used
    ON used.as_of = bought.as_of AND used.account_id = bought.account_id
    AND used.subscription_id = bought.subscription_id
