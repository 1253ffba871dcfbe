-- Registered users of a population by user persona and by acquisition channel: sums over its scopes that tell them.
CREATE OR REPLACE VIEW {database}.kpi_users_by
(
    as_of Date32, population LowCardinality(String), dimension LowCardinality(String), value String, users UInt64
)
AS
SELECT as_of, population, dimension, value, sum(counted) AS users
FROM (SELECT as_of, population, dimension, value, users AS counted FROM {database}.users_by)
GROUP BY as_of, population, dimension, value
