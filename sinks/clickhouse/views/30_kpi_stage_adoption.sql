-- Share of scopes (installations, groups) that use more than x stages: a stage is used when its mau is above 0.
-- A row for each x from 0 while there are such scopes; total = scopes with mau above 0.
CREATE OR REPLACE VIEW {database}.kpi_stage_adoption AS
SELECT
    as_of,
    population,
    basis,
    more_than,
    scopes,
    max(scopes) OVER (PARTITION BY as_of, population, basis) AS total,
    scopes / total AS share
FROM
(
    SELECT as_of, population, basis, more_than, count() AS scopes
    FROM
    (
        WITH (SELECT groupArray(id) FROM {database}.figure_name WHERE stage != '' AND feature = '') AS stages
        SELECT
            as_of, population, basis,
            arrayCount((name, users) -> users > 0 AND has(stages, name), names, mau) AS used
        FROM {database}.usage_day FINAL
        WHERE population IN ('self_managed', 'group')
    )
    ARRAY JOIN range(toUInt32(used)) AS more_than
    GROUP BY as_of, population, basis, more_than
)
