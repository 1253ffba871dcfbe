-- Internal. Which subscription an id that a scope names belongs to, from first_day to the day before until: the one whose
-- newest event by the end of the day carries it, cancellations apart; of events at the same time that of the greatest account_id and
-- subscription_id. Kinds: subscription (subscription_id), license (license_sha256), namespace (namespace_id).
CREATE OR REPLACE VIEW {database}.link AS
SELECT kind, id, account_id, subscription_id, first_day, until
FROM
(
    SELECT
        kind, id, account_id, subscription_id, toDate32(at) AS first_day,
        -- an event that is followed by another's on the same day has no day at all
        leadInFrame(toDate32(at), 1, toDate32('2299-12-31')) OVER
        (
            PARTITION BY kind, id ORDER BY at, account_id, subscription_id
            ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING
        ) AS until
    FROM
    (
        SELECT
            kind_ AS kind, id_ AS id, account_id, subscription_id_ AS subscription_id, at,
            lagInFrame((true, account_id, subscription_id_), 1, (false, '', '')) OVER
            (
                PARTITION BY kind_, id_ ORDER BY at, account_id, subscription_id_
                ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
            ) AS before
        FROM
        (
            SELECT account_id, kind_, id_, subscription_id_, claimed_
            FROM {database}.billing_account FINAL
            ARRAY JOIN
                link_kind AS kind_, link_id AS id_, link_subscription AS subscription_id_, link_claimed AS claimed_
            WHERE cityHash64(kind_, id_) IN (SELECT key FROM {database}.named_id)
        )
        ARRAY JOIN claimed_ AS at
    )
    -- what carries it again changes nothing
    WHERE before != (true, account_id, subscription_id)
)
WHERE first_day < until
