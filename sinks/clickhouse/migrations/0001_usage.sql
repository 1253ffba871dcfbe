-- Usage: figures by scope and day, the names of figures, pings, dead letters.
-- Each table keeps the newest version of a key; the contract's names are views that read it so.

CREATE TABLE IF NOT EXISTS {database}.figure_name
(
    id UInt64 COMMENT 'digest of stage and feature; 0 is the total',
    stage String,
    feature String
)
ENGINE = {replacing}
ORDER BY id
COMMENT 'Names of the figures in usage_day';

CREATE TABLE IF NOT EXISTS {database}.usage_day
(
    as_of Date32 COMMENT 'Date32: a record timestamp of a wrong clock must not stop the table',
    population LowCardinality(String),
    scope_id String,
    basis LowCardinality(String),
    names Array(UInt64) COMMENT 'figure_name.id of each figure, the total first',
    dau Array(UInt32),
    wau Array(UInt32),
    mau Array(UInt32),
    sessions Array(Int64) COMMENT '-1 unknown; empty when none is known',
    version UInt64 COMMENT 'epoch (24 bits) and revision (40 bits): the highest stands'
)
ENGINE = {replacing_version}
PARTITION BY toYear(as_of)
ORDER BY (population, basis, as_of, scope_id)
COMMENT 'All figures of a scope and day as one row of arrays: five times cheaper to write than a row a figure';

CREATE TABLE IF NOT EXISTS {database}.ping
(
    uuid String,
    hostname String,
    namespace_id String,
    recorded_at DateTime64(6, 'UTC'),
    received_at DateTime64(3, 'UTC'),
    population LowCardinality(String),
    scope_id String,
    version String,
    edition LowCardinality(String),
    plan LowCardinality(String),
    registered_users Nullable(Int64),
    billable_users Nullable(Int64),
    seats Nullable(Int64),
    historical_max_users Nullable(Int64),
    counters UInt32,
    failed_counters UInt32,
    license_subscription_id String,
    license_sha256 String,
    row_version UInt64
)
ENGINE = {replacing_row_version}
ORDER BY (uuid, hostname, namespace_id, recorded_at)
COMMENT 'Pings, one row for each identity';

CREATE TABLE IF NOT EXISTS {database}.letter
(
    topic LowCardinality(String),
    partition UInt32,
    offset UInt64,
    reason LowCardinality(String),
    error String,
    received_at DateTime64(3, 'UTC'),
    row_version UInt64
)
ENGINE = {replacing_row_version}
ORDER BY (topic, partition, offset)
COMMENT 'Dead letters, by the place of the message in its source topic';
