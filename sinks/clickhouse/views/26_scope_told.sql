-- Internal. What is known of a scope's pings on a day, from its first one to the as-of clock: how many were recorded in
-- the 28 days up to and with it, when the newest of all was, and what that one says of billable users.
CREATE OR REPLACE VIEW {database}.scope_told AS
SELECT
    first_day + i AS as_of, population, scope_id, pings, newest_at,
    tupleElement(told, 1) AS billable_users, tupleElement(told, 2) AS historical_max_users
FROM
(
    SELECT
        population,
        scope_id,
        day AS first_day,
        clock_day,
        sum(more) OVER so_far AS pings,
        max(at) OVER so_far AS newest_at,
        argMax(said, said_at) OVER so_far AS told,
        leadInFrame(day, 1, clock_day + 1) OVER
        (
            PARTITION BY population, scope_id ORDER BY day ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING
        ) AS next_day
    FROM
    (
        SELECT
            population,
            scope_id,
            day_ AS day,
            any(clock.clock_day) AS clock_day,
            sum(if(goes_, -1, 1)) AS more,
            maxIf(recorded_at, NOT goes_) AS at,
            argMax((ping.billable_users, ping.historical_max_users), (NOT goes_, ping.recorded_at, ping.uuid, ping.hostname, ping.namespace_id)) AS said,
            max((NOT goes_, ping.recorded_at, ping.uuid, ping.hostname, ping.namespace_id)) AS said_at
        FROM
        (
            SELECT
                home, population, scope_id, uuid, hostname, namespace_id, recorded_at, billable_users, historical_max_users,
                day_, goes_
            FROM {database}.ping FINAL
            -- a ping comes into the window on its day and leaves it 28 days later
            ARRAY JOIN [toDate32(recorded_at), toDate32(recorded_at) + 28] AS day_, [false, true] AS goes_
            WHERE population IN ('self_managed', 'group')
        ) AS ping
        INNER JOIN {database}.clock AS clock ON clock.home = ping.home AND clock.kind = 'any'
        WHERE day_ <= clock.clock_day
        GROUP BY population, scope_id, day
    )
    WINDOW so_far AS
    (
        PARTITION BY population, scope_id ORDER BY day ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
    )
)
ARRAY JOIN range(toUInt32(dateDiff('day', first_day, next_day))) AS i
