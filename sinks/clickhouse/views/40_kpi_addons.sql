-- Add-ons purchased in the 28 days up to and with as_of: how many times, how many, and for how much in the reporting
-- currency; by add-on and channel.
CREATE OR REPLACE VIEW {database}.kpi_addons
(
    as_of Date32, addon LowCardinality(String), channel LowCardinality(String), purchases UInt64, quantity Int64,
    amount Decimal(18, 2)
)
AS
SELECT
    day + i AS as_of,
    toString(addon_) AS addon,
    toString(channel_) AS channel,
    toUInt64(bought) AS purchases,
    number AS quantity,
    cents * toDecimal64('0.01', 2) AS amount
FROM
(
    SELECT
        addon_,
        channel_,
        day,
        sum(bought_) OVER by_day AS bought,
        sum(number_) OVER by_day AS number,
        sum(cents_) OVER by_day AS cents,
        leadInFrame(day, 1, assumeNotNull((SELECT clock_day FROM {database}.billing_clock)) + 1) OVER to_the_end
            AS next_day
    FROM
    (
        SELECT
            addon_, channel_, bought_on + later AS day,
            sum(if(later = 0, 1, -1) * bought__) AS bought_,
            sum(if(later = 0, 1, -1) * number__) AS number_,
            sum(if(later = 0, 1, -1) * cents__) AS cents_
        FROM
        (
            SELECT
                addon_, channel_, toDate32(at_) AS bought_on,
                toInt64(count()) AS bought__, sum(quantity_) AS number__, sum(amount_) AS cents__
            FROM {database}.billing_account FINAL
            ARRAY JOIN
                addon_name AS addon_, addon_channel AS channel_, addon_at AS at_,
                addon_quantity AS quantity_, addon_amount AS amount_
            GROUP BY addon_, channel_, bought_on
        )
        ARRAY JOIN [0, 28] AS later
        WHERE day <= (SELECT clock_day FROM {database}.billing_clock)
        GROUP BY addon_, channel_, day
    )
    WINDOW
        by_day AS (PARTITION BY addon_, channel_ ORDER BY day ASC ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW),
        to_the_end AS
        (PARTITION BY addon_, channel_ ORDER BY day ASC ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING)
)
ARRAY JOIN range(toUInt32(dateDiff('day', day, next_day))) AS i
WHERE bought > 0
