-- Internal. The subscription that a scope is linked to from first_day to the day before until: an installation by the
-- subscription that its newest ping names, if that is known by then, else by its licence; a group by its namespace.
CREATE OR REPLACE VIEW {database}.scope_link AS
SELECT
    'self_managed' AS population,
    named.scope_id AS scope_id,
    link.account_id AS account_id,
    link.subscription_id AS subscription_id,
    greatest(named.first_day, link.first_day) AS first_day,
    least(named.until, link.until) AS until
FROM
(
    SELECT scope_id, tupleElement(name_, 1) AS kind, tupleElement(name_, 2) AS id, tupleElement(name_, 3) AS first_day, tupleElement(name_, 4) AS until
    FROM
    (
        SELECT
            named.scope_id AS scope_id,
            named.subscription_id AS subscription,
            named.license AS license,
            named.first_day AS named_from,
            named.until AS named_until,
            if(known.id = '', toDate32('2299-12-31'), known.since) AS known_since
        FROM {database}.named_license AS named
        LEFT JOIN
        (
            SELECT id, min(first_day) AS since FROM {database}.link WHERE kind = 'subscription' GROUP BY id
        ) AS known ON known.id = named.subscription_id
    )
    ARRAY JOIN
    [
        ('subscription', subscription, greatest(named_from, known_since), named_until),
        ('license', license, named_from, least(named_until, known_since))
    ] AS name_
    WHERE id != '' AND tupleElement(name_, 3) < tupleElement(name_, 4)
) AS named
INNER JOIN {database}.link AS link ON link.kind = named.kind AND link.id = named.id
WHERE greatest(named.first_day, link.first_day) < least(named.until, link.until)
UNION ALL
SELECT 'group', id, account_id, subscription_id, first_day, until
FROM {database}.link
WHERE kind = 'namespace'
