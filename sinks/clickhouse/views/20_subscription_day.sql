-- Internal. A row for each subscription and day, as account_kpi has them, by billing alone: synced says whether any
-- seats_synced has told of the subscription by then, billable_users and max_users what the newest of them told.
CREATE OR REPLACE VIEW {database}.subscription_day
(
    as_of Date32, account_id String, subscription_id String, parent_account_id String, deployment String, plan String,
    country String, geo String, territory String, segment String, buyer_persona String, acquisition_channel String,
    acquisition_source String, seats Int64, seats_added_28d Int64, seats_removed_28d Int64, mrr Decimal(18, 2),
    mrr_12m_ago Decimal(18, 2), synced UInt8, billable_users Nullable(Int64), max_users Nullable(Int64)
)
AS
SELECT
    as_of,
    account_id,
    subscription_id,
    profile_parent[profile] AS parent_account_id,
    state_deployment[state] AS deployment,
    state_plan[state] AS plan,
    profile_country[profile] AS country,
    profile_geo[profile] AS geo,
    profile_territory[profile] AS territory,
    profile_segment[profile] AS segment,
    profile_buyer_persona[profile] AS buyer_persona,
    profile_acquisition_channel[profile] AS acquisition_channel,
    profile_acquisition_source[profile] AS acquisition_source,
    state_seats[state] AS seats,
    added_seats[added] AS seats_added_28d,
    removed_seats[added] AS seats_removed_28d,
    state_mrr[state] * toDecimal64('0.01', 2) AS mrr,
    base_mrr[base] * toDecimal64('0.01', 2) AS mrr_12m_ago,
    sync > 0 AS synced,
    if(sync > 0 AND sync_billable[sync] >= 0, toNullable(sync_billable[sync]), NULL) AS billable_users,
    if(sync > 0 AND sync_max[sync] >= 0, toNullable(sync_max[sync]), NULL) AS max_users
FROM
(
    -- the place of what holds on the day; 0 has the empty value
    SELECT
        *,
        arrayLastIndex(since -> since <= as_of, state_day) AS state,
        arrayLastIndex(since -> since <= as_of, base_day) AS base,
        arrayLastIndex(since -> since <= as_of, added_day) AS added,
        arrayLastIndex(since -> since <= as_of, sync_day) AS sync,
        arrayLastIndex(since -> since <= as_of, profile_day) AS profile
    -- the days on the left: a day of 100,000 subscriptions takes a third of the time that it takes the other way round
    FROM (SELECT as_of FROM {database}.billing_day) AS day
    CROSS JOIN
    (
        SELECT *
        FROM {database}.billing_subscription FINAL
        -- of the rows of one account alone more than the key is read; only conditions on the key are moved under FINAL
        SETTINGS optimize_move_to_prewhere_if_final = 1
    ) AS subscription
)
WHERE state > 0 AND as_of <= state_last[state]
