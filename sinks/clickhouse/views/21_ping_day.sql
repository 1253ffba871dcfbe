-- Internal. The ping that speaks for a scope on a day: each day of ping_span.
CREATE OR REPLACE VIEW {database}.ping_day AS
SELECT
    day_ AS as_of, population, scope_id, version, edition, plan, registered_users
FROM {database}.ping_span
ARRAY JOIN arrayMap(i -> first_day + i, range(toUInt32(greatest(dateDiff('day', first_day, last_day) + 1, 0)))) AS day_
