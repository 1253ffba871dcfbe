-- Internal. What pings of installations and groups say of a day, up to the as-of clock, a row for each ping: it is one of
-- the 28 days up to and with it (counts), or the newest of its scope by then, or both.
CREATE OR REPLACE VIEW {database}.scope_told AS
SELECT
    ping.day + i AS as_of, ping.population AS population, ping.scope_id AS scope_id, ping.recorded_at AS recorded_at,
    i < 28 AS counts
FROM {database}.scope_ping AS ping
INNER JOIN {database}.clock AS clock ON clock.home = ping.home
ARRAY JOIN range(toUInt32(greatest(
    dateDiff('day', ping.day, least(greatest(ping.day + 28, ping.next_day), clock.clock_day + 1)), 0
))) AS i
