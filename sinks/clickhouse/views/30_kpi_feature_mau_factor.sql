-- Feature MAU factor of a stage = sum of its feature MAU / its SMAU: how many of its features an active user uses.
CREATE OR REPLACE VIEW {database}.kpi_feature_mau_factor AS
SELECT
    as_of,
    population,
    basis,
    stage,
    sumIf(mau, feature = '') AS smau,
    sumIf(mau, feature != '') AS sum_feature_mau,
    sum_feature_mau / nullIf(smau, 0) AS feature_mau_factor
FROM {database}.population_figure
WHERE stage != ''
GROUP BY as_of, population, basis, stage
