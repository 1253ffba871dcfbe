-- Sessions of a day, the users active on it (dau), and sessions per user = sessions / dau: of a population in total
-- (stage and feature are ''), of each stage (feature is ''), of each feature. Sums over the scopes whose number of
-- sessions is known.
CREATE OR REPLACE VIEW {database}.kpi_sessions
(
    as_of Date32, population LowCardinality(String), stage String, feature String, sessions UInt64, dau UInt64,
    sessions_per_user Nullable(Float64)
)
AS
SELECT
    known.as_of AS as_of,
    known.population AS population,
    naming.stage AS stage,
    naming.feature AS feature,
    known.sessions AS sessions,
    known.dau AS dau,
    known.sessions / nullIf(known.dau, 0) AS sessions_per_user
FROM
(
    SELECT as_of, population, name, sum(number) AS sessions, sum(users) AS dau
    FROM
    (
        SELECT as_of, population, name, dau AS users, assumeNotNull(sessions) AS number
        FROM {database}.exact_figure
        WHERE sessions IS NOT NULL
    )
    GROUP BY as_of, population, name
) AS known
INNER JOIN (SELECT id, stage, feature FROM {database}.figure_name FINAL) AS naming ON naming.id = known.name
