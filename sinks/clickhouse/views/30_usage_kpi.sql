-- Users of one scope on a day (dau), in the 7 days (wau) and in the 28 days (mau) up to and with as_of, UTC: in total,
-- of each stage, of each feature. Exact figures are sizes of unions, never sums: a stage's figure is not the sum of its
-- features'. Reported ones are what the scope's valid ping says, mau alone. A row while the figure is above 0, and one
-- at 0 when it falls.
CREATE OR REPLACE VIEW {database}.usage_kpi
(
    as_of Date32, population LowCardinality(String), scope_id String, basis LowCardinality(String), level String,
    stage String, feature String, dau Nullable(UInt64), wau Nullable(UInt64), mau UInt64, sessions Nullable(UInt64)
)
AS
SELECT
    figure.as_of AS as_of,
    figure.population AS population,
    figure.scope_id AS scope_id,
    figure.basis AS basis,
    multiIf(naming.stage = '', 'total', naming.feature = '', 'stage', 'feature') AS level,
    naming.stage AS stage,
    naming.feature AS feature,
    figure.dau AS dau,
    figure.wau AS wau,
    figure.mau AS mau,
    figure.sessions AS sessions
FROM
(
    SELECT as_of, population, scope_id, basis, name, toNullable(dau) AS dau, toNullable(wau) AS wau, mau, sessions
    FROM {database}.exact_figure
    UNION ALL
    SELECT as_of, population, scope_id, basis, name, NULL AS dau, NULL AS wau, mau, NULL AS sessions
    FROM {database}.reported_figure
) AS figure
INNER JOIN (SELECT id, stage, feature FROM {database}.figure_name FINAL) AS naming ON naming.id = figure.name
