-- What customers of 12 months ago pay now. The customers are those with MRR above 0 on the same date 12 months ago (of
-- 29 February: the 28th): base_mrr was their MRR then, current_mrr is it now, gross_mrr the sum of the lesser of the two
-- of each. net_retention = current_mrr / base_mrr, gross_retention = gross_mrr / base_mrr, NULL without a base. Who pays
-- nothing now has churned and stays in the base; who had nothing then is not in it. Levels of customers: subscription,
-- account, and parent: accounts under the parent of as_of, on both sides; without one an account is its own. Every day
-- from the first of account_kpi on. Ratios of sums, never sums of ratios.
CREATE OR REPLACE VIEW {database}.kpi_net_retention
(
    as_of Date32, level String, base_mrr Decimal(18, 2), current_mrr Decimal(18, 2), gross_mrr Decimal(18, 2),
    net_retention Nullable(Float64), gross_retention Nullable(Float64), customers UInt64, churned_customers UInt64
)
AS
SELECT
    day + i AS as_of,
    level,
    base * toDecimal64('0.01', 2) AS base_mrr,
    current * toDecimal64('0.01', 2) AS current_mrr,
    gross * toDecimal64('0.01', 2) AS gross_mrr,
    current / nullIf(base, 0) AS net_retention,
    gross / nullIf(base, 0) AS gross_retention,
    toUInt64(customers_now) AS customers,
    toUInt64(churned_now) AS churned_customers
FROM
(
    SELECT
        level,
        day,
        sum(base_) OVER by_day AS base,
        sum(current_) OVER by_day AS current,
        sum(gross_) OVER by_day AS gross,
        sum(customers_) OVER by_day AS customers_now,
        sum(churned_) OVER by_day AS churned_now,
        leadInFrame(day, 1, assumeNotNull((SELECT clock_day FROM {database}.billing_clock)) + 1) OVER to_the_end
            AS next_day
    FROM
    (
        SELECT
            level, day, base AS base_, current AS current_, gross AS gross_, customers AS customers_, churned AS churned_
        FROM {database}.retention_step
        WHERE day <= (SELECT clock_day FROM {database}.billing_clock)
    )
    WINDOW
        by_day AS (PARTITION BY level ORDER BY day ASC ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW),
        to_the_end AS (PARTITION BY level ORDER BY day ASC ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING)
)
ARRAY JOIN range(toUInt32(dateDiff('day', day, next_day))) AS i
