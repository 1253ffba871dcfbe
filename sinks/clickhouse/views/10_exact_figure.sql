-- Internal. Exact figures of a scope and day, a row a figure, by the id of its name. A group's are sums over the shards
-- that hold it. GitLab.com's users are sums over its shards; its sessions are sums over its groups and the pings
-- without a group, as far as they are known, and stand in rows that exist by their users.
CREATE OR REPLACE VIEW {database}.exact_figure
(
    as_of Date32, population LowCardinality(String), scope_id String, basis LowCardinality(String), name UInt64,
    dau UInt64, wau UInt64, mau UInt64, sessions Nullable(UInt64)
)
AS
SELECT
    as_of,
    population,
    scope_id,
    basis,
    name_ AS name,
    toUInt64(dau_) AS dau,
    toUInt64(wau_) AS wau,
    toUInt64(mau_) AS mau,
    if(sessions_ < 0, NULL, toUInt64(sessions_)) AS sessions
FROM
(
    SELECT as_of, population, scope_id, basis, name_, dau_, wau_, mau_, sessions_
    FROM {database}.usage_day FINAL
    ARRAY JOIN
        arrayResize(usage_day.names, length(usage_day.mau)) AS name_,
        usage_day.dau AS dau_,
        usage_day.wau AS wau_,
        usage_day.mau AS mau_,
        arrayResize(usage_day.sessions, length(usage_day.mau), toInt64(-1)) AS sessions_
    WHERE population = 'self_managed'
)
UNION ALL
SELECT
    as_of,
    population,
    scope_id,
    basis,
    name_ AS name,
    sum(dau_) AS dau,
    sum(wau_) AS wau,
    sum(mau_) AS mau,
    if(max(sessions_) < 0, NULL, toUInt64(sum(greatest(sessions_, 0)))) AS sessions
FROM
(
    SELECT as_of, population, scope_id, basis, name_, dau_, wau_, mau_, sessions_, is_figure
    FROM {database}.usage_day FINAL
    ARRAY JOIN
        usage_day.names AS name_,
        arrayResize(usage_day.dau, length(usage_day.names)) AS dau_,
        arrayResize(usage_day.wau, length(usage_day.names)) AS wau_,
        arrayResize(usage_day.mau, length(usage_day.names)) AS mau_,
        arrayResize(usage_day.sessions, length(usage_day.names), toInt64(-1)) AS sessions_,
        arrayMap(place -> place <= length(usage_day.mau), arrayEnumerate(usage_day.names)) AS is_figure
    WHERE population IN ('group', 'gitlab_com')
    UNION ALL
    SELECT as_of, toLowCardinality('gitlab_com'), 'gitlab.com', basis, name_, 0, 0, 0, sessions_, 0
    FROM {database}.usage_day FINAL
    ARRAY JOIN
        arrayResize(usage_day.names, length(usage_day.sessions)) AS name_,
        usage_day.sessions AS sessions_
    WHERE population = 'group'
)
GROUP BY as_of, population, scope_id, basis, name_
HAVING max(is_figure)
