-- Internal. The licence that an installation names in its newest ping, from first_day to the day before until, of any age.
CREATE OR REPLACE VIEW {database}.named_license AS
SELECT
    scope_id, subscription_id, license, first_day,
    leadInFrame(first_day, 1, toDate32('2299-12-31')) OVER
    (
        PARTITION BY scope_id ORDER BY first_day ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING
    ) AS until
FROM
(
    SELECT
        scope_id, subscription_id, license, first_day,
        lagInFrame((true, subscription_id, license), 1, (false, '', '')) OVER
        (
            PARTITION BY scope_id ORDER BY first_day ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
        ) AS before
    FROM
    (
        SELECT
            scope_id,
            toDate32(recorded_at) AS first_day,
            argMax(license_subscription_id, (recorded_at, uuid, hostname, namespace_id)) AS subscription_id,
            argMax(license_sha256, (recorded_at, uuid, hostname, namespace_id)) AS license
        FROM {database}.ping FINAL
        WHERE population = 'self_managed'
        GROUP BY scope_id, first_day
    )
)
WHERE before != (true, subscription_id, license)
