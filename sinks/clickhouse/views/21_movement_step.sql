-- Internal. Where the change in MRR in 28 days changes, and by how much, of all accounts together, by segment and by step of
-- movement_window; movements is how many they are. Kept, or computed.
CREATE OR REPLACE VIEW {database}.movement_step
(
    cell UInt64, step UInt32, day Date32, movements Int64, seat Decimal(38, 0), tier Decimal(38, 0),
    discount Decimal(38, 0), price Decimal(38, 0)
)
AS
SELECT
    kept.1 AS cell, kept.2 AS step, kept.3 AS day, kept.4 AS movements, kept.5 AS seat, kept.6 AS tier, kept.7 AS discount,
    kept.8 AS price
FROM {database}.current_sums
ARRAY JOIN movement_steps AS kept
UNION ALL
SELECT
    cell, step, day_ AS day,
    sum(sign * movements_) AS movements,
    sum(sign * seat_) AS seat,
    sum(sign * tier_) AS tier,
    sum(sign * discount_) AS discount,
    sum(sign * price_) AS price
FROM
(
    SELECT
        segment AS cell, step, seen_from, seen_to,
        toInt64(count()) AS movements_,
        -- of new and churn the seats' part is all of the change
        sum(seat_mrr) AS seat_, sum(tier_mrr) AS tier_, sum(discount_mrr) AS discount_, sum(price_mrr) AS price_
    FROM {database}.movement_window
    WHERE (SELECT count() FROM {database}.current_sums) = 0
    GROUP BY cell, step, seen_from, seen_to
)
ARRAY JOIN [seen_from, seen_to] AS day_, [1, -1] AS sign
GROUP BY cell, step, day
