-- Seats of the subscriptions a scope of which uses the stage, each subscription's once, and the users of the stage in
-- all of their scopes. basis says how these were counted: exact, reported, or mixed where scopes of both kinds add up.
CREATE OR REPLACE VIEW {database}.kpi_seats_by_stage
(
    as_of Date32, deployment String, stage String, basis String, seats Int64, active_users UInt64
)
AS
SELECT
    as_of,
    deployment,
    stage,
    multiIf(max(has_exact) AND max(has_reported), 'mixed', max(has_exact), 'exact', 'reported') AS basis,
    sum(seats_) AS seats,
    sum(users_) AS active_users
FROM
(
    SELECT
        used.as_of AS as_of,
        bought.deployment AS deployment,
        naming.stage AS stage,
        any(bought.seats) AS seats_,
        sum(used.users_) AS users_,
        max(used.is_exact) AS has_exact,
        max(NOT used.is_exact) AS has_reported
    FROM
    (
        SELECT
            scope.as_of AS as_of, link.account_id AS account_id, link.subscription_id AS subscription_id,
            scope.is_exact AS is_exact, used_, users_
        FROM
        (
            -- stages alone, before anything is joined
            SELECT
                as_of, population, scope_id, is_exact,
                arrayMap(
                    name -> name IN (SELECT id FROM {database}.figure_name WHERE stage != '' AND feature = ''), used
                ) AS chosen,
                arrayFilter((name, choose) -> choose, used, chosen) AS stages,
                arrayFilter((number, choose) -> choose, users, chosen) AS numbers
            FROM {database}.scope_usage
        ) AS scope
        INNER JOIN {database}.scope_link AS link
            ON link.population = scope.population AND link.scope_id = scope.scope_id
            AND link.first_day <= scope.as_of AND scope.as_of < link.until
        ARRAY JOIN scope.stages AS used_, scope.numbers AS users_
    ) AS used
    INNER JOIN (SELECT id, stage FROM {database}.figure_name FINAL WHERE stage != '' AND feature = '') AS naming
        ON naming.id = used.used_
    INNER JOIN
    (
        SELECT as_of, account_id, subscription_id, deployment, seats
        FROM {database}.subscription_day
        -- fewer accounts for a year of days; that they have a scope too is left to the join
        WHERE account_id IN (SELECT account_id FROM {database}.link)
    ) AS bought
        ON bought.as_of = used.as_of AND bought.account_id = used.account_id
        AND bought.subscription_id = used.subscription_id
    GROUP BY as_of, deployment, stage, used.account_id, used.subscription_id
)
GROUP BY as_of, deployment, stage
