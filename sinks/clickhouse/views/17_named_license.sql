-- Internal. The licence that an installation names in its newest ping, from first_day to the day before until, of any age.
CREATE OR REPLACE VIEW {database}.named_license
(
    scope_id String, subscription_id String, license String, first_day Date32, until Date32
)
AS
SELECT scope_id, subscription_id, license, first_day, until
FROM
(
    SELECT
        scope_id, subscription_id, license, toDate32(recorded_at) AS first_day,
        -- one that gives way to another on the same day has no day at all
        leadInFrame(toDate32(recorded_at), 1, toDate32('2299-12-31')) OVER
        (
            PARTITION BY scope_id ORDER BY recorded_at, uuid, hostname, namespace_id, row_version
            ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING
        ) AS until
    FROM
    (
        SELECT
            scope_id, license_subscription_id AS subscription_id, license_sha256 AS license,
            recorded_at, uuid, hostname, namespace_id, row_version,
            lagInFrame((true, license_subscription_id, license_sha256), 1, (false, '', '')) OVER
            (
                PARTITION BY scope_id ORDER BY recorded_at, uuid, hostname, namespace_id, row_version
                ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
            ) AS before
        FROM {database}.ping
        -- where none names any, none is read
        WHERE population = 'self_managed'
            AND (SELECT max(license_subscription_id != '' OR license_sha256 != '') FROM {database}.ping)
    )
    WHERE before != (true, subscription_id, license)
)
WHERE first_day < until
