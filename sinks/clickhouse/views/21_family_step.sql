-- Internal. Where the MRR of the accounts under one parent changes, 12 months ago (base) and now, and by how much: of
-- accounts that have had a parent, under the one of the day, which is the account itself on days without; and of those
-- that are the parent of others. All other accounts are alone.
CREATE OR REPLACE VIEW {database}.family_step AS
SELECT if(parent_ = '', account_id, parent_) AS parent, day_ AS day, base_ AS base, mrr_ AS mrr
FROM {database}.billing_account FINAL
ARRAY JOIN family_parent AS parent_, family_day AS day_, family_base AS base_, family_mrr AS mrr_
UNION ALL
SELECT account_id AS parent, day_ AS day, base_ AS base, mrr_ AS mrr
FROM {database}.billing_account FINAL
ARRAY JOIN retention_level AS level_, retention_day AS day_, retention_base AS base_, retention_mrr AS mrr_
WHERE level_ != 0 AND empty(family_day) AND account_id IN (SELECT parent FROM {database}.named_parent)
