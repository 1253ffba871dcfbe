-- Internal. Where the MRR of all customers of a level changes, and by how much: 12 months ago (base); and of those with a
-- base their MRR now (current), the lesser of the two (gross), how many they are (customers), and how many have none now
-- (churned). A customer is a subscription, an account, or a parent with all accounts under it.
CREATE OR REPLACE VIEW {database}.retention_step AS
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
    )
    GROUP BY number_, alone_, day_
    UNION ALL
    -- of a family: what it is after each of its steps, less what it was before
    SELECT ['parent'], step_.1, sum(step_.2), sum(step_.3), sum(step_.4), sum(step_.5), sum(step_.6)
    FROM
    (
        SELECT
            arraySort(groupArray((day, base, mrr))) AS sorted,
            arrayCumSum(sorted.2) AS bases,
            arrayCumSum(sorted.3) AS mrrs,
            arrayMap((base, mrr) -> if(base > 0, mrr, 0), bases, mrrs) AS currents,
            arrayMap((base, mrr) -> if(base > 0, least(base, mrr), 0), bases, mrrs) AS grosses,
            arrayMap(base -> toInt64(base > 0), bases) AS counts,
            arrayMap((base, mrr) -> toInt64(base > 0 AND mrr = 0), bases, mrrs) AS churns
        FROM {database}.family_step
        GROUP BY parent
    )
    ARRAY JOIN arrayZip(
        sorted.1,
        sorted.2,
        arrayMap((now, before) -> now - before, currents, arrayPopBack(arrayPushFront(currents, 0))),
        arrayMap((now, before) -> now - before, grosses, arrayPopBack(arrayPushFront(grosses, 0))),
        arrayMap((now, before) -> now - before, counts, arrayPopBack(arrayPushFront(counts, 0))),
        arrayMap((now, before) -> now - before, churns, arrayPopBack(arrayPushFront(churns, 0)))
    ) AS step_
    GROUP BY step_.1
    UNION ALL
    -- every level from the first day of any subscription on
    SELECT ['subscription', 'account', 'parent'], min(state_day[1]), 0, 0, 0, 0, 0
    FROM {database}.billing_subscription FINAL
    HAVING count() > 0
)
ARRAY JOIN levels AS level_
GROUP BY level_, day
