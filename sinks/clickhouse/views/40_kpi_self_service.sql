-- What each account has done by itself so far, of six motions: 1 for each that it did at least once through the channel
-- self_service. done = how many; utilization = done / 6; utilization_pct is the same in percent, cut off. Every account
-- from the day of its first event of any type.
CREATE OR REPLACE VIEW {database}.kpi_self_service
(
    as_of Date32, account_id String, trial UInt8, purchase UInt8, growth UInt8, upgrade UInt8, renew UInt8,
    outreach UInt8, done UInt8, utilization Float64, utilization_pct UInt8
)
AS
SELECT
    as_of,
    account_id,
    toUInt8(tick_day[1] <= as_of) AS trial,
    toUInt8(tick_day[2] <= as_of) AS purchase,
    toUInt8(tick_day[3] <= as_of) AS growth,
    toUInt8(tick_day[4] <= as_of) AS upgrade,
    toUInt8(tick_day[5] <= as_of) AS renew,
    toUInt8(tick_day[6] <= as_of) AS outreach,
    toUInt8(arrayCount(since -> since <= as_of, tick_day)) AS done,
    arrayCount(since -> since <= as_of, tick_day) / 6 AS utilization,
    toUInt8(intDiv(100 * arrayCount(since -> since <= as_of, tick_day), 6)) AS utilization_pct
FROM (SELECT as_of FROM {database}.billing_day) AS day
CROSS JOIN
(
    SELECT account_id, first_day, tick_day
    FROM {database}.billing_account FINAL
    -- as in subscription_day
    SETTINGS optimize_move_to_prewhere_if_final = 1
) AS account
WHERE first_day <= as_of
