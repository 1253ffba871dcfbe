-- Internal. What a scope reports itself on a day, as arrays of the names' ids and the figures: on each day of a ping's
-- validity what it knows to be above 0 (falls is false), and on the first of them a 0 for what was above 0 on the day
-- before (falls is true). What is unknown or has expired is not in them.
CREATE OR REPLACE VIEW {database}.reported_day AS
SELECT
    day.as_of AS as_of,
    day.population AS population,
    day.scope_id AS scope_id,
    toLowCardinality('reported') AS basis,
    false AS falls,
    ping.names AS names,
    ping.mau AS mau
FROM
(
    SELECT
        uuid, hostname, namespace_id, recorded_at, row_version,
        arrayFilter((name, users) -> users > 0, reported_names, reported_mau) AS names,
        arrayFilter(users -> users > 0, reported_mau) AS mau
    FROM {database}.ping
    WHERE reports AND (SELECT max(reports) FROM {database}.ping)
) AS ping
INNER JOIN
(
    SELECT day_ AS as_of, population, scope_id, uuid, hostname, namespace_id, recorded_at, row_version
    FROM {database}.reported_span
    ARRAY JOIN arrayMap(i -> first_day + i, range(toUInt32(greatest(dateDiff('day', first_day, last_day) + 1, 0)))) AS day_
) AS day
    ON ping.uuid = day.uuid AND ping.hostname = day.hostname
    AND ping.namespace_id = day.namespace_id AND ping.recorded_at = day.recorded_at
    AND ping.row_version = day.row_version
LIMIT 1 BY as_of, population, scope_id  -- a row that was written twice may not be merged yet
UNION ALL
SELECT
    as_of,
    population,
    scope_id,
    toLowCardinality('reported') AS basis,
    true AS falls,
    fallen AS names,
    arrayResize(CAST([] AS Array(UInt64)), length(fallen)) AS mau
FROM
(
    SELECT
        turn.as_of AS as_of,
        turn.population AS population,
        turn.scope_id AS scope_id,
        arrayIntersect(anyIf(ping.above_0, turn.before), anyIf(ping.at_0, NOT turn.before)) AS fallen
    FROM
    (
        SELECT
            uuid, hostname, namespace_id, recorded_at, row_version,
            arrayFilter((name, users) -> users > 0, reported_names, reported_mau) AS above_0,
            arrayFilter((name, users) -> users = 0, reported_names, reported_mau) AS at_0
        FROM {database}.ping
        WHERE reports AND (SELECT max(reports) FROM {database}.ping)
    ) AS ping
    INNER JOIN
    (
        SELECT
            as_of_ AS as_of, population, scope_id, before_ AS before,
            uuid, hostname, namespace_id, recorded_at, row_version
        FROM {database}.reported_span
        ARRAY JOIN [first_day, next_day] AS as_of_, [false, true] AS before_
        -- before: it was valid on the day before the next ping's; else it had expired by then
        WHERE NOT before_ OR next_day <= first_day + 28
    ) AS turn
        ON ping.uuid = turn.uuid AND ping.hostname = turn.hostname
        AND ping.namespace_id = turn.namespace_id AND ping.recorded_at = turn.recorded_at
        AND ping.row_version = turn.row_version
    GROUP BY as_of, population, scope_id
)
WHERE notEmpty(fallen)
