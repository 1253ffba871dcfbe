-- Pings by the UTC day they were recorded on, the counters in them (numeric leaves under `counts` of 0 or more, and
-- negative ones: failed), and the pings of the 28 days up to it. A group's ping counts in `group` and in `gitlab_com`.
-- Up to the as-of clock.
CREATE OR REPLACE VIEW {database}.kpi_usage_pings
(
    as_of Date32, population String, pings UInt64, counters UInt64, failed_counters UInt64, pings_28d UInt64
)
AS
SELECT
    calendar.as_of AS as_of,
    told.population AS population,
    told.pings AS pings,
    told.counters AS counters,
    told.failed_counters AS failed_counters,
    told.pings_28d AS pings_28d
FROM
(
    SELECT
        period, day, population, pings, counters, failed_counters,
        sum(pings) OVER
        (
            PARTITION BY period, population ORDER BY day ASC RANGE BETWEEN 27 PRECEDING AND CURRENT ROW
        ) AS pings_28d
    FROM
    (
        SELECT
            period, day, counted_in AS population,
            count() AS pings, sum(read) AS counters, sum(failed) AS failed_counters
        FROM
        (
            SELECT
                period, toDate32(recorded_at) AS day,
                argMax(population, row_version) AS in_, argMax(home, row_version) AS home,
                argMax(counters, row_version) AS read, argMax(failed_counters, row_version) AS failed
            FROM {database}.ping_in_period
            GROUP BY period, uuid, hostname, namespace_id, recorded_at
        ) AS told
        INNER JOIN {database}.clock AS clock ON clock.home = told.home
        ARRAY JOIN if(told.in_ = 'group', ['group', 'gitlab_com'], [toString(told.in_)]) AS counted_in
        WHERE told.day <= clock.clock_day
        GROUP BY period, day, counted_in
    )
) AS told
INNER JOIN {database}.calendar AS calendar ON calendar.period = told.period AND calendar.as_of = told.day
