-- One row for each ping, by its identity: uuid, hostname, namespace_id and recorded_at.
CREATE OR REPLACE VIEW {database}.usage_ping
(
    uuid String, hostname String, namespace_id String, recorded_at DateTime64(6, 'UTC'),
    received_at DateTime64(3, 'UTC'), population LowCardinality(String), scope_id String, version String,
    edition LowCardinality(String), plan LowCardinality(String), registered_users Nullable(Int64),
    billable_users Nullable(Int64), seats Nullable(Int64), historical_max_users Nullable(Int64), counters UInt32,
    failed_counters UInt32, license_subscription_id String, license_sha256 String
)
AS
SELECT
    uuid, hostname, namespace_id, recorded_at, received_at, population, scope_id, version, edition, plan,
    registered_users, billable_users, seats, historical_max_users, counters, failed_counters,
    license_subscription_id, license_sha256
FROM {database}.ping FINAL
