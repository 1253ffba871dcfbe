-- Internal. What stands for a scope on a day, figures above 0 alone, as arrays of names' ids and users: its exact ones
-- where it has an exact mau above 0 (of a group a row for each shard), else what it reports itself: what its newest ping
-- that reports knows, for 28 days. total is the figure without a stage, has_total whether there is any.
CREATE OR REPLACE VIEW {database}.scope_usage
(
    as_of Date32, population LowCardinality(String), scope_id String, is_exact Bool, used Array(UInt64),
    users Array(UInt64), total UInt64, has_total Bool
)
AS
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
SELECT
    told.as_of, toString(told.population), told.scope_id, false, told.names, told.mau,
    told.mau[indexOf(told.names, 0)], has(told.names, 0)
FROM
(
    SELECT as_of, population, scope_id, names, mau
    FROM {database}.reported_day
    WHERE NOT falls AND notEmpty(names) AND population IN ('self_managed', 'group')
) AS told
LEFT ANTI JOIN
(
    SELECT as_of, population, scope_id
    FROM {database}.usage_day FINAL
    WHERE population IN ('self_managed', 'group') AND usage_day.mau[1] > 0
) AS counted
    ON counted.as_of = told.as_of AND counted.population = told.population AND counted.scope_id = told.scope_id
