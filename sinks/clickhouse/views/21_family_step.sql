-- Internal. Where the MRR of the accounts under one parent changes, 12 months ago (base) and now, and by how much: of
-- accounts that have had a parent, under the one of the day, which is the account itself on days without; and of those
-- that are the parent of others. All other accounts are alone.
CREATE OR REPLACE VIEW {database}.family_step
(
    parent String, day Date32, base Int64, mrr Int64
)
AS
SELECT if(parent_ = '', account_id, parent_) AS parent, day_ AS day, base_ AS base, mrr_ AS mrr
FROM
(
    SELECT
        *, empty(family_day) AND account_id IN (SELECT parent FROM {database}.named_parent) AS heads,
        if(heads, retention_day, family_day) AS days
    FROM {database}.billing_account FINAL
)
ARRAY JOIN
    days AS day_,
    if(heads, retention_base, family_base) AS base_,
    if(heads, retention_mrr, family_mrr) AS mrr_,
    if(heads, arrayResize(CAST([], 'Array(String)'), length(days)), family_parent) AS parent_,
    if(heads, retention_level, arrayWithConstant(length(days), toUInt8(1))) AS level_
-- what only its subscriptions do is in their sum
WHERE level_ != 0
