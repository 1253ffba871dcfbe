-- Messages that could not be taken, or not wholly, by their place in the source topic. The bytes are in the topic
-- <topic>.dlq.
CREATE OR REPLACE VIEW {database}.dead_letter
(
    topic LowCardinality(String), partition UInt32, offset UInt64, reason LowCardinality(String), error String,
    received_at DateTime64(3, 'UTC')
)
AS
SELECT topic, partition, offset, reason, error, received_at
FROM {database}.letter FINAL
