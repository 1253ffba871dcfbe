-- Internal. The subscription that a scope is linked to from first_day to the day before until: an installation by the
-- subscription that its newest ping names, if that is known by then, else by its licence; a group by its namespace.
CREATE OR REPLACE VIEW {database}.scope_link AS
SELECT population, scope_id, account_id, subscription_id, first_day, until
FROM
(
    SELECT
        named.population AS population,
        named.scope_id AS scope_id,
        link.account_id AS account_id,
        link.subscription_id AS subscription_id,
        greatest(named.since, link.first_day) AS first_day,
        -- the licence speaks until the subscription that is named beside it is known
        if(
            named.kind = 'license',
            least(named.until, link.until, ifNull(minOrNullIf(link.first_day, named.kind = 'subscription') OVER of_naming, named.until)),
            least(named.until, link.until)
        ) AS until
    FROM
    (
        SELECT 'self_managed' AS population, scope_id, kind_ AS kind, id_ AS id, named.first_day AS since, named.until AS until
        FROM {database}.named_license AS named
        ARRAY JOIN ['subscription', 'license'] AS kind_, [named.subscription_id, named.license] AS id_
        WHERE id_ != ''
        UNION ALL
        SELECT DISTINCT 'group', scope_id, 'namespace', scope_id, toDate32('1970-01-01'), toDate32('2299-12-31')
        FROM {database}.ping
        WHERE population = 'group'
    ) AS named
    INNER JOIN {database}.link AS link ON link.kind = named.kind AND link.id = named.id
    WINDOW of_naming AS (PARTITION BY named.population, named.scope_id, named.since)
)
WHERE first_day < until
