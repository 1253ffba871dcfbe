-- People who ask questions: every fact and KPI of the database, nothing beneath them, and no more of the server than a question needs.
-- Give it to a user:  CREATE USER analyst IDENTIFIED WITH sha256_password BY '…'; GRANT pingstream_analyst TO analyst;
-- Where DATABASE is another than pingstream, put its name in. To be run by an administrator; again does no harm.

CREATE ROLE IF NOT EXISTS pingstream_analyst;
ALTER ROLE pingstream_analyst SETTINGS
    readonly = 2,
    max_execution_time = 120 MAX 600,
    max_memory_usage = 8000000000 MAX 16000000000,
    max_result_rows = 10000000 MAX 100000000,
    max_concurrent_queries_for_user = 8 MAX 8;

GRANT SELECT ON pingstream.kpi_* TO pingstream_analyst;
GRANT SELECT ON pingstream.account_kpi TO pingstream_analyst;
GRANT SELECT ON pingstream.addon_purchase TO pingstream_analyst;
GRANT SELECT ON pingstream.dead_letter TO pingstream_analyst;
GRANT SELECT ON pingstream.seat_movement TO pingstream_analyst;
GRANT SELECT ON pingstream.self_service_action TO pingstream_analyst;
GRANT SELECT ON pingstream.usage_kpi TO pingstream_analyst;
GRANT SELECT ON pingstream.usage_ping TO pingstream_analyst;
GRANT SELECT ON pingstream.users_by TO pingstream_analyst;
