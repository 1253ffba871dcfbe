-- Usage of an account: the installations and groups that are linked to its subscriptions on as_of, with all they did in
-- the window, each by its exact figures where it has an exact mau above 0, else by its reported ones; basis says which
-- (`mixed`: both), '' when no scope has a figure. Stages and features used are different ones with a figure above 0.
-- Pings are those recorded in the 28 days up to and with as_of, last_ping_at is the newest by then. account_id is ''
-- where usage has none.
CREATE OR REPLACE VIEW {database}.kpi_account_usage
(
    as_of Date32, account_id String, mau Nullable(UInt64), basis String, stages_used UInt64, features_used UInt64,
    pings_28d UInt64, last_ping_at Nullable(DateTime64(6, 'UTC'))
)
AS
SELECT
    as_of,
    account_id,
    if(has_total, toNullable(mau_), NULL) AS mau,
    multiIf(has_exact AND has_reported, 'mixed', has_exact, 'exact', has_reported, 'reported', '') AS basis,
    toUInt64(arrayCount(
        name -> name IN (SELECT id FROM {database}.figure_name WHERE stage != '' AND feature = ''), used_
    )) AS stages_used,
    toUInt64(arrayCount(name -> name IN (SELECT id FROM {database}.figure_name WHERE feature != ''), used_))
        AS features_used,
    toUInt64(pings_) AS pings_28d,
    newest_ AS last_ping_at
FROM
(
    SELECT
        scope.as_of AS as_of,
        ifNull(link.account_id, '') AS account_id,
        sum(scope.total) AS mau_,
        max(scope.has_total) AS has_total,
        max(scope.has_figure AND scope.is_exact) AS has_exact,
        max(scope.has_figure AND NOT scope.is_exact) AS has_reported,
        groupUniqArrayArray(scope.used) AS used_,
        sum(scope.pings) AS pings_,
        max(scope.recorded_at) AS newest_
    FROM
    (
        SELECT
            as_of, population, scope_id, true AS has_figure, is_exact, used, total, has_total,
            toUInt64(0) AS pings, NULL AS recorded_at
        FROM {database}.scope_usage
        UNION ALL
        SELECT
            as_of, population, scope_id, false, false, CAST([] AS Array(UInt64)), 0, false, pings,
            toNullable(recorded_at)
        FROM {database}.scope_told
    ) AS scope
    LEFT JOIN {database}.scope_link AS link
        ON link.population = scope.population AND link.scope_id = scope.scope_id
        AND link.first_day <= scope.as_of AND scope.as_of < link.until
    GROUP BY as_of, account_id
)
WHERE has_exact OR has_reported OR pings_ > 0
