-- Beside the owner's role, for who makes the database on all servers of a cluster (PINGSTREAM_CLICKHOUSE_CLUSTER): once, at the first
-- `pingstream migrate`. Roles and users must be there on each server, as with a user directory that ClickHouse replicates.
-- Give it to a user:  GRANT pingstream_cluster TO pingstream_owner;
-- To be run by an administrator; again does no harm.

CREATE ROLE IF NOT EXISTS pingstream_cluster;

GRANT CLUSTER ON *.* TO pingstream_cluster;
GRANT SELECT ON system.clusters TO pingstream_cluster;
