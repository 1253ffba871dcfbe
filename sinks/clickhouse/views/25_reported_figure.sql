-- Internal. Figures that installations, groups and GitLab.com report themselves, a row a scope, day and figure, by the
-- id of its name.
CREATE OR REPLACE VIEW {database}.reported_figure
(
    as_of Date32, population LowCardinality(String), scope_id String, basis LowCardinality(String), name UInt64,
    mau UInt64
)
AS
SELECT as_of, population, scope_id, basis, name_ AS name, mau_ AS mau
FROM {database}.reported_day
ARRAY JOIN names AS name_, reported_day.mau AS mau_
