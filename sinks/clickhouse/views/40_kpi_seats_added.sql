-- Seats added in the 28 days up to and with as_of by seat movements of kind growth, which are none of a renewal: by the
-- subscription's and the account's values at the end of as_of, and by the movement's own channel. seats_at_start are
-- those held at the end of as_of - 28, by the values of that day, and added_share = seats_added_28d / seats_at_start;
-- both are NULL by channel. A row for each value with a row of kpi_seats on as_of or on as_of - 28, and for each
-- channel with such a movement.
CREATE OR REPLACE VIEW {database}.kpi_seats_added
(
    as_of Date32, dimension String, value String, seats_added_28d Int64, seats_at_start Nullable(Int64),
    added_share Nullable(Float64)
)
AS
WITH ['', 'self_service', 'sales_assisted', 'automatic', 'partner'] AS channels
SELECT
    sums.as_of AS as_of,
    named.dimension AS dimension,
    named.value AS value,
    sums.added AS seats_added_28d,
    if(named.dimension = 'channel', NULL, toNullable(sums.started)) AS seats_at_start,
    sums.added / nullIf(if(named.dimension = 'channel', 0, sums.started), 0) AS added_share
FROM
(
    SELECT day + i AS as_of, cell, added, started
    FROM
    (
        SELECT
            cell,
            day,
            sum(present_) OVER by_day AS present,
            sum(added_) OVER by_day AS added,
            sum(started_) OVER by_day AS started,
            leadInFrame(day, 1, assumeNotNull((SELECT clock_day FROM {database}.billing_clock)) + 1) OVER to_the_end
                AS next_day
        FROM
        (
            SELECT cell, day, sum(some) AS present_, sum(more) AS added_, sum(before) AS started_
            FROM
            (
                SELECT
                    cell, day + later AS day,
                    toInt64(held) AS some, toInt64(0) AS more, if(later = 0, 0, seats) AS before
                FROM {database}.held_step
                ARRAY JOIN [0, 28] AS later
                UNION ALL
                SELECT cell, day, if(cell <= length(channels), movements, 0), seats, 0
                FROM {database}.growth_step
            )
            WHERE day <= (SELECT clock_day FROM {database}.billing_clock)
            GROUP BY cell, day
        )
        WINDOW
            by_day AS (PARTITION BY cell ORDER BY day ASC ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW),
            to_the_end AS (PARTITION BY cell ORDER BY day ASC ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING)
    )
    ARRAY JOIN range(toUInt32(dateDiff('day', day, next_day))) AS i
    WHERE present > 0
) AS sums
INNER JOIN
(
    SELECT id, toString(dimension) AS dimension, value
    FROM {database}.billing_cell FINAL
    UNION ALL
    SELECT toUInt64(number_) AS id, 'channel' AS dimension, channels[number_] AS value
    FROM (SELECT arrayJoin(arrayEnumerate(channels)) AS number_)
) AS named ON named.id = sums.cell
