-- What customers did of the six things that they can do by themselves, through whatever channel: trial, purchase,
-- growth (a seat movement of that kind, or an add-on), upgrade to a plan of a higher rank, renew, outreach. One event
-- can be two of them. Up to the as-of clock.
CREATE OR REPLACE VIEW {database}.self_service_action
(
    account_id String, motion LowCardinality(String), event_id String, occurred_at DateTime64(6, 'UTC'),
    channel LowCardinality(String)
)
AS
SELECT account_id, motion, event_id, occurred_at, channel
FROM {database}.billing_account FINAL
ARRAY JOIN action_motion AS motion, action_event AS event_id, action_at AS occurred_at, action_channel AS channel
WHERE toDate32(occurred_at) <= (SELECT clock_day FROM {database}.billing_clock)
