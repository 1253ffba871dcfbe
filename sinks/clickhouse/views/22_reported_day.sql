-- Internal. What a scope reports itself on a day, as arrays of the names' ids and the figures: on each day of a ping's
-- validity what it knows to be above 0 (falls is false), and on the first of them a 0 for what was above 0 on the day
-- before (falls is true). What is unknown or has expired is not in them. Pings that report speak as in ping_day, each until
-- the next of them.
CREATE OR REPLACE VIEW {database}.reported_day
(
    as_of Date32, population LowCardinality(String), scope_id String, basis LowCardinality(String), falls UInt8,
    names Array(UInt64), mau Array(UInt64)
)
AS
SELECT
    calendar.as_of AS as_of,
    told.population AS population,
    told.scope_id AS scope_id,
    calendar.basis AS basis,
    told.falls AS falls,
    if(told.falls, told.fallen, told.above_0) AS names,
    if(told.falls, arrayResize(CAST([] AS Array(UInt64)), length(told.fallen)), told.mau) AS mau
FROM
(
    SELECT
        period, population, scope_id, home, above_0, mau, fallen,
        place_ = days AS falls,
        if(falls, day, day + place_) AS day_
    FROM
    (
        SELECT
            period, population, scope_id, home, above_0, mau, day,
            toUInt32(least(28, next_day::Int32 - day::Int32)) AS days,
            if(
                -- what had expired by then does not fall
                lagInFrame(day + 28, 1, toDate32('1900-01-01')) OVER of_scope >= day,
                arrayIntersect(lagInFrame(above_0) OVER of_scope, at_0), []
            ) AS fallen
        FROM
        (
            SELECT
                period, population, scope_id, home,
                arrayFilter((name, users) -> users > 0, reported_names, reported_mau) AS above_0,
                arrayFilter((name, users) -> users = 0, reported_names, reported_mau) AS at_0,
                arrayFilter(users -> users > 0, reported_mau) AS mau,
                toDate32(recorded_at) AS day,
                leadInFrame(toDate32(recorded_at), 1, toDate32(recorded_at) + 28) OVER
                (
                    PARTITION BY period, population, scope_id ORDER BY recorded_at, uuid, hostname, namespace_id, row_version
                    ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING
                ) AS next_day
            FROM {database}.ping_in_period
            -- where none does, none is read
            WHERE reports AND (SELECT max(reports) FROM {database}.ping)
        )
        WHERE day < next_day
        WINDOW of_scope AS
        (
            PARTITION BY period, population, scope_id ORDER BY day ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
        )
    )
    ARRAY JOIN range(days + notEmpty(fallen)) AS place_
) AS told
INNER JOIN
(
    -- where exact figures alone are asked for there is no day, and no ping is read
    SELECT as_of, period, toLowCardinality('reported') AS basis
    FROM {database}.calendar
) AS calendar
    ON calendar.period = told.period AND calendar.as_of = told.day_
INNER JOIN {database}.clock AS clock ON clock.home = told.home
WHERE calendar.as_of <= clock.clock_day
