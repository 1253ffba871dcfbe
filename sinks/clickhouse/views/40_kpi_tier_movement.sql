-- Movements between paid plans of different rank in the 28 days up to and with as_of, other than new and churn: how
-- many, the seats after them, and the whole change in MRR; by the segment that the account has at the end of as_of.
CREATE OR REPLACE VIEW {database}.kpi_tier_movement
(
    as_of Date32, segment String, plan_from String, plan_to String, direction String, subscriptions UInt64,
    seats Int64, mrr_change Decimal(18, 2)
)
AS
SELECT
    sums.as_of AS as_of,
    named.value AS segment,
    sums.plan_from AS plan_from,
    sums.plan_to AS plan_to,
    sums.direction AS direction,
    toUInt64(sums.movements) AS subscriptions,
    sums.seats AS seats,
    sums.cents * toDecimal64('0.01', 2) AS mrr_change
FROM
(
    SELECT day + i AS as_of, cell, plan_from, plan_to, direction, movements, seats, cents
    FROM
    (
        SELECT
            cell,
            plan_from,
            plan_to,
            direction,
            day,
            sum(movements_) OVER by_day AS movements,
            sum(seats_) OVER by_day AS seats,
            sum(cents_) OVER by_day AS cents,
            leadInFrame(day, 1, assumeNotNull((SELECT clock_day FROM {database}.billing_clock)) + 1) OVER to_the_end
                AS next_day
        FROM
        (
            SELECT
                cell, plan_from, plan_to, direction, day, movements AS movements_, seats AS seats_, mrr AS cents_
            FROM {database}.tier_step
            WHERE day <= (SELECT clock_day FROM {database}.billing_clock)
        )
        WINDOW
            by_day AS
            (
                PARTITION BY cell, plan_from, plan_to, direction
                ORDER BY day ASC ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
            ),
            to_the_end AS
            (
                PARTITION BY cell, plan_from, plan_to, direction
                ORDER BY day ASC ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING
            )
    )
    ARRAY JOIN range(toUInt32(dateDiff('day', day, next_day))) AS i
    WHERE movements > 0
) AS sums
INNER JOIN (SELECT id, value FROM {database}.billing_cell FINAL) AS named ON named.id = sums.cell
