-- Pings by the UTC day they were recorded on, the counters in them (numeric leaves under `counts` of 0 or more, and negative
-- ones: failed), and the pings of the 28 days up to it. A group's ping counts in `group` and in `gitlab_com`.
CREATE OR REPLACE VIEW {database}.kpi_usage_pings AS
SELECT
    as_of,
    population,
    pings,
    counters,
    failed_counters,
    sum(pings) OVER (PARTITION BY population ORDER BY as_of RANGE BETWEEN 27 PRECEDING AND CURRENT ROW) AS pings_28d
FROM
(
    SELECT
        toDate32(recorded_at) AS as_of,
        arrayJoin(if(ping.population = 'group', ['group', 'gitlab_com'], [toString(ping.population)])) AS population,
        count() AS pings,
        sum(ping.counters) AS counters,
        sum(ping.failed_counters) AS failed_counters
    FROM {database}.ping FINAL
    GROUP BY as_of, population
)
