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
        scope_id, license_subscription_id AS subscription_id, license_sha256 AS license, day AS first_day,
        lagInFrame((true, license_subscription_id, license_sha256), 1, (false, '', '')) OVER
        (
            PARTITION BY scope_id ORDER BY day ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
        ) AS before
    FROM {database}.scope_ping
    WHERE population = 'self_managed' AND day < next_day
)
WHERE before != (true, subscription_id, license)
