-- SMAU factor = sum of SMAU / MAU: in how many stages an active user is active, on average. A row for each MAU.
CREATE OR REPLACE VIEW {database}.kpi_smau_factor
(
    as_of Date32, population LowCardinality(String), basis LowCardinality(String), mau UInt64, sum_smau UInt64,
    smau_factor Nullable(Float64)
)
AS
SELECT as_of, population, basis, mau, sum_smau, sum_smau / nullIf(mau, 0) AS smau_factor
FROM
(
    SELECT
        as_of, population, basis,
        sum(if(stage = '', users, 0)) AS mau,
        sum(if(stage = '', 0, users)) AS sum_smau,
        max(stage = '') AS has_mau
    FROM (SELECT as_of, population, basis, stage, mau AS users FROM {database}.population_figure WHERE feature = '')
    GROUP BY as_of, population, basis
)
WHERE has_mau
