-- Internal. The days that have a seat movement in their 28 days, from seen_from to the one before seen_to, in pieces by
-- the plan, deployment and profile that its subscription has on them: cells are the ids of the eight dimensions' values,
-- segment is the id of the segment among them. step: the kind as a number, 1 new, 2 churn, 0 any other, for grouping.
-- tier: 1 for a movement to a plan of a higher rank, -1 to one of a lower, 0 for others, and for those of the kinds new
-- and churn and from or to free. Ranks: bronze and starter 1, silver and premium 2, gold and ultimate 3.
CREATE OR REPLACE VIEW {database}.movement_window
(
    seen_from Date32, seen_to Date32, cells Array(UInt64), segment UInt64, kind String, step UInt32, tier Int16,
    channel String, plan_from String, plan_to String, seats_from Int64, seats_to Int64, mrr_from Int64, mrr_to Int64,
    seat_mrr Decimal(38, 0), tier_mrr Decimal(38, 0), discount_mrr Decimal(38, 0), price_mrr Decimal(38, 0)
)
AS
SELECT
    seen_from,
    seen_to,
    cut_cells[cut_] AS cells,
    segments[cut_] AS segment,
    kind,
    step,
    tier,
    movement_channel[movement_] AS channel,
    movement_plan_from[movement_] AS plan_from,
    movement_plan_to[movement_] AS plan_to,
    movement_seats_from[movement_] AS seats_from,
    movement_seats_to[movement_] AS seats_to,
    movement_mrr_from[movement_] AS mrr_from,
    movement_mrr_to[movement_] AS mrr_to,
    movement_seat_mrr[movement_] AS seat_mrr,
    movement_tier_mrr[movement_] AS tier_mrr,
    movement_discount_mrr[movement_] AS discount_mrr,
    movement_price_mrr[movement_] AS price_mrr
FROM
(
    SELECT
        *,
        arrayMap(cells -> cells[5], cut_cells) AS segments,
        arrayMap(moved -> (moved = 'new') + 2 * (moved = 'churn'), movement_kind) AS steps,
        ['bronze', 'starter', 'silver', 'premium', 'gold', 'ultimate'] AS paid,
        [1, 1, 2, 2, 3, 3] AS ranks,
        arrayMap(plan -> transform(toString(plan), paid, ranks, 0), movement_plan_from) AS rank_from,
        arrayMap(plan -> transform(toString(plan), paid, ranks, 0), movement_plan_to) AS rank_to,
        arrayMap(
            (one, two, moved) -> if(one = 0 OR two = 0 OR moved IN ('new', 'churn'), 0, sign(two - one)),
            rank_from, rank_to, movement_kind
        ) AS tiers
    FROM {database}.billing_account FINAL
)
ARRAY JOIN
    window_movement AS movement_,
    window_from AS seen_from,
    window_to AS seen_to,
    window_cut AS cut_,
    -- by these elements are chosen, before anything is copied for them
    arrayMap(place -> movement_kind[place], window_movement) AS kind,
    arrayMap(place -> steps[place], window_movement) AS step,
    arrayMap(place -> tiers[place], window_movement) AS tier
