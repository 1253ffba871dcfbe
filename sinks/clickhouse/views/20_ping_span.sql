-- Internal. The days for which a ping speaks for its scope: from the UTC day of recorded_at for 28 days, or until the
-- day before the scope's next ping of the kind, and up to the as-of clock. Of the pings of a day the one with the
-- greatest (recorded_at, uuid, hostname, namespace_id) stands. Kinds: any ping; those that report (reported); those
-- with users_by. next_day is the day of the next ping of the kind; without one, the day on which this one expires.
CREATE OR REPLACE VIEW {database}.ping_span AS
SELECT
    told.of_kind AS kind,
    told.population AS population,
    told.scope_id AS scope_id,
    told.day AS first_day,
    least(told.day + 27, told.next_day - 1, clock.clock_day) AS last_day,
    told.next_day AS next_day,
    told.uuid AS uuid,
    told.hostname AS hostname,
    told.namespace_id AS namespace_id,
    told.recorded_at AS recorded_at,
    told.version AS version,
    told.edition AS edition,
    told.plan AS plan,
    told.registered_users AS registered_users
FROM
(
    -- a kind at a time: who asks for one sorts no pings of another. A ping that is followed on the same day gets no day
    SELECT
        'any' AS of_kind, population, scope_id, home, uuid, hostname, namespace_id, recorded_at,
        version, edition, plan, registered_users,
        toDate32(recorded_at) AS day,
        leadInFrame(toDate32(recorded_at), 1, toDate32(recorded_at) + 28) OVER by_scope AS next_day
    FROM {database}.ping FINAL
    WINDOW by_scope AS
    (
        PARTITION BY population, scope_id ORDER BY recorded_at, uuid, hostname, namespace_id
        ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING
    )
    UNION ALL
    SELECT
        'reported' AS of_kind, population, scope_id, home, uuid, hostname, namespace_id, recorded_at,
        version, edition, plan, registered_users,
        toDate32(recorded_at) AS day,
        leadInFrame(toDate32(recorded_at), 1, toDate32(recorded_at) + 28) OVER by_scope AS next_day
    FROM {database}.ping FINAL
    WHERE reports
    WINDOW by_scope AS
    (
        PARTITION BY population, scope_id ORDER BY recorded_at, uuid, hostname, namespace_id
        ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING
    )
    UNION ALL
    SELECT
        'users_by' AS of_kind, population, scope_id, home, uuid, hostname, namespace_id, recorded_at,
        version, edition, plan, registered_users,
        toDate32(recorded_at) AS day,
        leadInFrame(toDate32(recorded_at), 1, toDate32(recorded_at) + 28) OVER by_scope AS next_day
    FROM {database}.ping FINAL
    WHERE has_users_by
    WINDOW by_scope AS
    (
        PARTITION BY population, scope_id ORDER BY recorded_at, uuid, hostname, namespace_id
        ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING
    )
) AS told
INNER JOIN {database}.clock AS clock ON clock.home = told.home AND clock.kind = told.of_kind
WHERE first_day <= last_day
