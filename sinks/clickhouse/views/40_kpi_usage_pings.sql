-- Pings by the UTC day they were recorded on, the counters in them (numeric leaves under `counts` of 0 or more, and
-- negative ones: failed), and the pings of the 28 days up to it. A group's ping counts in `group` and in `gitlab_com`.
-- Up to the as-of clock.
CREATE OR REPLACE VIEW {database}.kpi_usage_pings AS
SELECT
    as_of,
    population,
    pings,
    counters,
    failed_counters,
    sum(pings) OVER (PARTITION BY population ORDER BY as_of ASC RANGE BETWEEN 27 PRECEDING AND CURRENT ROW) AS pings_28d
FROM
(
    SELECT
        day AS as_of,
        counted_in AS population,
        count() AS pings,
        sum(read) AS counters,
        sum(failed) AS failed_counters
    FROM
    (
        SELECT toDate32(recorded_at) AS day, counted_in, counters AS read, failed_counters AS failed
        FROM
        (
            SELECT population, recorded_at, counters, failed_counters, home
            FROM {database}.ping FINAL
        ) AS told
        INNER JOIN {database}.clock AS clock ON clock.home = told.home
        ARRAY JOIN if(told.population = 'group', ['group', 'gitlab_com'], [toString(told.population)]) AS counted_in
        WHERE toDate32(told.recorded_at) <= clock.clock_day
    )
    GROUP BY day, counted_in
)
