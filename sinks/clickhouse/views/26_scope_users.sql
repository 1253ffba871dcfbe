-- Internal. What the newest ping of an installation says of its users on a day, if that ping is of the 28 days up to and
-- with it.
CREATE OR REPLACE VIEW {database}.scope_users AS
SELECT
    ping.day + i AS as_of, ping.population AS population, ping.scope_id AS scope_id,
    ping.billable_users AS billable_users, ping.historical_max_users AS historical_max_users
FROM {database}.scope_ping AS ping
INNER JOIN {database}.clock AS clock ON clock.home = ping.home
ARRAY JOIN range(toUInt32(greatest(
    dateDiff('day', ping.day, least(ping.day + 28, ping.next_day, clock.clock_day + 1)), 0
))) AS i
WHERE ping.population = 'self_managed'
