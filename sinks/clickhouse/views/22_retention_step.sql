-- Internal. Where the MRR of all customers of a level changes, and by how much: 12 months ago (base); and of those with a
-- base their MRR now (current), the lesser of the two (gross), how many they are (customers), and how many have none now
-- (churned). A customer is a subscription, an account, or a parent with all accounts under it. Kept, or computed.
CREATE OR REPLACE VIEW {database}.retention_step
(
    level String, day Date32, base Int64, current Int64, gross Int64, customers Int64, churned Int64
)
AS
SELECT
    kept.1 AS level, kept.2 AS day, kept.3 AS base, kept.4 AS current, kept.5 AS gross, kept.6 AS customers,
    kept.7 AS churned
FROM {database}.current_sums
ARRAY JOIN retention_steps AS kept
UNION ALL
SELECT
    level_ AS level, day, sum(base_) AS base, sum(current_) AS current, sum(gross_) AS gross,
    sum(customers_) AS customers, sum(churned_) AS churned
FROM
(
    SELECT
        arrayFilter(
            (name, applies) -> applies,
            ['subscription', 'account', 'parent'], [number_ != 1, number_ != 0, number_ != 0 AND alone_]
        ) AS levels,
        day_ AS day,
        sum(base__) AS base_, sum(current__) AS current_, sum(gross__) AS gross_,
        sum(customers__) AS customers_, sum(churned__) AS churned_
    FROM
    (
        SELECT
            number_, day_, base__, current__, gross__, customers__, churned__,
            empty(family_day) AND account_id NOT IN (SELECT parent FROM {database}.named_parent) AS alone_
        FROM {database}.billing_account FINAL
        ARRAY JOIN
            retention_level AS number_, retention_day AS day_, retention_base AS base__, retention_current AS current__,
            retention_gross AS gross__, retention_customers AS customers__, retention_churned AS churned__
        WHERE (SELECT count() FROM {database}.current_sums) = 0
    )
    GROUP BY number_, alone_, day_
    UNION ALL
    -- of a family: what it is after each of its steps, less what it was before
    SELECT
        ['parent'], day_, sum(base_ - base__),
        sum(if(base_ > 0, mrr_, 0) - if(base__ > 0, mrr__, 0)),
        sum(if(base_ > 0, least(base_, mrr_), 0) - if(base__ > 0, least(base__, mrr__), 0)),
        sum((base_ > 0) - (base__ > 0)),
        sum((base_ > 0 AND mrr_ = 0) - (base__ > 0 AND mrr__ = 0))
    FROM
    (
        SELECT
            groupArray(day) AS days,
            arraySort(days) AS sorted,
            arrayCumSum(arraySort((step, since) -> since, groupArray(base), days)) AS bases,
            arrayCumSum(arraySort((step, since) -> since, groupArray(mrr), days)) AS mrrs
        FROM {database}.family_step
        WHERE (SELECT count() FROM {database}.current_sums) = 0
        GROUP BY parent
    )
    ARRAY JOIN
        sorted AS day_,
        bases AS base_,
        arrayPushFront(arrayPopBack(bases), 0) AS base__,
        mrrs AS mrr_,
        arrayPushFront(arrayPopBack(mrrs), 0) AS mrr__
    GROUP BY day_
    UNION ALL
    -- every level from the first day of any subscription on
    SELECT ['subscription', 'account', 'parent'], min(arrayMin(held_day)), 0, 0, 0, 0, 0
    FROM {database}.billing_account FINAL
    WHERE notEmpty(held_day) AND (SELECT count() FROM {database}.current_sums) = 0
    HAVING count() > 0
)
ARRAY JOIN levels AS level_
GROUP BY level_, day
