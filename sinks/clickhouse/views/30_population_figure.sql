-- Internal. Figures of a whole population, of each basis: sums over its scopes' rows of that day. What the KPI views
-- are made of.
CREATE OR REPLACE VIEW {database}.population_figure
(
    as_of Date32, population LowCardinality(String), basis LowCardinality(String), stage String, feature String,
    mau UInt64
)
AS
SELECT
    figure.as_of AS as_of,
    figure.population AS population,
    figure.basis AS basis,
    naming.stage AS stage,
    naming.feature AS feature,
    figure.mau AS mau
FROM
(
    SELECT as_of, population, basis, name_ AS name, sum(mau_) AS mau
    FROM
    (
        SELECT as_of, population, basis, name_, mau_
        FROM {database}.usage_day FINAL
        ARRAY JOIN arrayResize(usage_day.names, length(usage_day.mau)) AS name_, usage_day.mau AS mau_
    )
    GROUP BY as_of, population, basis, name_
    UNION ALL
    SELECT
        as_of, toLowCardinality(toString(population_)) AS population, toLowCardinality(toString(basis_)) AS basis,
        name, sum(users) AS mau
    FROM
    (
        -- keys of a fixed width: half the time
        SELECT
            as_of, name, mau AS users,
            CAST(population, 'Enum8(''self_managed'', ''gitlab_com'', ''group'')') AS population_,
            CAST(basis, 'Enum8(''reported'')') AS basis_
        FROM {database}.reported_figure
    )
    GROUP BY as_of, population_, basis_, name
) AS figure
INNER JOIN (SELECT id, stage, feature FROM {database}.figure_name FINAL) AS naming ON naming.id = figure.name
