-- Internal. Where the seats of growth in 28 days change, and by how much, of all accounts together, by the cell of each
-- dimension's value; that of a channel is its number: no digest is as small. movements is how many they are. Kept, or computed.
CREATE OR REPLACE VIEW {database}.growth_step
(
    cell UInt64, day Date32, movements Int64, seats Int64
)
AS
SELECT kept.1 AS cell, kept.2 AS day, kept.3 AS movements, kept.4 AS seats
FROM {database}.current_sums
ARRAY JOIN growth_steps AS kept
UNION ALL
SELECT
    total + plan + geo + territory + segment + buyer_persona + acquisition_channel + deployment + number AS cell,
    day_ AS day, toInt64(sum(sign)) AS movements, sum(sign * seats_) AS seats
FROM
(
    SELECT
        cells[1] AS total, cells[2] AS plan, cells[3] AS geo, cells[4] AS territory, cells[5] AS segment,
        cells[6] AS buyer_persona, cells[7] AS acquisition_channel, cells[8] AS deployment,
        toUInt64(indexOf(['', 'self_service', 'sales_assisted', 'automatic', 'partner'], toString(channel))) AS number,
        seen_from, seen_to, seats_to - seats_from AS seats_
    FROM {database}.movement_window
    WHERE kind = 'growth' AND (SELECT count() FROM {database}.current_sums) = 0
)
ARRAY JOIN [seen_from, seen_to] AS day_, [1, -1] AS sign
-- as in held_step
GROUP BY GROUPING SETS
(
    (day_, total), (day_, plan), (day_, geo), (day_, territory), (day_, segment), (day_, buyer_persona),
    (day_, acquisition_channel), (day_, deployment), (day_, number)
)
SETTINGS group_by_use_nulls = 0
