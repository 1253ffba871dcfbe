-- Stage monthly active users: users active in any feature of the stage in the 28 days up to and with as_of, summed over
-- the population's scopes.
CREATE OR REPLACE VIEW {database}.kpi_smau
(
    as_of Date32, population LowCardinality(String), basis LowCardinality(String), stage String, smau UInt64
)
AS
SELECT as_of, population, basis, stage, mau AS smau
FROM {database}.population_figure
WHERE stage != '' AND feature = ''
