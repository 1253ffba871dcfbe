"""*Account*: one account, what it has bought and what it uses."""

from __future__ import annotations

from typing import Final

from grafana_foundation_sdk.models.dashboard import AnnotationQuery, Dashboard

from deploy.grafana.days import IN_RANGE, TIME, is_chosen, newest
from deploy.grafana.frame import Section, build, deployments, from_rows, gaps, one_asked, one_of
from deploy.grafana.panels import COUNT, MONEY, SECONDS, SHARE, Column, Steps, grid, stat, trend
from deploy.grafana.sources import rows, series

TO_ACCOUNT: Final = Column(
    link="/d/pingstream-account?var-account=${__value.raw:percentencode}&${__url_time_range}",
    link_title="Show the account",
)
"""A column of account ids: a click leads to this dashboard."""

TO_PARENT: Final = Column(name="parent", link=TO_ACCOUNT.link, link_title="Show the parent account")

_SILENT: Final[Steps] = (("green", None), ("yellow", 8 * 86_400), ("red", 28 * 86_400))
_OWED: Final[Steps] = (("green", None), ("orange", 1))
_FULL: Final[Steps] = (("green", None), ("yellow", 0.9), ("orange", 1))
_KEPT: Final[Steps] = (("red", None), ("yellow", 0.9), ("green", 1))

_ACCOUNT: Final = is_chosen("account_id", "account")
_DAYS: Final = f"{IN_RANGE} AND {_ACCOUNT}"
_NEWEST_STATE: Final = f"{newest('account_kpi', _ACCOUNT)} AND {_ACCOUNT}"

# Installations that name a subscription of the account in their pings.
_SCOPES: Final = f"""
    SELECT DISTINCT scope_id FROM usage_ping
    WHERE population = 'self_managed' AND license_subscription_id IN
        (SELECT subscription_id FROM account_kpi WHERE {_NEWEST_STATE})
"""


def account() -> Dashboard:
    """What one account has, uses and owes."""
    return build(
        "Account",
        "One account: seats and who uses them, stages, pings, money, and what it did.",
        [_NOW, _FRESH, _SEATS, _USAGE, _HISTORY],
        variables=[
            one_asked(
                "account", "Account",
                """SELECT account_id FROM account_kpi WHERE as_of = (SELECT max(as_of) FROM kpi_net_retention)
GROUP BY account_id ORDER BY sum(seats) DESC, account_id LIMIT 1000""",
                "The thousand with most seats are listed; any other account id can be typed.",
            ),
            one_of(
                "basis", "Basis of stages", ("exact", "reported"),
                "For users by stage: counted from users, or as the installations count themselves.",
            ),
        ],
        annotations=[deployments(), gaps(), _movements()],
    )  # fmt: skip


def _movements() -> AnnotationQuery:
    return from_rows(
        "Seat movements",
        "orange",
        f"""
        SELECT
            occurred_at AS time,
            concat(kind, ': ', toString(seats_from), ' to ', toString(seats_to), ' seats, MRR ', toString(mrr_from), ' to ',
                toString(mrr_to), if(plan_from = plan_to OR plan_from = '', '', concat(', ', plan_from, ' to ', plan_to))) AS text,
            kind AS tags
        FROM seat_movement
        WHERE occurred_at BETWEEN $__fromTime AND $__toTime AND {_ACCOUNT} AND (kind != 'none' OR plan_from != plan_to)
        ORDER BY time
        """,
    )


_NOW = Section(
    "What it has, and how much of it is in use",
    [
        stat(
            "Seats",
            "Seats of all its subscriptions at the end of a day.",
            series(f"SELECT {TIME}, sum(seats) AS seats FROM account_kpi WHERE {_DAYS} GROUP BY as_of ORDER BY time"),
            COUNT,
        ),
        stat(
            "MRR",
            "Monthly recurring revenue of all its subscriptions, in the reporting currency.",
            series(f"SELECT {TIME}, sum(mrr) AS mrr FROM account_kpi WHERE {_DAYS} GROUP BY as_of ORDER BY time"),
            MONEY,
        ),
        stat(
            "Net retention",
            "Its MRR / that of the same date 12 months ago. None when it paid nothing then.",
            series(
                f"""
                SELECT {TIME}, toFloat64(sum(mrr)) / nullIf(sum(mrr_12m_ago), 0) AS retention
                FROM account_kpi
                WHERE {_DAYS}
                GROUP BY as_of
                ORDER BY time
                """
            ),
            SHARE,
            decimals=1,
            colours=_KEPT,
        ),
        stat(
            "Active users",
            "Monthly active users, summed over its installations and groups; basis of each: exact where there is exact activity.",
            series(f"SELECT {TIME}, mau FROM kpi_account_usage WHERE {_DAYS} ORDER BY time"),
            COUNT,
        ),
        stat(
            "Seats in use",
            "Billable users / seats, of the subscription where it is highest.",
            series(
                f"""
                SELECT {TIME}, max(utilization) AS utilization
                FROM kpi_seat_utilization
                WHERE {_DAYS}
                GROUP BY as_of
                ORDER BY time
                """
            ),
            SHARE,
            decimals=0,
            colours=_FULL,
        ),
        stat(
            "Seats owed",
            "Users at their height beyond the seats, summed over its subscriptions.",
            series(
                f"SELECT {TIME}, sum(seats_owed) AS owed FROM kpi_seat_utilization WHERE {_DAYS} GROUP BY as_of ORDER BY time"
            ),
            COUNT,
            colours=_OWED,
        ),
    ],
)

_FRESH = Section(
    "Does it send, and what does it use?",
    [
        stat(
            "Last ping, ago",
            "Time since the newest ping of any of its installations and groups was recorded, of those in the time range.",
            rows(
                f"""
                SELECT dateDiff('second', max(last_ping_at), now64(6)) AS age
                FROM kpi_account_usage
                WHERE {_DAYS}
                """
            ),
            SECONDS,
            colours=_SILENT,
            spark=False,
        ),
        stat(
            "Pings in 28 days",
            "Pings of its installations and groups in the 28 days up to and with a day.",
            series(f"SELECT {TIME}, pings_28d FROM kpi_account_usage WHERE {_DAYS} ORDER BY time"),
            COUNT,
        ),
        stat(
            "Stages used",
            "Different stages with an active user in 28 days, in any of its installations and groups.",
            series(f"SELECT {TIME}, stages_used FROM kpi_account_usage WHERE {_DAYS} ORDER BY time"),
            COUNT,
        ),
        stat(
            "Features used",
            "Different features with an active user in 28 days, in any of its installations and groups.",
            series(f"SELECT {TIME}, features_used FROM kpi_account_usage WHERE {_DAYS} ORDER BY time"),
            COUNT,
        ),
        stat(
            "Seats added in 28 days",
            "Seats added outside of renewals.",
            series(
                f"SELECT {TIME}, sum(seats_added_28d) AS added FROM account_kpi WHERE {_DAYS} GROUP BY as_of ORDER BY time"
            ),
            COUNT,
        ),
        stat(
            "Done by itself, of 6",
            "How many of trial, purchase, growth, upgrade, renewal and outreach it did at least once by self-service so far.",
            series(f"SELECT {TIME}, done FROM kpi_self_service WHERE {_DAYS} ORDER BY time"),
            COUNT,
        ),
    ],
)

_SEATS = Section(
    "Seats and money",
    [
        trend(
            "Seats and active users",
            "Seats of all its subscriptions, and the monthly active users of all its installations and groups.",
            series(
                f"""
                SELECT {TIME}, seats, mau AS `active users`
                FROM (SELECT as_of, sum(seats) AS seats FROM account_kpi WHERE {_DAYS} GROUP BY as_of) AS bought
                LEFT JOIN (SELECT as_of, mau FROM kpi_account_usage WHERE {_DAYS}) AS used USING (as_of)
                ORDER BY time
                """
            ),
            COUNT,
        ),
        trend(
            "Utilization by subscription",
            "Billable users / seats of each subscription. Above 100 %: more users than seats.",
            series(
                f"""
                SELECT {TIME}, concat(subscription_id, ', ', plan) AS subscription, utilization
                FROM kpi_seat_utilization
                WHERE {_DAYS}
                ORDER BY time, subscription
                """
            ),
            SHARE,
            by="subscription",
            alarm=1,
        ),
        trend(
            "MRR by subscription",
            "Monthly recurring revenue of each subscription, in the reporting currency.",
            series(
                f"""
                SELECT {TIME}, concat(subscription_id, ', ', plan) AS subscription, mrr
                FROM account_kpi
                WHERE {_DAYS}
                ORDER BY time, subscription
                """
            ),
            MONEY,
            by="subscription",
            stacked=True,
        ),
        trend(
            "Active utilization by subscription",
            "Monthly active users / seats of each subscription: how many of its seats are really used.",
            series(
                f"""
                SELECT {TIME}, concat(subscription_id, ', ', plan) AS subscription, active_utilization
                FROM kpi_seat_utilization
                WHERE {_DAYS}
                ORDER BY time, subscription
                """
            ),
            SHARE,
            by="subscription",
        ),
        grid(
            "Subscriptions, newest day",
            "Its subscriptions at the end of the newest day of the time range.",
            rows(
                f"""
                SELECT
                    subscription_id, deployment, plan, seats, billable_users, max_users, seats_added_28d, seats_removed_28d,
                    mrr, mrr_12m_ago
                FROM account_kpi
                WHERE {_NEWEST_STATE}
                ORDER BY seats DESC, subscription_id
                """
            ),
            {
                "seats": Column(COUNT),
                "billable_users": Column(COUNT),
                "max_users": Column(COUNT),
                "seats_added_28d": Column(COUNT),
                "seats_removed_28d": Column(COUNT),
                "mrr": Column(MONEY),
                "mrr_12m_ago": Column(MONEY),
            },
            width=14,
            height=5,
        ),
        grid(
            "Profile, newest day",
            "Who the account is, as its newest profile says; a click on the parent leads to it.",
            rows(
                f"""
                SELECT DISTINCT
                    parent_account_id, segment, country, geo, territory, buyer_persona, acquisition_channel,
                    acquisition_source
                FROM account_kpi
                WHERE {_NEWEST_STATE}
                """
            ),
            {
                "parent_account_id": TO_PARENT,
                "buyer_persona": Column(name="persona"),
                "acquisition_channel": Column(name="channel"),
                "acquisition_source": Column(name="source"),
            },
            width=10,
            height=5,
        ),
    ],
)

_USAGE = Section(
    "Usage",
    [
        trend(
            "Stages and features used",
            "Different stages and features with an active user in 28 days.",
            series(
                f"""
                SELECT {TIME}, stages_used AS stages, features_used AS features
                FROM kpi_account_usage
                WHERE {_DAYS}
                ORDER BY time
                """
            ),
            COUNT,
        ),
        trend(
            "Pings in 28 days",
            "Pings of its installations and groups in the 28 days up to and with a day.",
            series(f"SELECT {TIME}, pings_28d AS pings FROM kpi_account_usage WHERE {_DAYS} ORDER BY time"),
            COUNT,
        ),
        trend(
            "Users by stage",
            "Stage monthly active users of the installations that name a subscription of the account in their pings, summed over "
            "these. Installations known by their licence alone, and groups, are not in it.",
            series(
                f"""
                SELECT {TIME}, stage, sum(mau) AS users
                FROM usage_kpi
                WHERE {IN_RANGE} AND population = 'self_managed' AND {is_chosen("basis")} AND level = 'stage'
                    AND scope_id IN ({_SCOPES})
                GROUP BY as_of, stage
                ORDER BY time, stage
                """
            ),
            COUNT,
            by="stage",
        ),
        grid(
            "Installations",
            "The newest ping of each installation that names a subscription of the account.",
            rows(
                f"""
                SELECT if(hostname = '', uuid, hostname) AS installation, version, edition, registered_users, billable_users, recorded_at AS last_ping
                FROM usage_ping
                WHERE scope_id IN ({_SCOPES})
                ORDER BY recorded_at DESC
                LIMIT 1 BY scope_id
                """
            ),
            {"registered_users": Column(COUNT), "billable_users": Column(COUNT)},
            width=12,
        ),
    ],
)

_HISTORY = Section(
    "What happened in the time range",
    [
        grid(
            "Seat movements",
            "Each change of a subscription, and the four parts of its change of MRR, which add up.",
            rows(
                f"""
                SELECT
                    occurred_at, subscription_id, kind, channel, plan_from, plan_to, seats_from, seats_to,
                    mrr_to - mrr_from AS mrr_change, seat_mrr, tier_mrr, discount_mrr, price_mrr
                FROM seat_movement
                WHERE {_ACCOUNT} AND occurred_at BETWEEN $__fromTime AND $__toTime
                ORDER BY occurred_at DESC, subscription_id
                LIMIT 200
                """
            ),
            {name: Column(MONEY) for name in ("mrr_change", "seat_mrr", "tier_mrr", "discount_mrr", "price_mrr")},
        ),
        grid(
            "Add-ons",
            "What it bought beside seats.",
            rows(
                f"""
                SELECT occurred_at, addon, channel, quantity, amount
                FROM addon_purchase
                WHERE {_ACCOUNT} AND occurred_at BETWEEN $__fromTime AND $__toTime
                ORDER BY occurred_at DESC, event_id
                LIMIT 200
                """
            ),
            {"amount": Column(MONEY), "quantity": Column(COUNT)},
            width=12,
        ),
        grid(
            "What it did by itself",
            "Motions that count as self-service use, by any channel; only those through self_service tick.",
            rows(
                f"""
                SELECT occurred_at, motion, channel
                FROM self_service_action
                WHERE {_ACCOUNT} AND occurred_at BETWEEN $__fromTime AND $__toTime
                ORDER BY occurred_at DESC, motion
                LIMIT 200
                """
            ),
            {},
            width=12,
        ),
    ],
)
