-- Internal. A scope's figures beside the subscription that it is linked to on the day.
CREATE OR REPLACE VIEW {database}.subscription_usage AS
SELECT
    scope.as_of AS as_of,
    link.account_id AS account_id,
    link.subscription_id AS subscription_id,
    scope.is_exact AS is_exact,
    scope.used AS used,
    scope.users AS users,
    scope.total AS total,
    scope.has_total AS has_total
FROM {database}.scope_usage AS scope
INNER JOIN {database}.scope_link AS link
    ON link.population = scope.population AND link.scope_id = scope.scope_id
    AND link.first_day <= scope.as_of AND scope.as_of < link.until
