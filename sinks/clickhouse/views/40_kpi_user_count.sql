-- Registered users by the newest ping of each scope in the 28 days up to and with as_of, where it knows them, and how
-- many scopes that are: by the plan of that ping, and in total (plan ''). A group's ping counts in `group` alone.
CREATE OR REPLACE VIEW {database}.kpi_user_count
(
    as_of Date32, population LowCardinality(String), plan String, users UInt64, reporting_scopes UInt64
)
AS
SELECT as_of, population, plan, toUInt64(sum(registered)) AS users, count() AS reporting_scopes
FROM
(
    SELECT as_of, population, assumeNotNull(registered_users) AS registered, arrayJoin([plan_, '']) AS plan
    FROM
    (
        SELECT as_of, population, registered_users, toString(plan) AS plan_
        FROM {database}.ping_day
        WHERE registered_users IS NOT NULL
    )
)
GROUP BY as_of, population, plan
