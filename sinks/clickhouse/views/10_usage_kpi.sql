-- Users active on the day (dau), in the 7 days (wau) and in the 28 days (mau) up to and with as_of, UTC, of one scope:
-- in total, of each stage, of each feature. Sizes of unions, never sums: a stage's figure is not the sum of its features'.
CREATE OR REPLACE VIEW {database}.usage_kpi AS
SELECT
    day.as_of AS as_of,
    day.population AS population,
    day.scope_id AS scope_id,
    day.basis AS basis,
    multiIf(name.stage = '', 'total', name.feature = '', 'stage', 'feature') AS level,
    name.stage AS stage,
    name.feature AS feature,
    day.dau_ AS dau,
    day.wau_ AS wau,
    day.mau_ AS mau,
    nullIf(day.sessions_, -1) AS sessions
FROM
(
    SELECT as_of, population, scope_id, basis, name_, dau_, wau_, mau_, sessions_
    FROM {database}.usage_day FINAL
    ARRAY JOIN
        names AS name_, dau AS dau_, wau AS wau_, mau AS mau_,
        arrayResize(sessions, length(names), toInt64(-1)) AS sessions_
) AS day
INNER JOIN (SELECT id, stage, feature FROM {database}.figure_name FINAL) AS name ON name.id = day.name_
