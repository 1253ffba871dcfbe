-- SMAU factor = sum of SMAU / MAU: in how many stages an active user is active, on average.
CREATE OR REPLACE VIEW {database}.kpi_smau_factor AS
SELECT
    as_of,
    population,
    basis,
    sumIf(figure.mau, stage = '') AS mau,
    sumIf(figure.mau, stage != '') AS sum_smau,
    sum_smau / nullIf(mau, 0) AS smau_factor
FROM {database}.population_figure AS figure
WHERE feature = ''
GROUP BY as_of, population, basis
