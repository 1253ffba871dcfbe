-- Feature monthly active users: users active in the feature in the 28 days up to and with as_of, summed over the
-- population's scopes.
CREATE OR REPLACE VIEW {database}.kpi_feature_mau
(
    as_of Date32, population LowCardinality(String), basis LowCardinality(String), stage String, feature String,
    feature_mau UInt64
)
AS
SELECT as_of, population, basis, stage, feature, mau AS feature_mau
FROM {database}.population_figure
WHERE feature != ''
