-- One row for each ping, by its identity: uuid, hostname, namespace_id and recorded_at.
CREATE OR REPLACE VIEW {database}.usage_ping AS
SELECT
    uuid, hostname, namespace_id, recorded_at, received_at, population, scope_id, version, edition, plan,
    registered_users, billable_users, seats, historical_max_users, counters, failed_counters,
    license_subscription_id, license_sha256
FROM {database}.ping FINAL
