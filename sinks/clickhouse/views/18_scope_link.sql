-- Internal. The subscription that a scope is linked to from first_day to the day before until: an installation by the
-- subscription that its newest ping names, if that is known by then, else by its licence; a group by its namespace.
CREATE OR REPLACE VIEW {database}.scope_link
(
    population String, scope_id String, account_id String, subscription_id String, first_day Date32, until Date32
)
AS
SELECT population, scope_id, account_id, subscription_id, first_day, until
FROM
(
    SELECT
        if(link.kind = 'namespace', 'group', 'self_managed') AS population,
        if(link.kind = 'namespace', link.id, named.scope_id) AS scope_id,
        link.account_id AS account_id,
        link.subscription_id AS subscription_id,
        if(link.kind = 'namespace', link.first_day, greatest(named.since, link.first_day)) AS first_day,
        multiIf(
            link.kind = 'namespace', link.until,
            -- the licence speaks until the subscription that is named beside it is known
            link.kind = 'license',
            least(named.until, link.until, ifNull(minOrNullIf(link.first_day, link.kind = 'subscription') OVER of_naming, named.until)),
            least(named.until, link.until)
        ) AS until
    FROM {database}.link AS link
    LEFT JOIN
    (
        SELECT scope_id, kind_ AS kind, id_ AS id, first_day AS since, until
        FROM {database}.named_license
        ARRAY JOIN ['subscription', 'license'] AS kind_, [subscription_id, license] AS id_
        WHERE id_ != ''
    ) AS named
        ON named.kind = link.kind AND named.id = link.id
    WINDOW of_naming AS (PARTITION BY named.scope_id, named.since)
)
-- what only others' pings name has no day
WHERE first_day < until
