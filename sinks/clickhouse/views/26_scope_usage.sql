-- Internal. What stands for a scope on a day, figures above 0 alone, as arrays of names' ids and users: its exact ones
-- where it has an exact mau above 0 (of a group a row for each shard), else what it reports itself: what its newest ping
-- that reports knows, for 28 days. total is the figure without a stage, has_total whether there is any.
CREATE OR REPLACE VIEW {database}.scope_usage AS
SELECT
    as_of,
    toString(population) AS population,
    scope_id,
    true AS is_exact,
    arrayFilter((name, users) -> users > 0, arrayResize(usage_day.names, length(usage_day.mau)), usage_day.mau) AS used,
    arrayFilter(users -> users > 0, arrayMap(users -> toUInt64(users), usage_day.mau)) AS users,
    toUInt64(usage_day.mau[1]) AS total,
    true AS has_total
FROM {database}.usage_day FINAL
WHERE population IN ('self_managed', 'group') AND usage_day.mau[1] > 0
UNION ALL
SELECT told.as_of, toString(told.population), told.scope_id, false, told.used, told.users, told.total, told.has_total
FROM
(
    SELECT
        ping.day + i AS as_of, ping.population AS population, ping.scope_id AS scope_id,
        ping.used AS used, ping.users AS users, ping.total AS total, ping.has_total AS has_total
    FROM
    (
        SELECT
            population, scope_id, home, toDate32(recorded_at) AS day,
            leadInFrame(toDate32(recorded_at), 1, toDate32(recorded_at) + 28) OVER
            (
                PARTITION BY population, scope_id ORDER BY recorded_at, uuid, hostname, namespace_id
                ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING
            ) AS next_day,
            arrayFilter((name, users) -> users > 0, reported_names, reported_mau) AS used,
            arrayFilter(users -> users > 0, reported_mau) AS users,
            reported_mau[indexOf(reported_names, 0)] AS total,
            total > 0 AS has_total,
            arrayExists(users -> users > 0, reported_mau) AS any_above_0
        FROM {database}.ping FINAL
        WHERE reports AND population IN ('self_managed', 'group')
    ) AS ping
    INNER JOIN {database}.clock AS clock ON clock.home = ping.home
    ARRAY JOIN range(toUInt32(greatest(
        dateDiff('day', ping.day, least(ping.day + 28, ping.next_day, clock.clock_day + 1)), 0
    ))) AS i
    WHERE ping.any_above_0
) AS told
LEFT ANTI JOIN
(
    SELECT as_of, population, scope_id
    FROM {database}.usage_day FINAL
    WHERE population IN ('self_managed', 'group') AND usage_day.mau[1] > 0
) AS counted
    ON counted.as_of = told.as_of AND counted.population = told.population AND counted.scope_id = told.scope_id
