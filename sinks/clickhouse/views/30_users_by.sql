-- Registered users of a scope by user persona and by acquisition channel, as its valid ping with users_by tells them:
-- from the UTC day of recorded_at for 28 days or until the next such ping. What a ping does not tell has no row.
CREATE OR REPLACE VIEW {database}.users_by
(
    as_of Date32, population LowCardinality(String), scope_id String, dimension LowCardinality(String), value String,
    users UInt64
)
AS
SELECT
    calendar.as_of AS as_of,
    told.population AS population,
    told.scope_id AS scope_id,
    toString(dimension_) AS dimension,
    value_ AS value,
    users_ AS users
FROM
(
    SELECT period, day_, population, scope_id, home, users_by_dimension, users_by_value, users_by_users
    FROM
    (
        SELECT
            period, population, scope_id, home, users_by_dimension, users_by_value, users_by_users,
            toDate32(recorded_at) AS day,
            -- a ping that is followed on the same day gets no day at all
            leadInFrame(toDate32(recorded_at), 1, toDate32(recorded_at) + 28) OVER
            (
                PARTITION BY period, population, scope_id ORDER BY recorded_at, uuid, hostname, namespace_id, row_version
                ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING
            ) AS next_day
        FROM {database}.ping_in_period
        -- where none does, none is read
        WHERE has_users_by AND (SELECT max(has_users_by) FROM {database}.ping)
    )
    ARRAY JOIN arrayMap(i -> day + i, range(toUInt32(least(28, next_day::Int32 - day::Int32)))) AS day_
) AS told
INNER JOIN {database}.calendar AS calendar ON calendar.period = told.period AND calendar.as_of = told.day_
INNER JOIN {database}.clock AS clock ON clock.home = told.home
ARRAY JOIN told.users_by_dimension AS dimension_, told.users_by_value AS value_, told.users_by_users AS users_
WHERE calendar.as_of <= clock.clock_day
