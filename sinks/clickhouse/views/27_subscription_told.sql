-- Internal. Users that the installations linked to a subscription tell of on a day: sums over their newest pings, if these
-- are of the 28 days up to and with it.
CREATE OR REPLACE VIEW {database}.subscription_told AS
SELECT
    told.as_of AS as_of, link.account_id AS account_id, link.subscription_id AS subscription_id,
    sum(told.billable_users) AS billable_users, sum(told.historical_max_users) AS max_users
FROM
(
    SELECT
        ping.day + i AS as_of, ping.scope_id AS scope_id,
        ping.billable_users AS billable_users, ping.historical_max_users AS historical_max_users
    FROM {database}.scope_ping AS ping
    INNER JOIN {database}.clock AS clock ON clock.home = ping.home AND clock.kind = 'any'
    ARRAY JOIN range(toUInt32(greatest(
        dateDiff('day', ping.day, least(ping.day + 28, ping.next_day, clock.clock_day + 1)), 0
    ))) AS i
    WHERE ping.population = 'self_managed'
) AS told
INNER JOIN (SELECT * FROM {database}.scope_link WHERE population = 'self_managed') AS link
    ON link.scope_id = told.scope_id AND link.first_day <= told.as_of AND told.as_of < link.until
GROUP BY as_of, account_id, subscription_id
