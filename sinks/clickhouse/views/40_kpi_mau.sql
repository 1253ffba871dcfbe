-- Monthly active users of a population: users active in the 28 days up to and with as_of, summed over its scopes;
-- stickiness = dau / mau. Of reported figures only mau is known.
CREATE OR REPLACE VIEW {database}.kpi_mau
(
    as_of Date32, population LowCardinality(String), basis LowCardinality(String), dau Nullable(UInt64),
    wau Nullable(UInt64), mau UInt64, stickiness Nullable(Float64)
)
AS
SELECT as_of, population, basis, dau, wau, mau, dau / nullIf(mau, 0) AS stickiness
FROM
(
    SELECT as_of, population, basis, toNullable(sum(dau_)) AS dau, toNullable(sum(wau_)) AS wau, sum(mau_) AS mau
    FROM
    (
        SELECT
            as_of, population, basis, usage_day.dau[1] AS dau_, usage_day.wau[1] AS wau_, usage_day.mau[1] AS mau_
        FROM {database}.usage_day FINAL
        WHERE notEmpty(usage_day.mau)
    )
    GROUP BY as_of, population, basis
    UNION ALL
    SELECT as_of, population, basis, NULL AS dau, NULL AS wau, sum(mau_) AS mau
    FROM
    (
        SELECT as_of, population, basis, reported_day.mau[indexOf(names, 0)] AS mau_
        FROM {database}.reported_day
        WHERE has(names, 0)
    )
    GROUP BY as_of, population, basis
)
