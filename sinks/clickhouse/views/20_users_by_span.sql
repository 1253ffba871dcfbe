-- Internal. As ping_span, of the pings with users_by alone: each speaks until the next of them.
CREATE OR REPLACE VIEW {database}.users_by_span AS
SELECT
    told.population AS population,
    told.scope_id AS scope_id,
    told.day AS first_day,
    least(told.day + 27, told.next_day - 1, clock.clock_day) AS last_day,
    told.uuid AS uuid,
    told.hostname AS hostname,
    told.namespace_id AS namespace_id,
    told.recorded_at AS recorded_at,
    told.row_version AS row_version
FROM
(
    SELECT
        population, scope_id, home, uuid, hostname, namespace_id, recorded_at, row_version,
        toDate32(recorded_at) AS day,
        -- a ping that is followed on the same day gets no day at all
        leadInFrame(toDate32(recorded_at), 1, toDate32(recorded_at) + 28) OVER
        (
            PARTITION BY population, scope_id ORDER BY recorded_at, uuid, hostname, namespace_id
            ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING
        ) AS next_day
    FROM {database}.ping FINAL
    WHERE has_users_by AND (SELECT max(has_users_by) FROM {database}.ping)
) AS told
INNER JOIN {database}.clock AS clock ON clock.home = told.home
WHERE first_day <= last_day
