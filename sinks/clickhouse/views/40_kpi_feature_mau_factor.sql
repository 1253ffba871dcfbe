-- Feature MAU factor of a stage = sum of its feature MAU / its SMAU: how many of its features an active user uses. A
-- row for each SMAU.
CREATE OR REPLACE VIEW {database}.kpi_feature_mau_factor
(
    as_of Date32, population LowCardinality(String), basis LowCardinality(String), stage String, smau UInt64,
    sum_feature_mau UInt64, feature_mau_factor Nullable(Float64)
)
AS
SELECT as_of, population, basis, stage, smau, sum_feature_mau, sum_feature_mau / nullIf(smau, 0) AS feature_mau_factor
FROM
(
    SELECT
        as_of, population, basis, stage,
        sum(if(feature = '', users, 0)) AS smau,
        sum(if(feature = '', 0, users)) AS sum_feature_mau,
        max(feature = '') AS has_smau
    FROM
    (
        SELECT as_of, population, basis, stage, feature, mau AS users
        FROM {database}.population_figure
        WHERE stage != ''
    )
    GROUP BY as_of, population, basis, stage
)
WHERE has_smau
