-- Figures of a whole population: sums over its scopes, which share no users. What the KPI views are made of.
CREATE OR REPLACE VIEW {database}.population_figure AS
SELECT
    sum_.as_of AS as_of,
    sum_.population AS population,
    sum_.basis AS basis,
    name.stage AS stage,
    name.feature AS feature,
    sum_.users AS mau
FROM
(
    SELECT as_of, population, basis, name_, sum(mau_) AS users
    FROM {database}.usage_day FINAL
    ARRAY JOIN names AS name_, mau AS mau_
    GROUP BY as_of, population, basis, name_
) AS sum_
INNER JOIN (SELECT id, stage, feature FROM {database}.figure_name FINAL) AS name ON name.id = sum_.name_
