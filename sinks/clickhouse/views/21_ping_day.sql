-- Internal. The ping that speaks for a scope on a day: from the UTC day of recorded_at for 28 days, or until the day
-- before the scope's next ping, and up to the as-of clock. Of the pings of a day the one with the greatest (recorded_at,
-- uuid, hostname, namespace_id) stands.
CREATE OR REPLACE VIEW {database}.ping_day
(
    as_of Date32, population LowCardinality(String), scope_id String, version String, edition LowCardinality(String),
    plan LowCardinality(String), registered_users Nullable(Int64), billable_users Nullable(Int64),
    historical_max_users Nullable(Int64)
)
AS
SELECT
    calendar.as_of AS as_of, population, scope_id, version, edition, plan, registered_users, billable_users, historical_max_users
FROM
(
    SELECT
        period, day_, population, scope_id, home, version, edition, plan,
        registered_users, billable_users, historical_max_users
    FROM
    (
        SELECT
            period, population, scope_id, home, version, edition, plan,
            registered_users, billable_users, historical_max_users,
            toDate32(recorded_at) AS day,
            -- a ping that is followed on the same day gets no day at all
            leadInFrame(toDate32(recorded_at), 1, toDate32(recorded_at) + 28) OVER
            (
                PARTITION BY period, population, scope_id ORDER BY recorded_at, uuid, hostname, namespace_id, row_version
                ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING
            ) AS next_day
        FROM {database}.ping_in_period
    )
    ARRAY JOIN arrayMap(i -> day + i, range(toUInt32(least(28, next_day::Int32 - day::Int32)))) AS day_
) AS told
INNER JOIN {database}.calendar AS calendar ON calendar.period = told.period AND calendar.as_of = told.day_
INNER JOIN {database}.clock AS clock ON clock.home = told.home
WHERE calendar.as_of <= clock.clock_day
