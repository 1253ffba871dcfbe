-- Usage of an account: its installations and groups, each by its exact figures where it has an exact mau above 0, else
-- by its reported ones; basis says which (`mixed`: both), '' when no scope has a figure. Stages and features used are
-- different ones with a figure above 0. Pings are those recorded in the 28 days up to and with as_of. account_id is ''
-- where usage has none.
CREATE OR REPLACE VIEW {database}.kpi_account_usage AS
SELECT
    used.as_of AS as_of,
    used.account_id AS account_id,
    used.mau AS mau,
    used.basis AS basis,
    used.stages_used AS stages_used,
    used.features_used AS features_used,
    used.pings_28d AS pings_28d,
    told.newest AS last_ping_at
FROM
(
SELECT
    as_of,
    '' AS account_id,
    if(has_total, toNullable(users), NULL) AS mau,
    multiIf(has_exact AND has_reported, 'mixed', has_exact, 'exact', has_reported, 'reported', '') AS basis,
    toUInt64(arrayCount(
        name -> name IN (SELECT id FROM {database}.figure_name WHERE stage != '' AND feature = ''), used
    )) AS stages_used,
    toUInt64(arrayCount(
        name -> name IN (SELECT id FROM {database}.figure_name WHERE feature != ''), used
    )) AS features_used,
    pings AS pings_28d
FROM
(
    SELECT
        as_of,
        sum(users_) AS users,
        max(total_) AS has_total,
        max(exact_) AS has_exact,
        max(reported_) AS has_reported,
        groupUniqArrayArray(used_) AS used,
        sum(pings_) AS pings
    FROM
    (
        SELECT
            as_of,
            toUInt64(usage_day.mau[1]) AS users_,
            true AS total_,
            true AS exact_,
            false AS reported_,
            arrayFilter(
                (name, users) -> users > 0, arrayResize(usage_day.names, length(usage_day.mau)), usage_day.mau
            ) AS used_,
            toUInt64(0) AS pings_
        FROM {database}.usage_day FINAL
        WHERE population IN ('self_managed', 'group') AND usage_day.mau[1] > 0
        UNION ALL
        SELECT told.as_of, told.mau[indexOf(told.names, 0)], has(told.names, 0), false, true, told.names, 0
        FROM
        (
            SELECT as_of, population, scope_id, names, mau
            FROM {database}.reported_day
            WHERE population IN ('self_managed', 'group') AND NOT falls AND notEmpty(names)
        ) AS told
        LEFT ANTI JOIN
        (
            SELECT as_of, population, scope_id
            FROM {database}.usage_day FINAL
            WHERE population IN ('self_managed', 'group') AND usage_day.mau[1] > 0
        ) AS counted
            ON counted.as_of = told.as_of AND counted.population = told.population AND counted.scope_id = told.scope_id
        UNION ALL
        SELECT day_, 0, false, false, false, [], told
        FROM
        (
            SELECT
                pings.day AS day, pings.told AS told,
                least(pings.day + 27, clock.clock_day) AS until
            FROM
            (
                SELECT home, toDate32(recorded_at) AS day, count() AS told
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
) AS used
ASOF LEFT JOIN
(
    SELECT '' AS account_id, day, toNullable(max(newest_of_day) OVER (ORDER BY day ASC)) AS newest
    FROM
    (
        SELECT toDate32(recorded_at) AS day, max(recorded_at) AS newest_of_day
        FROM {database}.ping FINAL
        WHERE population IN ('self_managed', 'group')
        GROUP BY day
    )
) AS told ON told.account_id = used.account_id AND told.day <= used.as_of
