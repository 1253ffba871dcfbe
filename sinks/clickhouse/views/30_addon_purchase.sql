-- Add-ons that were purchased, one row for each event; the amount in the reporting currency, negative for a refund. Up
-- to the as-of clock.
CREATE OR REPLACE VIEW {database}.addon_purchase
(
    account_id String, event_id String, occurred_at DateTime64(6, 'UTC'), channel LowCardinality(String),
    addon LowCardinality(String), quantity Int64, amount Decimal(18, 2)
)
AS
SELECT account_id, event_id, occurred_at, channel, addon, quantity, amount_ * toDecimal64('0.01', 2) AS amount
FROM {database}.billing_account FINAL
ARRAY JOIN
    addon_event AS event_id,
    addon_at AS occurred_at,
    addon_channel AS channel,
    addon_name AS addon,
    addon_quantity AS quantity,
    addon_amount AS amount_
WHERE toDate32(occurred_at) <= (SELECT clock_day FROM {database}.billing_clock)
