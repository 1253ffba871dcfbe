-- Where the change in MRR of the 28 days up to and with as_of comes from, by the segment that the account has at the end
-- of as_of: new and churn are the changes of movements of these kinds; seat, tier, discount (reduced ones are above 0)
-- and price are the parts of all other movements, all four wherever there is one.
CREATE OR REPLACE VIEW {database}.kpi_mrr_movement
(
    as_of Date32, segment String, kind String, mrr_change Decimal(38, 2)
)
AS
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
                cell, step, day, movements AS movements_, seat AS seat_, tier AS tier_, discount AS discount_, price AS price_
            FROM {database}.movement_step
            WHERE day <= (SELECT clock_day FROM {database}.billing_clock)
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
