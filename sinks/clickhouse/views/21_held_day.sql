-- Internal. Seats and MRR of a dimension's value on each day on which a row of account_kpi has it.
CREATE OR REPLACE VIEW {database}.held_day
(
    as_of Date32, cell UInt64, seats Int64, mrr Int64
)
AS
SELECT day + i AS as_of, cell, seats, mrr
FROM
(
    SELECT
        cell,
        day,
        sum(held_) OVER by_day AS held,
        sum(seats_) OVER by_day AS seats,
        sum(mrr_) OVER by_day AS mrr,
        leadInFrame(day, 1, assumeNotNull((SELECT clock_day FROM {database}.billing_clock)) + 1) OVER to_the_end
            AS next_day
    FROM
    (
        SELECT cell, day, held AS held_, seats AS seats_, mrr AS mrr_
        FROM {database}.held_step
        WHERE day <= (SELECT clock_day FROM {database}.billing_clock)
    )
    WINDOW
        by_day AS (PARTITION BY cell ORDER BY day ASC ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW),
        to_the_end AS (PARTITION BY cell ORDER BY day ASC ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING)
)
ARRAY JOIN range(toUInt32(dateDiff('day', day, next_day))) AS i
WHERE held > 0
