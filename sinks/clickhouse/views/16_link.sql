-- Internal. Which subscription an id that a scope names belongs to, from first_day to the day before until: the one whose
-- newest event by the end of the day carries it, cancellations apart; of events at the same time that of the greatest account_id and
-- subscription_id. Kinds: subscription (subscription_id), license (license_sha256), namespace (namespace_id). A namespace that
-- its subscription has left is nobody's.
CREATE OR REPLACE VIEW {database}.link
(
    kind String, id String, account_id String, subscription_id String, first_day Date32, until Date32
)
AS
SELECT kind, id, owner.1 AS account_id, owner.2 AS subscription_id, first_day, until
FROM
(
    SELECT
        kind, id, owner, toDate32(at) AS first_day,
        -- an event that is followed by another's on the same day has no day at all
        leadInFrame(toDate32(at), 1, toDate32('2299-12-31')) OVER
        (
            PARTITION BY kind, id ORDER BY at, left, account_id, subscription_id
            ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING
        ) AS until
    FROM
    (
        SELECT
            kind, id, account_id, subscription_id, at, left, if(left, ('', ''), (account_id, subscription_id)) AS owner,
            lagInFrame((true, owner), 1, (false, ('', ''))) OVER
            (
                PARTITION BY kind, id ORDER BY at, left, account_id, subscription_id
                ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
            ) AS before
        FROM
        (
            SELECT
                if(left, 'namespace', kind_) AS kind, id_ AS id, account_id, subscription_id_ AS subscription_id, at,
                kind_ = 'namespace_left' AS left,
                last_value(if(left, NULL, cityHash64(account_id, subscription_id_))) IGNORE NULLS OVER
                (
                    PARTITION BY kind, id_ ORDER BY at, left, account_id, subscription_id_
                    ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
                ) AS holder
            FROM
            (
                SELECT account_id, kind_, id_, subscription_id_, claimed_
                FROM {database}.billing_account FINAL
                ARRAY JOIN
                    link_kind AS kind_, link_id AS id_, link_subscription AS subscription_id_, link_claimed AS claimed_
                -- where nobody has named any, no account is read
                WHERE (SELECT count() FROM (SELECT 1 FROM {database}.named_id LIMIT 1)) > 0
                    AND cityHash64(if(kind_ = 'namespace_left', 'namespace', kind_), id_) IN (SELECT key FROM {database}.named_id)
            )
            ARRAY JOIN claimed_ AS at
        )
        -- only whoever claimed it last can leave it
        WHERE NOT left OR holder = cityHash64(account_id, subscription_id)
    )
    -- what carries it again changes nothing
    WHERE before != (true, owner)
)
WHERE first_day < until AND owner.1 != ''
