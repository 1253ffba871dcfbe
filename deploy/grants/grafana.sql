-- Grafana's data source: the same facts and KPIs, and the list of gaps, by many small questions at once, none of which may hold the server up.
-- Give it to a user:  CREATE USER grafana IDENTIFIED WITH sha256_password BY '…'; GRANT pingstream_grafana TO grafana;
-- Where DATABASE is another than pingstream, put its name in. To be run by an administrator; again does no harm.

CREATE ROLE IF NOT EXISTS pingstream_grafana;
ALTER ROLE pingstream_grafana SETTINGS
    readonly = 2,
    max_execution_time = 30 MAX 60,
    max_memory_usage = 4000000000 MAX 4000000000,
    max_result_rows = 1000000 MAX 1000000,
    max_concurrent_queries_for_user = 32 MAX 32;

GRANT SELECT ON pingstream.kpi_* TO pingstream_grafana;
GRANT SELECT ON pingstream.account_kpi TO pingstream_grafana;
GRANT SELECT ON pingstream.addon_purchase TO pingstream_grafana;
GRANT SELECT ON pingstream.dead_letter TO pingstream_grafana;
GRANT SELECT ON pingstream.gap TO pingstream_grafana;
GRANT SELECT ON pingstream.seat_movement TO pingstream_grafana;
GRANT SELECT ON pingstream.self_service_action TO pingstream_grafana;
GRANT SELECT ON pingstream.usage_kpi TO pingstream_grafana;
GRANT SELECT ON pingstream.usage_ping TO pingstream_grafana;
GRANT SELECT ON pingstream.users_by TO pingstream_grafana;
