-- A view that no other reads any more.

DROP VIEW IF EXISTS {database}.subscription_usage;
