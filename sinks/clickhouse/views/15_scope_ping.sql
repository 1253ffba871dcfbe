-- Internal. The pings of installations and groups: each is the newest of its scope from day to the day before next_day.
-- Of the pings of a day the one with the greatest (recorded_at, uuid, hostname, namespace_id) stands.
CREATE OR REPLACE VIEW {database}.scope_ping AS
SELECT
    population, scope_id, home, recorded_at, toDate32(recorded_at) AS day,
    -- a ping that is followed on the same day gets no day at all
    leadInFrame(toDate32(recorded_at), 1, toDate32('2299-12-31')) OVER
    (
        PARTITION BY population, scope_id ORDER BY recorded_at, uuid, hostname, namespace_id
        ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING
    ) AS next_day,
    billable_users, historical_max_users, license_subscription_id, license_sha256
FROM {database}.ping FINAL
WHERE population IN ('self_managed', 'group')
