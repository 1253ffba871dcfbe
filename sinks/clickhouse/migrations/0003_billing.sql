-- Billing: accounts, their subscriptions, the names of the cells they add to.
-- Money is whole cents of the reporting currency. What holds from a day on stands in arrays of equal length, by the
-- ascending days from which it holds: a row a subscription instead of one for each of its days.

CREATE TABLE IF NOT EXISTS {database}.billing_account
(
    account_id String,
    home UInt32 COMMENT 'partition in which the account lives',
    first_day Date32 COMMENT 'day of its first event of any type',
    tick_day Array(Date32) COMMENT 'trial, purchase, growth, upgrade, renew, outreach: first day it was done by self-service; 2299-12-31 is never',
    profile_day Array(Date32) COMMENT 'first day of each profile; it is empty before the first',
    profile_parent Array(String),
    profile_country Array(LowCardinality(String)),
    profile_geo Array(LowCardinality(String)),
    profile_territory Array(LowCardinality(String)),
    profile_segment Array(LowCardinality(String)),
    profile_buyer_persona Array(LowCardinality(String)),
    profile_acquisition_channel Array(LowCardinality(String)),
    profile_acquisition_source Array(String),
    link_kind Array(LowCardinality(String)) COMMENT 'subscription, license or namespace: an element for each id that events of a subscription carry',
    link_id Array(String),
    link_subscription Array(String),
    link_claimed Array(Array(DateTime64(6, 'UTC'))) COMMENT 'when events carried it, ascending',
    movement_event Array(String) COMMENT 'seat movements, one for each event of a subscription',
    movement_at Array(DateTime64(6, 'UTC')),
    movement_subscription Array(String),
    movement_kind Array(LowCardinality(String)),
    movement_channel Array(LowCardinality(String)),
    movement_plan_from Array(LowCardinality(String)),
    movement_plan_to Array(LowCardinality(String)),
    movement_seats_from Array(Int64),
    movement_seats_to Array(Int64),
    movement_mrr_from Array(Int64),
    movement_mrr_to Array(Int64),
    movement_seat_mrr Array(Decimal(38, 0)) COMMENT 'whole cents too: seats times MRR has more digits than 64 bits',
    movement_tier_mrr Array(Decimal(38, 0)),
    movement_discount_mrr Array(Decimal(38, 0)),
    movement_price_mrr Array(Decimal(38, 0)),
    addon_event Array(String),
    addon_at Array(DateTime64(6, 'UTC')),
    addon_channel Array(LowCardinality(String)),
    addon_name Array(LowCardinality(String)),
    addon_quantity Array(Int64),
    addon_amount Array(Int64),
    action_motion Array(LowCardinality(String)),
    action_event Array(String),
    action_at Array(DateTime64(6, 'UTC')),
    action_channel Array(LowCardinality(String)),
    cut_cells Array(Array(UInt64)) COMMENT 'billing_cell.id of each combination of plan, deployment and profile that a subscription had: total, plan, geo, territory, segment, buyer_persona, acquisition_channel, deployment',
    held_cut Array(UInt16) COMMENT 'index into cut_cells, from 1 on; what the account adds to a sum from a day on, as differences',
    held_day Array(Date32),
    held_rows Array(Int32) COMMENT 'rows of account_kpi',
    held_seats Array(Int64),
    held_mrr Array(Int64),
    window_movement Array(UInt32) COMMENT 'index into the movements, from 1 on: the 28 days that see each, in pieces by the cut that its subscription has on them',
    window_from Array(Date32),
    window_to Array(Date32) COMMENT 'the day after the last',
    window_cut Array(UInt16),
    retention_level Array(UInt8) COMMENT '0 subscription, 1 account, 2 both: what customers had 12 months ago and have now, as differences',
    retention_day Array(Date32),
    retention_base Array(Int64) COMMENT 'MRR 12 months ago',
    retention_mrr Array(Int64) COMMENT 'MRR now, without a base too; the columns behind it: of customers with a base',
    retention_current Array(Int64),
    retention_gross Array(Int64),
    retention_customers Array(Int32),
    retention_churned Array(Int32),
    family_day Array(Date32) COMMENT 'of accounts that had another one as parent: their MRR under the parent of the day, as differences; empty for others',
    family_parent Array(String) COMMENT 'empty: the account itself',
    family_base Array(Int64),
    family_mrr Array(Int64),
    row_version UInt64
)
ENGINE = {replacing_row_version}
ORDER BY account_id
COMMENT 'Accounts: profile, what they did, and what they add to each sum';

CREATE TABLE IF NOT EXISTS {database}.billing_subscription
(
    account_id String,
    subscription_id String,
    home UInt32 COMMENT 'partition in which the account lives',
    state_day Array(Date32) COMMENT 'first day of each state, as it is at the end of days',
    state_last Array(Date32) COMMENT 'last day for which the state has a row of account_kpi: it may lie before the next state; 2299-12-31 is no end',
    state_deployment Array(LowCardinality(String)),
    state_plan Array(LowCardinality(String)),
    state_seats Array(Int64),
    state_mrr Array(Int64),
    base_day Array(Date32) COMMENT 'MRR 12 months ago; 0 before the first',
    base_mrr Array(Int64),
    added_day Array(Date32) COMMENT 'seats added and removed in 28 days; 0 before the first',
    added_seats Array(Int64),
    removed_seats Array(Int64),
    sync_day Array(Date32) COMMENT 'newest seats_synced; -1 is unknown',
    sync_billable Array(Int64),
    sync_max Array(Int64),
    profile_day Array(Date32) COMMENT 'as in billing_account',
    profile_parent Array(String),
    profile_country Array(LowCardinality(String)),
    profile_geo Array(LowCardinality(String)),
    profile_territory Array(LowCardinality(String)),
    profile_segment Array(LowCardinality(String)),
    profile_buyer_persona Array(LowCardinality(String)),
    profile_acquisition_channel Array(LowCardinality(String)),
    profile_acquisition_source Array(String),
    row_version UInt64
)
ENGINE = {replacing_row_version}
ORDER BY (account_id, subscription_id)
COMMENT 'Subscriptions: their states and the profile of their account, by days';

CREATE TABLE IF NOT EXISTS {database}.billing_cell
(
    id UInt64 COMMENT 'digest of dimension and value',
    dimension LowCardinality(String),
    value String
)
ENGINE = {replacing}
ORDER BY id
COMMENT 'Names of the cells that seats and MRR are added up in';
