-- Internal. Where the movements between paid plans of different rank in 28 days change, by segment, plans and direction, and
-- by how much: how many they are, the seats after them, the change in MRR. Kept, or computed.
CREATE OR REPLACE VIEW {database}.tier_step
(
    cell UInt64, plan_from String, plan_to String, direction String, day Date32, movements Int64, seats Int64,
    mrr Int64
)
AS
SELECT
    kept.1 AS cell, kept.2 AS plan_from, kept.3 AS plan_to, kept.4 AS direction, kept.5 AS day, kept.6 AS movements,
    kept.7 AS seats, kept.8 AS mrr
FROM {database}.current_sums
ARRAY JOIN tier_steps AS kept
UNION ALL
SELECT
    segment AS cell, toString(plan_from) AS plan_from, toString(plan_to) AS plan_to,
    if(tier > 0, 'upgrade', 'downgrade') AS direction, day_ AS day,
    toInt64(sum(sign)) AS movements, sum(sign * seats_to) AS seats, sum(sign * (mrr_to - mrr_from)) AS mrr
FROM {database}.movement_window
ARRAY JOIN [seen_from, seen_to] AS day_, [1, -1] AS sign
WHERE tier != 0 AND (SELECT count() FROM {database}.current_sums) = 0
GROUP BY cell, plan_from, plan_to, direction, day
