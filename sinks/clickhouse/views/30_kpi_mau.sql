-- Monthly active users of a population: users active in the 28 days up to and with as_of; stickiness = dau / mau.
CREATE OR REPLACE VIEW {database}.kpi_mau AS
SELECT
    as_of,
    population,
    basis,
    sum(total_dau) AS dau,
    sum(total_wau) AS wau,
    sum(total_mau) AS mau,
    dau / nullIf(mau, 0) AS stickiness
FROM
(
    SELECT
        as_of, population, basis,
        usage_day.dau[1] AS total_dau, usage_day.wau[1] AS total_wau, usage_day.mau[1] AS total_mau
    FROM {database}.usage_day FINAL
)
GROUP BY as_of, population, basis
