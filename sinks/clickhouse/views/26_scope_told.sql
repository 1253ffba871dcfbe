-- Internal. What pings of installations and groups say of a day, up to the as-of clock: how many there are of the 28 days
-- up to and with it (pings), and the newest of the scope by then. A scope that has been silent for longer has a row as well.
CREATE OR REPLACE VIEW {database}.scope_told
(
    as_of Date32, population LowCardinality(String), scope_id String, pings UInt64, recorded_at DateTime64(6, 'UTC')
)
AS
SELECT
    calendar.as_of AS as_of, told.population AS population, told.scope_id AS scope_id,
    toUInt64(pings_) AS pings, newest_ AS recorded_at
FROM
(
    SELECT
        period, toDate32('1900-01-01') + (period * 28 + place_) AS day_, population, scope_id, home,
        so_far_ - up_to[place_ + 1] AS pings_, times[so_far_] AS newest_
    FROM
    (
        SELECT
            period, population, scope_id, max(ping_in_period.home) AS home,
            -- a ping may have several rows
            arrayDistinct(groupArray((recorded_at, sipHash128(uuid, hostname, namespace_id)))) AS pings,
            arraySort(arrayMap(ping -> ping.1, pings)) AS times,
            -- places in the period before and in this one
            arrayMap(time -> toUInt8(toInt32(toDate32(time)) + 25567 + 28 - period * 28), times) AS places,
            arrayCumSum(arrayMap(place -> countEqual(places, place), range(56))) AS up_to
        FROM {database}.ping_in_period
        WHERE population IN ('self_managed', 'group')
        GROUP BY period, population, scope_id
    )
    ARRAY JOIN
        range(28) AS place_,
        arraySlice(up_to, 29) AS so_far_
    WHERE so_far_ > 0
) AS told
INNER JOIN {database}.calendar AS calendar ON calendar.period = told.period AND calendar.as_of = told.day_
INNER JOIN {database}.clock AS clock ON clock.home = told.home
WHERE calendar.as_of <= clock.clock_day
UNION ALL
SELECT day_ AS as_of, silent.population, silent.scope_id, toUInt64(0) AS pings, silent.newest AS recorded_at
FROM
(
    SELECT
        population, scope_id, home, newest, toDate32(newest) AS day,
        leadInFrame(first_day, 1, toDate32('2299-12-31')) OVER
        (
            PARTITION BY population, scope_id ORDER BY period ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING
        ) AS next_day
    FROM
    (
        -- only the last of a period can be followed by so long a silence
        SELECT
            population, scope_id, intDiv(toInt32(toDate32(recorded_at)) + 25567, 28) AS period,
            max(recorded_at) AS newest, min(toDate32(recorded_at)) AS first_day, max(home) AS home
        FROM {database}.ping
        WHERE population IN ('self_managed', 'group')
        GROUP BY population, scope_id, period
    )
) AS silent
INNER JOIN {database}.clock AS clock ON clock.home = silent.home
ARRAY JOIN arrayMap(
    i -> silent.day + i,
    range(28, toUInt32(greatest(28, dateDiff('day', silent.day, least(silent.next_day, clock.clock_day + 1)))))
) AS day_
WHERE silent.next_day > silent.day + 28
