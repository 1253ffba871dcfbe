-- Where the change in MRR of the 28 days up to and with as_of comes from, by the segment that the account has at the end
-- of as_of: new and churn are the changes of movements of these kinds; seat, tier, discount (reduced ones are above 0)
-- and price are the parts of all other movements, all four wherever there is one.
CREATE OR REPLACE VIEW {database}.kpi_mrr_movement AS
SELECT
    sums.as_of AS as_of,
    named.value AS segment,
    sums.kind AS kind,
    sums.cents * toDecimal64('0.01', 2) AS mrr_change
FROM
(
    SELECT day + i AS as_of, cell, part_.1 AS kind, part_.2 AS cents
    FROM
    (
        SELECT
            cell,
            step,
            day,
            sum(movements_) OVER by_day AS movements,
            sum(seat_) OVER by_day AS seat,
            sum(tier_) OVER by_day AS tier,
            sum(discount_) OVER by_day AS discount,
            sum(price_) OVER by_day AS price,
            leadInFrame(day, 1, assumeNotNull((SELECT clock_day FROM {database}.billing_clock)) + 1) OVER to_the_end
                AS next_day
        FROM
        (
            SELECT
                cell, step, day_ AS day,
                sum(sign * movements__) AS movements_,
                sum(sign * seat__) AS seat_,
                sum(sign * tier__) AS tier_,
                sum(sign * discount__) AS discount_,
                sum(sign * price__) AS price_
            FROM
            (
                SELECT
                    segment AS cell, step, seen_from, seen_to,
                    toInt64(count()) AS movements__,
                    -- of new and churn the seats' part is all of the change
                    sum(seat_mrr) AS seat__, sum(tier_mrr) AS tier__,
                    sum(discount_mrr) AS discount__, sum(price_mrr) AS price__
                FROM {database}.movement_window
                GROUP BY cell, step, seen_from, seen_to
            )
            ARRAY JOIN [seen_from, seen_to] AS day_, [1, -1] AS sign
            WHERE day_ <= (SELECT clock_day FROM {database}.billing_clock)
            GROUP BY cell, step, day
        )
        WINDOW
            by_day AS (PARTITION BY cell, step ORDER BY day ASC ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW),
            to_the_end AS
            (PARTITION BY cell, step ORDER BY day ASC ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING)
    )
    ARRAY JOIN range(toUInt32(dateDiff('day', day, next_day))) AS i
    ARRAY JOIN
        multiIf(
            step = 1, [('new', seat)], step = 2, [('churn', seat)],
            [('seat', seat), ('tier', tier), ('discount', discount), ('price', price)]
        ) AS part_
    WHERE movements > 0
) AS sums
INNER JOIN (SELECT id, value FROM {database}.billing_cell FINAL) AS named ON named.id = sums.cell
