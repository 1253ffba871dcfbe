-- Internal. What the newest ping of an installation says of its users on a day, if that ping is of the 28 days up to and
-- with it.
CREATE OR REPLACE VIEW {database}.scope_users AS
SELECT
    as_of, population, scope_id, billable_users, historical_max_users
FROM {database}.ping_day
WHERE population = 'self_managed'
