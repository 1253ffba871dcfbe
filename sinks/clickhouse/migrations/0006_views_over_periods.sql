-- Views that no other reads any more: views over pings look at them by periods now.

DROP VIEW IF EXISTS {database}.ping_span;
DROP VIEW IF EXISTS {database}.users_by_span;
DROP VIEW IF EXISTS {database}.reported_span;
DROP VIEW IF EXISTS {database}.scope_ping;
DROP VIEW IF EXISTS {database}.scope_users;
