-- What each event of a subscription did to its seats and its MRR, from the state before it: new from 0 seats, churn to
-- 0, contraction down, renewal_growth up in a renewal, growth up outside of one, none when seats stay. The four parts
-- of the change in MRR add up to it: seats at the old price a seat (all of it from or to 0 seats), then the tier when
-- the plan's rank changed, else the discount where both list prices are known, and the price. Up to the as-of clock.
CREATE OR REPLACE VIEW {database}.seat_movement
(
    account_id String, event_id String, occurred_at DateTime64(6, 'UTC'), subscription_id String,
    kind LowCardinality(String), channel LowCardinality(String), plan_from LowCardinality(String),
    plan_to LowCardinality(String), seats_from Int64, seats_to Int64, mrr_from Decimal(18, 2), mrr_to Decimal(18, 2),
    seat_mrr Decimal(38, 2), tier_mrr Decimal(38, 2), discount_mrr Decimal(38, 2), price_mrr Decimal(38, 2)
)
AS
SELECT
    account_id,
    event_id,
    occurred_at,
    subscription_id,
    kind,
    channel,
    plan_from,
    plan_to,
    seats_from,
    seats_to,
    mrr_from_ * toDecimal64('0.01', 2) AS mrr_from,
    mrr_to_ * toDecimal64('0.01', 2) AS mrr_to,
    seat_mrr_ * toDecimal64('0.01', 2) AS seat_mrr,
    tier_mrr_ * toDecimal64('0.01', 2) AS tier_mrr,
    discount_mrr_ * toDecimal64('0.01', 2) AS discount_mrr,
    price_mrr_ * toDecimal64('0.01', 2) AS price_mrr
FROM {database}.billing_account FINAL
ARRAY JOIN
    movement_event AS event_id,
    movement_at AS occurred_at,
    movement_subscription AS subscription_id,
    movement_kind AS kind,
    movement_channel AS channel,
    movement_plan_from AS plan_from,
    movement_plan_to AS plan_to,
    movement_seats_from AS seats_from,
    movement_seats_to AS seats_to,
    movement_mrr_from AS mrr_from_,
    movement_mrr_to AS mrr_to_,
    movement_seat_mrr AS seat_mrr_,
    movement_tier_mrr AS tier_mrr_,
    movement_discount_mrr AS discount_mrr_,
    movement_price_mrr AS price_mrr_
WHERE toDate32(occurred_at) <= (SELECT clock_day FROM {database}.billing_clock)
