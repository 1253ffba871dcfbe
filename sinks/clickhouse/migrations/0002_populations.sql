-- Groups and GitLab.com as a whole, what installations report themselves, how far each partition is.

ALTER TABLE {database}.usage_day
    ADD COLUMN IF NOT EXISTS shard UInt32 COMMENT 'partition that holds it; figures of a scope are sums over its shards, which share no user' AFTER scope_id,
    MODIFY ORDER BY (population, basis, as_of, scope_id, shard),
    MODIFY COLUMN names Array(UInt64) COMMENT 'figure_name.id of each figure, the total first; those beyond the length of mau have a number of sessions and no figure';

ALTER TABLE {database}.ping
    ADD COLUMN IF NOT EXISTS home UInt32 COMMENT 'partition in which its scope lives',
    ADD COLUMN IF NOT EXISTS reports Bool COMMENT 'it has usage_activity_by_stage_monthly: it sets all reported figures of its scope',
    ADD COLUMN IF NOT EXISTS stage_map UInt16 COMMENT 'version of the stage map it was read with',
    ADD COLUMN IF NOT EXISTS reported_names Array(UInt64) CODEC(ZSTD(3)) COMMENT 'figure_name.id of each reported figure that is known',
    ADD COLUMN IF NOT EXISTS reported_mau Array(UInt64) CODEC(T64, ZSTD(3)) COMMENT 'their values, 0 too',
    ADD COLUMN IF NOT EXISTS reported_unknown UInt32 COMMENT 'reported figures that are negative or of an unexpected type',
    ADD COLUMN IF NOT EXISTS has_users_by Bool COMMENT 'it has users_by',
    ADD COLUMN IF NOT EXISTS users_by_dimension Array(LowCardinality(String)),
    ADD COLUMN IF NOT EXISTS users_by_value Array(String),
    ADD COLUMN IF NOT EXISTS users_by_users Array(UInt64);

CREATE TABLE IF NOT EXISTS {database}.progress
(
    topic LowCardinality(String),
    partition UInt32,
    as_of Date32 COMMENT 'the as-of clock up to which the rows of its scopes are written; 1970-01-01 while they are not',
    received_at Nullable(DateTime64(3, 'UTC')) COMMENT 'newest received time that is applied; NULL without messages',
    next_offset UInt64 COMMENT 'first offset that is not applied',
    row_version UInt64
)
ENGINE = {replacing_row_version}
ORDER BY (topic, partition)
COMMENT 'How far each partition of a source topic is';

CREATE TABLE IF NOT EXISTS {database}.gap
(
    topic LowCardinality(String),
    partition UInt32,
    first_offset UInt64,
    last_offset UInt64
)
ENGINE = {replacing}
ORDER BY (topic, partition, first_offset)
COMMENT 'Messages that had left the topic before they could be read';
