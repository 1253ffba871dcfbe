-- Share of scopes (installations, groups) that use more than x stages: a stage is used when its mau is above 0. Scopes
-- with a total mau above 0 count, in `scopes` and in `total`. Rows for x = 0, and for 1, 2 … while there are such
-- scopes.
CREATE OR REPLACE VIEW {database}.kpi_stage_adoption
(
    as_of Date32, population LowCardinality(String), basis LowCardinality(String), more_than UInt64, scopes UInt64,
    total UInt64, share Float64
)
AS
SELECT as_of, population, basis, more_than, scopes, total, scopes / total AS share
FROM
(
    SELECT
        as_of, population, basis, more_than, scopes,
        max(counted) OVER (PARTITION BY as_of, population, basis) AS total
    FROM
    (
        SELECT
            as_of, population, basis, toUInt64(x) AS more_than,
            sum(toUInt64(stages_used > x)) AS scopes,
            count() AS counted
        FROM
        (
            SELECT as_of, population, basis, stages_used
            FROM
            (
                SELECT
                    as_of, population, basis, usage_day.mau[1] > 0 AS active,
                    arrayCount(
                        (name, users) -> users > 0
                            AND name IN (SELECT id FROM {database}.figure_name WHERE stage != '' AND feature = ''),
                        arrayResize(usage_day.names, length(usage_day.mau)), usage_day.mau
                    ) AS stages_used
                FROM {database}.usage_day FINAL
                WHERE population = 'self_managed'
            )
            WHERE active
            UNION ALL
            SELECT as_of, population, basis, length(groupUniqArrayArray(stages)) AS stages_used
            FROM
            (
                SELECT
                    as_of, population, basis, scope_id, usage_day.mau[1] > 0 AS active,
                    arrayFilter(
                        (name, users) -> users > 0
                            AND name IN (SELECT id FROM {database}.figure_name WHERE stage != '' AND feature = ''),
                        arrayResize(usage_day.names, length(usage_day.mau)), usage_day.mau
                    ) AS stages
                FROM {database}.usage_day FINAL
                WHERE population = 'group'
            )
            WHERE active
            GROUP BY as_of, population, basis, scope_id
            UNION ALL
            SELECT
                as_of, population, basis,
                arrayCount(
                    name -> name IN (SELECT id FROM {database}.figure_name WHERE stage != '' AND feature = ''), names
                ) AS stages_used
            FROM {database}.reported_day
            WHERE population IN ('self_managed', 'group') AND NOT falls AND has(names, 0)
        )
        ARRAY JOIN range(toUInt32(greatest(stages_used, 1))) AS x
        GROUP BY as_of, population, basis, x
    )
)
