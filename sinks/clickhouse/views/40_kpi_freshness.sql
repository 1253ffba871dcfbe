-- How fresh a population is: its newest day with exact users (without any, of recorded_at), the received time up to
-- which every partition is applied, scopes without a ping in the 28 days up to the as-of clock, and gaps: ranges of
-- messages that had left the topic before they could be read. A group's ping counts in `gitlab_com` too, which is one
-- scope. The newest exact day is asked of each population alone: its first row from the end of the table's order.
CREATE OR REPLACE VIEW {database}.kpi_freshness
(
    population String, newest_day Date32, watermark Nullable(DateTime64(3, 'UTC')), scopes_silent_28d UInt64,
    gaps UInt64
)
AS
WITH
    assumeNotNull((SELECT max(as_of) FROM {database}.progress FINAL WHERE topic = 'usage-pings')) AS clock_day,
    toDateTime64(clock_day - 27, 3, 'UTC') AS window_start, toDateTime64(clock_day + 1, 3, 'UTC') AS window_end
SELECT
    population,
    ifNull(exact_day, assumeNotNull(recorded_day)) AS newest_day,
    (
        SELECT min(received_at) FROM {database}.progress FINAL WHERE topic = 'usage-pings'
    ) AS watermark,
    silent AS scopes_silent_28d,
    assumeNotNull((SELECT count() FROM {database}.gap FINAL WHERE topic = 'usage-pings')) AS gaps
FROM
(
    SELECT population, max(recorded_) AS recorded_day, max(exact_) AS exact_day, sum(silent_) AS silent
    FROM
    (
        SELECT
            counted_in AS population,
            toNullable(max(newest)) AS recorded_,
            CAST(NULL AS Nullable(Date32)) AS exact_,
            sum(toUInt64(NOT spoke)) AS silent_
        FROM
        (
            SELECT
                counted_in, if(counted_in = 'gitlab_com', 'gitlab.com', scope_id) AS scope,
                max(newest_) AS newest, max(spoke_) AS spoke
            FROM
            (
                SELECT
                    population, scope_id, toDate32(max(recorded_at)) AS newest_,
                    max(recorded_at >= window_start AND recorded_at < window_end) AS spoke_
                FROM {database}.ping
                GROUP BY population, scope_id
            ) AS told
            ARRAY JOIN if(told.population = 'group', ['group', 'gitlab_com'], [toString(told.population)]) AS counted_in
            GROUP BY counted_in, scope
        )
        GROUP BY counted_in
        UNION ALL
        (
            SELECT 'self_managed', NULL, toNullable(as_of), 0
            FROM {database}.usage_day FINAL
            WHERE population = 'self_managed' AND basis = 'exact' AND usage_day.dau[1] > 0
            ORDER BY as_of DESC
            LIMIT 1
        )
        UNION ALL
        (
            SELECT 'group', NULL, toNullable(as_of), 0
            FROM {database}.usage_day FINAL
            WHERE population = 'group' AND basis = 'exact' AND usage_day.dau[1] > 0
            ORDER BY as_of DESC
            LIMIT 1
        )
        UNION ALL
        (
            SELECT 'gitlab_com', NULL, toNullable(as_of), 0
            FROM {database}.usage_day FINAL
            WHERE population = 'gitlab_com' AND basis = 'exact' AND usage_day.dau[1] > 0
            ORDER BY as_of DESC
            LIMIT 1
        )
    )
    GROUP BY population
)
WHERE recorded_day IS NOT NULL
