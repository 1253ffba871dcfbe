-- Internal. Where the seats and MRR of a dimension's value change, and by how much, of all accounts together; held is
-- the number of account_kpi rows. Kept, or computed.
CREATE OR REPLACE VIEW {database}.held_step
(
    cell UInt64, day Date32, held Int64, seats Int64, mrr Int64
)
AS
SELECT kept.1 AS cell, kept.2 AS day, kept.3 AS held, kept.4 AS seats, kept.5 AS mrr
FROM {database}.current_sums
ARRAY JOIN held_steps AS kept
UNION ALL
SELECT
    -- all but the one that the row is for are 0
    total + plan + geo + territory + segment + buyer_persona + acquisition_channel + deployment AS cell,
    day_ AS day, sum(held_) AS held, sum(seats_) AS seats, sum(mrr_) AS mrr
FROM
(
    SELECT
        cut_cells[cut_] AS cells, cells[1] AS total, cells[2] AS plan, cells[3] AS geo, cells[4] AS territory,
        cells[5] AS segment, cells[6] AS buyer_persona, cells[7] AS acquisition_channel, cells[8] AS deployment,
        day_, held_, seats_, mrr_
    FROM {database}.billing_account FINAL
    ARRAY JOIN held_cut AS cut_, held_day AS day_, held_rows AS held_, held_seats AS seats_, held_mrr AS mrr_
    WHERE (SELECT count() FROM {database}.current_sums) = 0
)
-- a small table a dimension, one after the other: two thirds of the time of one table of all cells
GROUP BY GROUPING SETS
(
    (day_, total), (day_, plan), (day_, geo), (day_, territory), (day_, segment), (day_, buyer_persona),
    (day_, acquisition_channel), (day_, deployment)
)
SETTINGS group_by_use_nulls = 0
