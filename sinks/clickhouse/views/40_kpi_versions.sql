-- Versions (major.minor, '' when unknown) and editions in use: scopes by the newest ping of the 28 days up to and with
-- as_of, and the registered users that these pings know, NULL when none does.
CREATE OR REPLACE VIEW {database}.kpi_versions
(
    as_of Date32, population LowCardinality(String), version String, edition LowCardinality(String), scopes UInt64,
    users Nullable(UInt64)
)
AS
SELECT
    as_of, population, version, edition,
    count() AS scopes,
    CAST(sum(registered) AS Nullable(UInt64)) AS users
FROM
(
    SELECT as_of, population, extract(full_version, '^[0-9]+[.][0-9]+') AS version, edition, registered
    FROM
    (
        SELECT as_of, population, version AS full_version, edition, registered_users AS registered
        FROM {database}.ping_day
    )
)
GROUP BY as_of, population, version, edition
