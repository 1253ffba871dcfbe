-- Registered users of a scope by user persona and by acquisition channel, as its valid ping with users_by tells them:
-- from the UTC day of recorded_at for 28 days or until the next such ping. What a ping does not tell has no row.
CREATE OR REPLACE VIEW {database}.users_by AS
SELECT
    as_of,
    population,
    scope_id,
    toString(dimension_) AS dimension,
    value_ AS value,
    users_ AS users
FROM
(
    SELECT
        day.as_of AS as_of, day.population AS population, day.scope_id AS scope_id,
        ping.users_by_dimension AS dimensions, ping.users_by_value AS named, ping.users_by_users AS counted
    FROM
    (
        SELECT uuid, hostname, namespace_id, recorded_at, row_version, users_by_dimension, users_by_value, users_by_users
        FROM {database}.ping
        WHERE has_users_by
    ) AS ping
    INNER JOIN
    (
        SELECT day_ AS as_of, population, scope_id, uuid, hostname, namespace_id, recorded_at, row_version
        FROM {database}.users_by_span
        ARRAY JOIN arrayMap(i -> first_day + i, range(toUInt32(greatest(dateDiff('day', first_day, last_day) + 1, 0)))) AS day_
    ) AS day
        ON ping.uuid = day.uuid AND ping.hostname = day.hostname
        AND ping.namespace_id = day.namespace_id AND ping.recorded_at = day.recorded_at
        AND ping.row_version = day.row_version
    LIMIT 1 BY as_of, population, scope_id  -- a row that was written twice may not be merged yet
)
ARRAY JOIN dimensions AS dimension_, named AS value_, counted AS users_
