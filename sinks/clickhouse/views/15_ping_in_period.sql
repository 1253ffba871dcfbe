-- Internal. Pings by the periods of 28 days in which they may speak: that of recorded_at, and the next. Some are there
-- twice until their rows are merged; of such rows the greatest row_version stands. Windows sort by it behind a
-- ping's identity, in place of FINAL, which looks at every ping and keeps a filter by period from the table.
CREATE OR REPLACE VIEW {database}.ping_in_period
(
    uuid String, hostname String, namespace_id String, recorded_at DateTime64(6, 'UTC'),
    received_at DateTime64(3, 'UTC'), population LowCardinality(String), scope_id String, version String,
    edition LowCardinality(String), plan LowCardinality(String), registered_users Nullable(Int64),
    billable_users Nullable(Int64), seats Nullable(Int64), historical_max_users Nullable(Int64), counters UInt32,
    failed_counters UInt32, license_subscription_id String, license_sha256 String, row_version UInt64, home UInt32,
    reports Bool, stage_map UInt16, reported_names Array(UInt64), reported_mau Array(UInt64), reported_unknown UInt32,
    has_users_by Bool, users_by_dimension Array(LowCardinality(String)), users_by_value Array(String),
    users_by_users Array(UInt64), period Int64
)
AS
SELECT *, intDiv(toInt32(toDate32(recorded_at)) + 25567, 28) AS period
FROM {database}.ping
UNION ALL
SELECT *, intDiv(toInt32(toDate32(recorded_at)) + 25567, 28) + 1 AS period
FROM {database}.ping
