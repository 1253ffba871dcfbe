-- Internal. Where the seats and MRR of a dimension's value change, and by how much, of all accounts together; held is
-- the number of account_kpi rows.
CREATE OR REPLACE VIEW {database}.held_step AS
SELECT cell_ AS cell, day, sum(held_) AS held, sum(seats_) AS seats, sum(mrr_) AS mrr
FROM
(
    SELECT cut_cells[cut_] AS cells, day_ AS day, held_, seats_, mrr_
    FROM {database}.billing_account FINAL
    ARRAY JOIN held_cut AS cut_, held_day AS day_, held_rows AS held_, held_seats AS seats_, held_mrr AS mrr_
)
ARRAY JOIN cells AS cell_
GROUP BY cell_, day
