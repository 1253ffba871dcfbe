-- Usage of an account: its installations and groups, each by its exact figures where it has an exact mau above 0, else
-- by its reported ones; basis says which (`mixed`: both), '' when no scope has a figure. Stages and features used are
-- different ones with a figure above 0. Pings are those recorded in the 28 days up to and with as_of. account_id is ''
-- where usage has none.
CREATE OR REPLACE VIEW {database}.kpi_account_usage AS
SELECT
    as_of,
    '' AS account_id,
    if(has_exact OR has_reported, toNullable(users), NULL) AS mau,
    multiIf(has_exact AND has_reported, 'mixed', has_exact, 'exact', has_reported, 'reported', '') AS basis,
    toUInt64(arrayCount(
        name -> name IN (SELECT id FROM {database}.figure_name WHERE stage != '' AND feature = ''), used
    )) AS stages_used,
    toUInt64(arrayCount(
        name -> name IN (SELECT id FROM {database}.figure_name WHERE feature != ''), used
    )) AS features_used,
    pings AS pings_28d,
    last_ping AS last_ping_at
FROM
(
    SELECT
        as_of,
        sum(users_) AS users,
        max(exact_) AS has_exact,
        max(reported_) AS has_reported,
        groupUniqArrayArray(used_) AS used,
        sum(pings_) AS pings,
        max(last_) AS last_ping
    FROM
    (
        SELECT
            as_of,
            toUInt64(usage_day.mau[1]) AS users_,
            true AS exact_,
            false AS reported_,
            arrayFilter(
                (name, users) -> users > 0, arrayResize(usage_day.names, length(usage_day.mau)), usage_day.mau
            ) AS used_,
            toUInt64(0) AS pings_,
            CAST(NULL AS Nullable(DateTime64(6, 'UTC'))) AS last_
        FROM {database}.usage_day FINAL
        WHERE population IN ('self_managed', 'group') AND usage_day.mau[1] > 0
        UNION ALL
        SELECT told.as_of, told.mau[indexOf(told.names, 0)], false, true, told.names, 0, NULL
        FROM
        (
            SELECT as_of, population, scope_id, names, mau
            FROM {database}.reported_day
            WHERE population IN ('self_managed', 'group') AND NOT falls AND has(names, 0)
        ) AS told
        LEFT ANTI JOIN
        (
            SELECT as_of, population, scope_id
            FROM {database}.usage_day FINAL
            WHERE population IN ('self_managed', 'group') AND usage_day.mau[1] > 0
        ) AS counted
            ON counted.as_of = told.as_of AND counted.population = told.population AND counted.scope_id = told.scope_id
        UNION ALL
        SELECT day_, 0, false, false, [], told, last_recorded
        FROM
        (
            SELECT
                pings.day AS day, pings.told AS told, pings.last_recorded AS last_recorded,
                least(pings.day + 27, clock.clock_day) AS until
            FROM
            (
                SELECT home, toDate32(recorded_at) AS day, count() AS told, max(recorded_at) AS last_recorded
                FROM {database}.ping FINAL
                WHERE population IN ('self_managed', 'group')
                GROUP BY home, day
            ) AS pings
            INNER JOIN {database}.clock AS clock ON clock.home = pings.home AND clock.kind = 'any'
            WHERE day <= until
        )
        ARRAY JOIN arrayMap(i -> day + i, range(toUInt32(dateDiff('day', day, until) + 1))) AS day_
    )
    GROUP BY as_of
)
