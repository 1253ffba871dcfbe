"""*Expansion*: what customers buy. Seats and money add up; shares and retention never do."""

from __future__ import annotations

from typing import Final

from grafana_foundation_sdk.models.dashboard import Dashboard

from deploy.grafana.account import TO_ACCOUNT, TO_PARENT
from deploy.grafana.days import EACH_28_DAYS, IN_RANGE, TIME, chosen, is_chosen, known, newest
from deploy.grafana.frame import Section, any_of, build, deployments, gaps, one_of
from deploy.grafana.panels import COUNT, MONEY, SECONDS, SHARE, TREND_HEIGHT, Column, Steps, bars, grid, stat, trend
from deploy.grafana.sources import rows, series

_KEPT: Final[Steps] = (("red", None), ("yellow", 0.9), ("green", 1))
_HELD: Final[Steps] = (("red", None), ("yellow", 0.8), ("green", 0.9))
_OLD: Final[Steps] = (("green", None), ("yellow", 2), ("red", 3))
_SILENT: Final[Steps] = (("green", None), ("yellow", 3 * 86_400), ("red", 7 * 86_400))
_ANY_IS_BAD: Final[Steps] = (("green", None), ("red", 1))

_TOTAL: Final = f"{IN_RANGE} AND dimension = 'total'"
_LEVEL: Final = f"{IN_RANGE} AND {is_chosen('level')}"
_DIMENSION: Final = is_chosen("dimension")
_VALUE: Final = f"{known('value')} AS named"
_NEWEST: Final = newest("kpi_mrr", "dimension = 'total'")

_MOTIONS: Final = ("trial", "purchase", "growth", "upgrade", "renew", "outreach")

_FILTERS: Final = {
    "plan": "Plan",
    "deployment": "Deployment",
    "geo": "Geo",
    "territory": "Territory",
    "segment": "Segment",
}
_FILTERED: Final = " AND ".join(chosen(column) for column in _FILTERS)
_FILTERS_SHOWN: Final = ", ".join(f"{label.lower()}: ${name}" for name, label in _FILTERS.items())


def expansion() -> Dashboard:
    """Do customers stay and grow, through what, and who."""
    return build(
        "Expansion",
        "Do customers stay and grow, through what, and which ones? Money is in the reporting currency.",
        [_NOW, _FRESH, _TRENDS, _WHY, _BREAKDOWN, _SELF_SERVICE, _ALL_DIMENSIONS, _ACCOUNTS],
        variables=[
            one_of(
                "dimension", "By",
                ("segment", "plan", "geo", "territory", "buyer_persona", "acquisition_channel", "deployment"),
                "How panels are broken down.",
            ),
            one_of(
                "level", "Customers", ("account", "parent", "subscription"),
                "Who a customer is where retention is meant: accounts, parents with all their accounts, or subscriptions.",
            ),
            *(
                any_of(
                    name, label, f"SELECT DISTINCT {_VALUE} FROM kpi_seats WHERE dimension = '{name}'"
                    " AND as_of = (SELECT max(as_of) FROM kpi_net_retention) ORDER BY named",
                    "For the accounts below; the figures above them are of all.",
                )
                for name, label in _FILTERS.items()
            ),
        ],
        annotations=[deployments(), gaps()],
    )  # fmt: skip


_NOW = Section(
    "Do customers stay and grow?",
    [
        stat(
            "Net retention",
            "What customers of 12 months ago pay now / what they paid then, growth and churn included.",
            series(f"SELECT {TIME}, net_retention FROM kpi_net_retention WHERE {_LEVEL} ORDER BY time"),
            SHARE,
            decimals=1,
            colours=_KEPT,
        ),
        stat(
            "Gross retention",
            "The same without growth: of each customer at most what it paid 12 months ago.",
            series(f"SELECT {TIME}, gross_retention FROM kpi_net_retention WHERE {_LEVEL} ORDER BY time"),
            SHARE,
            decimals=1,
            colours=_HELD,
        ),
        stat(
            "MRR",
            "Monthly recurring revenue at the end of a day.",
            series(f"SELECT {TIME}, mrr FROM kpi_mrr WHERE {_TOTAL} ORDER BY time"),
            MONEY,
        ),
        stat(
            "ARR",
            "Annual recurring revenue: 12 x MRR.",
            series(f"SELECT {TIME}, arr FROM kpi_mrr WHERE {_TOTAL} ORDER BY time"),
            MONEY,
        ),
        stat(
            "Seats",
            "Seats held at the end of a day.",
            series(f"SELECT {TIME}, seats FROM kpi_seats WHERE {_TOTAL} ORDER BY time"),
            COUNT,
        ),
        stat(
            "Seats added, 28 days",
            "Seats added outside of renewals in 28 days, for each seat held at their start.",
            series(f"SELECT {TIME}, added_share FROM kpi_seats_added WHERE {_TOTAL} ORDER BY time"),
            SHARE,
            decimals=1,
        ),
    ],
)

_FRESH = Section(
    "Are these figures fresh, and who are they of?",
    [
        stat(
            "Newest day, days ago",
            "Days since the newest day that has figures: the clock of the workers. 0 is normal.",
            rows(
                "SELECT dateDiff('day', max(as_of), toDate(now(), 'UTC')) AS days FROM kpi_net_retention"
                " WHERE level = 'account'"
            ),
            COUNT,
            colours=_OLD,
            spark=False,
        ),
        stat(
            "Newest change, ago",
            "Time since the newest change of a subscription took effect. It also grows when nobody buys.",
            rows("SELECT dateDiff('second', max(occurred_at), now64(6)) AS age FROM seat_movement"),
            SECONDS,
            colours=_SILENT,
            spark=False,
        ),
        stat(
            "Gaps",
            "Ranges of billing events that Kafka had deleted before they could be read: figures lack them.",
            rows("SELECT count() AS gaps FROM gap FINAL WHERE topic = 'billing-events'"),
            COUNT,
            colours=_ANY_IS_BAD,
            spark=False,
        ),
        stat(
            "Dead letters",
            "Billing events received in the time range that could not be used.",
            rows(
                "SELECT count() AS letters FROM dead_letter"
                " WHERE topic = 'billing-events' AND received_at BETWEEN $__fromTime AND $__toTime"
            ),
            COUNT,
            spark=False,
        ),
        stat(
            "Customers a year ago",
            "Those that retention is about: with MRR 12 months ago.",
            series(f"SELECT {TIME}, customers FROM kpi_net_retention WHERE {_LEVEL} ORDER BY time"),
            COUNT,
        ),
        stat(
            "Churned of them",
            "Those of them that pay nothing now.",
            series(f"SELECT {TIME}, churned_customers FROM kpi_net_retention WHERE {_LEVEL} ORDER BY time"),
            COUNT,
        ),
    ],
)

_TRENDS = Section(
    "Trends",
    [
        trend(
            "Retention",
            "What customers of 12 months ago pay now, with growth (net) and without (gross), for each unit they paid then.",
            series(
                f"""
                SELECT {TIME}, net_retention AS net, gross_retention AS gross
                FROM kpi_net_retention
                WHERE {_LEVEL}
                ORDER BY time
                """
            ),
            SHARE,
            from_zero=False,
        ),
        trend(
            "MRR by $dimension",
            "Monthly recurring revenue at the end of a day.",
            series(f"SELECT {TIME}, {_VALUE}, mrr FROM kpi_mrr WHERE {IN_RANGE} AND {_DIMENSION} ORDER BY time, named"),
            MONEY,
            by="named",
            stacked=True,
        ),
        trend(
            "Seats by $dimension",
            "Seats held at the end of a day.",
            series(
                f"SELECT {TIME}, {_VALUE}, seats FROM kpi_seats WHERE {IN_RANGE} AND {_DIMENSION} ORDER BY time, named"
            ),
            COUNT,
            by="named",
            stacked=True,
        ),
        trend(
            "Seats added by $dimension, for each seat",
            "Seats added outside of renewals in the 28 days up to and with a day / seats held at their start.",
            series(
                f"""
                SELECT {TIME}, {_VALUE}, added_share
                FROM kpi_seats_added
                WHERE {IN_RANGE} AND {_DIMENSION}
                ORDER BY time, named
                """
            ),
            SHARE,
            by="named",
        ),
    ],
)

_WHY = Section(
    "Through what? Each bar is 28 days, the last one up to the end of the time range",
    [
        trend(
            "What changed MRR",
            "new, churn: customers that came or left; seat, tier, discount, price: the parts of all other changes. The bars of "
            "a period add up to its change of MRR.",
            series(
                f"""
                SELECT {TIME}, kind, sum(mrr_change) AS change
                FROM kpi_mrr_movement
                WHERE {EACH_28_DAYS}
                GROUP BY as_of, kind
                ORDER BY time, kind
                """
            ),
            MONEY,
            by="kind",
            bars=True,
            stacked=True,
        ),
        trend(
            "Seats added by $dimension",
            "Seats added outside of renewals, by the values at the end of each period.",
            series(
                f"""
                SELECT {TIME}, {_VALUE}, seats_added_28d AS added
                FROM kpi_seats_added
                WHERE {EACH_28_DAYS} AND {_DIMENSION}
                ORDER BY time, named
                """
            ),
            COUNT,
            by="named",
            bars=True,
            stacked=True,
        ),
        trend(
            "Seats added by channel",
            "Seats added outside of renewals, by the channel through which they were bought.",
            series(
                f"""
                SELECT {TIME}, {_VALUE}, seats_added_28d AS added
                FROM kpi_seats_added
                WHERE {EACH_28_DAYS} AND dimension = 'channel'
                ORDER BY time, named
                """
            ),
            COUNT,
            by="named",
            bars=True,
            stacked=True,
        ),
        trend(
            "Changes of tier",
            "Movements between paid plans of different rank, up and down.",
            series(
                f"""
                SELECT {TIME}, direction, sum(subscriptions) AS movements
                FROM kpi_tier_movement
                WHERE {EACH_28_DAYS}
                GROUP BY as_of, direction
                ORDER BY time, direction
                """
            ),
            COUNT,
            by="direction",
            bars=True,
            stacked=True,
        ),
        trend(
            "Add-ons",
            "What was paid for add-ons, once each.",
            series(
                f"""
                SELECT {TIME}, addon, sum(amount) AS paid
                FROM kpi_addons
                WHERE {EACH_28_DAYS}
                GROUP BY as_of, addon
                ORDER BY time, addon
                """
            ),
            MONEY,
            by="addon",
            bars=True,
            stacked=True,
        ),
        grid(
            "Changes of tier, by plan and segment",
            "Of all periods: movements, the seats after them, and the whole change in MRR.",
            rows(
                f"""
                SELECT
                    plan_from, plan_to, direction, {known("segment")} AS segment_, sum(subscriptions) AS movements,
                    sum(seats) AS seats, sum(mrr_change) AS mrr_change
                FROM kpi_tier_movement
                WHERE {EACH_28_DAYS}
                GROUP BY plan_from, plan_to, direction, segment
                ORDER BY movements DESC, plan_from, plan_to, segment_
                """
            ),
            {
                "segment_": Column(name="segment"),
                "movements": Column(COUNT),
                "seats": Column(COUNT),
                "mrr_change": Column(MONEY),
            },
            width=12,
        ),
    ],
)

_BREAKDOWN = Section(
    "Newest day",
    [
        bars(
            "MRR by $dimension",
            "Monthly recurring revenue on the newest day of the time range.",
            rows(
                f"SELECT {_VALUE}, mrr FROM kpi_mrr WHERE {_NEWEST} AND {_DIMENSION} ORDER BY mrr DESC, named LIMIT 20"
            ),
            MONEY,
        ),
        bars(
            "Seats by $dimension",
            "Seats held on the newest day of the time range.",
            rows(
                f"SELECT {_VALUE}, seats FROM kpi_seats WHERE {_NEWEST} AND {_DIMENSION} ORDER BY seats DESC, named LIMIT 20"
            ),
            COUNT,
        ),
        bars(
            "Seats added by $dimension, 28 days",
            "Seats added outside of renewals in the 28 days up to the newest day of the time range.",
            rows(
                f"""
                SELECT {_VALUE}, seats_added_28d
                FROM kpi_seats_added
                WHERE {_NEWEST} AND {_DIMENSION}
                ORDER BY seats_added_28d DESC, named
                LIMIT 20
                """
            ),
            COUNT,
        ),
        grid(
            "Seats by stage",
            "Seats of the subscriptions a scope of which uses the stage, and the stage's active users in these scopes. A "
            "subscription stands in each stage that it uses, so stages do not add up.",
            rows(
                f"""
                SELECT deployment, stage, seats, active_users, active_users / nullIf(seats, 0) AS share, basis
                FROM kpi_seats_by_stage
                WHERE {newest("kpi_seats_by_stage")}
                ORDER BY seats DESC, deployment, stage
                """
            ),
            {"seats": Column(COUNT), "active_users": Column(COUNT), "share": Column(SHARE, 0)},
            width=12,
        ),
        grid(
            "Add-ons, 28 days",
            "Add-ons bought in the 28 days up to the newest day of the time range.",
            rows(
                f"""
                SELECT addon, {known("channel")} AS channel_, purchases, quantity, amount
                FROM kpi_addons
                WHERE {newest("kpi_addons")}
                ORDER BY amount DESC, addon, channel_
                """
            ),
            {
                "channel_": Column(name="channel"),
                "purchases": Column(COUNT),
                "quantity": Column(COUNT),
                "amount": Column(MONEY),
            },
            width=12,
        ),
    ],
)

_SELF_SERVICE = Section(
    "Self-service",
    [
        trend(
            "Customers that did it by themselves",
            "Share of all accounts that did each at least once through self-service so far.",
            series(
                f"SELECT {TIME}, "
                + ", ".join(f"{motion} / customers AS `{motion}`" for motion in _MOTIONS)
                + f" FROM kpi_self_service_total WHERE {IN_RANGE} ORDER BY time"
            ),
            SHARE,
        ),
        bars(
            "By motion, newest day",
            "Accounts that did each at least once through self-service, by the newest day of the time range.",
            rows(
                "SELECT tick.1 AS motion, tick.2 AS accounts FROM (SELECT arrayJoin(["
                + ", ".join(f"('{motion}', {motion})" for motion in _MOTIONS)
                + f"]) AS tick FROM kpi_self_service_total WHERE {newest('kpi_self_service_total')})"
                " ORDER BY accounts DESC, motion"
            ),
            COUNT,
        ),
        stat(
            "Self-service utilization",
            "All ticks / all cells: of six motions, the share that an account did by itself, on average.",
            series(f"SELECT {TIME}, utilization FROM kpi_self_service_total WHERE {IN_RANGE} ORDER BY time"),
            SHARE,
            decimals=1,
            height=TREND_HEIGHT,
        ),
    ],
)

_ALL_DIMENSIONS = Section(
    "By every dimension",
    [
        grid(
            "Seats, seats added and MRR by every dimension, newest day",
            "The values of one dimension add up to the total; those of two dimensions do not. By channel only seats added are "
            "known.",
            rows(
                f"""
                SELECT
                    dimension, if(dimension = 'total', 'all', {known("value")}) AS named, seats, seats_at_start, seats_added_28d, added_share, mrr, arr
                FROM (SELECT dimension, value, seats_added_28d, seats_at_start, added_share FROM kpi_seats_added WHERE {_NEWEST})
                    AS added
                LEFT JOIN (SELECT dimension, value, toNullable(seats) AS seats FROM kpi_seats WHERE {_NEWEST}) AS held
                    USING (dimension, value)
                LEFT JOIN
                    (SELECT dimension, value, toNullable(mrr) AS mrr, toNullable(arr) AS arr FROM kpi_mrr WHERE {_NEWEST}) AS paid
                    USING (dimension, value)
                ORDER BY dimension = 'total' DESC, dimension, mrr DESC, named
                """
            ),
            {
                "named": Column(name="value"),
                "seats": Column(COUNT),
                "seats_at_start": Column(COUNT),
                "seats_added_28d": Column(COUNT),
                "added_share": Column(SHARE, 1),
                "mrr": Column(MONEY),
                "arr": Column(MONEY),
            },
            height=12,
        ),
    ],
)

_ACCOUNTS = Section(
    f"Accounts that are chosen above ({_FILTERS_SHOWN})",
    [
        trend(
            "Their seats",
            "Seats of the subscriptions that are chosen, by the values of each day.",
            series(
                f"SELECT {TIME}, sum(seats) AS seats FROM account_kpi WHERE {IN_RANGE} AND {_FILTERED}"
                " GROUP BY as_of ORDER BY time"
            ),
            COUNT,
            width=8,
        ),
        trend(
            "Their MRR",
            "Monthly recurring revenue of the subscriptions that are chosen, by the values of each day.",
            series(
                f"SELECT {TIME}, sum(mrr) AS mrr FROM account_kpi WHERE {IN_RANGE} AND {_FILTERED}"
                " GROUP BY as_of ORDER BY time"
            ),
            MONEY,
            width=8,
        ),
        trend(
            "Their net retention, by subscription",
            "What the chosen subscriptions that had MRR 12 months ago pay now, for each unit they paid then.",
            series(
                f"""
                SELECT {TIME}, toFloat64(sumIf(mrr, mrr_12m_ago > 0)) / nullIf(sum(mrr_12m_ago), 0) AS net
                FROM account_kpi
                WHERE {IN_RANGE} AND {_FILTERED}
                GROUP BY as_of
                ORDER BY time
                """
            ),
            SHARE,
            width=8,
        ),
        grid(
            "Accounts, newest day",
            "The hundred with most seats; a click leads to the account, or to its parent.",
            rows(
                f"""
                SELECT
                    account_id, any(parent_account_id) AS parent, any(segment) AS segment_, any(geo) AS geo_,
                    any(territory) AS territory_, arrayStringConcat(arraySort(groupUniqArray(plan)), ', ') AS plans, sum(seats) AS all_seats,
                    sum(seats_added_28d) AS added_28d, sum(seats_removed_28d) AS removed_28d, sum(mrr) AS all_mrr,
                    sum(mrr_12m_ago) AS all_mrr_12m_ago,
                    toFloat64(all_mrr) / nullIf(all_mrr_12m_ago, 0) AS retention
                FROM account_kpi
                WHERE {newest("account_kpi")} AND {_FILTERED}
                GROUP BY account_id
                ORDER BY all_seats DESC, account_id
                LIMIT 100
                """
            ),
            {
                "account_id": TO_ACCOUNT,
                "parent": TO_PARENT,
                "segment_": Column(name="segment"),
                "geo_": Column(name="geo"),
                "territory_": Column(name="territory"),
                "all_seats": Column(COUNT, name="seats"),
                "added_28d": Column(COUNT),
                "removed_28d": Column(COUNT),
                "all_mrr": Column(MONEY, name="mrr"),
                "all_mrr_12m_ago": Column(MONEY, name="mrr_12m_ago"),
                "retention": Column(SHARE, 1),
            },
            height=12,
        ),
    ],
)
