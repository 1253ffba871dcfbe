-- Internal. The days for which a ping speaks for its scope: from the UTC day of recorded_at for 28 days, or until the
-- day before the scope's next ping, and up to the as-of clock. Of the pings of a day the one with the greatest
-- (recorded_at, uuid, hostname, namespace_id) stands.
CREATE OR REPLACE VIEW {database}.ping_span AS
SELECT
    told.population AS population,
    told.scope_id AS scope_id,
    told.day AS first_day,
    least(told.day + 27, told.next_day - 1, clock.clock_day) AS last_day,
    told.version AS version,
    told.edition AS edition,
    told.plan AS plan,
    told.registered_users AS registered_users
FROM
(
    SELECT
        population, scope_id, home, uuid, hostname, namespace_id, recorded_at, version, edition, plan, registered_users,
        toDate32(recorded_at) AS day,
        -- a ping that is followed on the same day gets no day at all
        leadInFrame(toDate32(recorded_at), 1, toDate32(recorded_at) + 28) OVER
        (
            PARTITION BY population, scope_id ORDER BY recorded_at, uuid, hostname, namespace_id
            ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING
        ) AS next_day
    FROM {database}.ping FINAL
) AS told
INNER JOIN {database}.clock AS clock ON clock.home = told.home
WHERE first_day <= last_day
