-- Accounts that have done each of six motions by self-service so far, and accounts that there are (customers);
-- utilization = all ticks / (6 x customers), utilization_pct the same in percent, cut off. Each day from the first
-- event of any account.
CREATE OR REPLACE VIEW {database}.kpi_self_service_total
(
    as_of Date32, trial UInt64, purchase UInt64, growth UInt64, upgrade UInt64, renew UInt64, outreach UInt64,
    customers UInt64, utilization Float64, utilization_pct UInt64
)
AS
SELECT
    day + i AS as_of,
    trial,
    purchase,
    growth,
    upgrade,
    renew,
    outreach,
    customers,
    (trial + purchase + growth + upgrade + renew + outreach) / (6 * customers) AS utilization,
    intDiv(100 * (trial + purchase + growth + upgrade + renew + outreach), 6 * customers) AS utilization_pct
FROM
(
    SELECT
        day,
        sum(customers_) OVER by_day AS customers,
        sum(trial_) OVER by_day AS trial,
        sum(purchase_) OVER by_day AS purchase,
        sum(growth_) OVER by_day AS growth,
        sum(upgrade_) OVER by_day AS upgrade,
        sum(renew_) OVER by_day AS renew,
        sum(outreach_) OVER by_day AS outreach,
        leadInFrame(day, 1, assumeNotNull((SELECT clock_day FROM {database}.billing_clock)) + 1) OVER to_the_end
            AS next_day
    FROM
    (
        SELECT
            day,
            countIf(what = 0) AS customers_,
            countIf(what = 1) AS trial_,
            countIf(what = 2) AS purchase_,
            countIf(what = 3) AS growth_,
            countIf(what = 4) AS upgrade_,
            countIf(what = 5) AS renew_,
            countIf(what = 6) AS outreach_
        FROM {database}.billing_account FINAL
        ARRAY JOIN arrayPushFront(tick_day, first_day) AS day, [0, 1, 2, 3, 4, 5, 6] AS what
        WHERE day <= (SELECT clock_day FROM {database}.billing_clock)
        GROUP BY day
    )
    WINDOW
        by_day AS (ORDER BY day ASC ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW),
        to_the_end AS (ORDER BY day ASC ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING)
)
ARRAY JOIN range(toUInt32(dateDiff('day', day, next_day))) AS i
