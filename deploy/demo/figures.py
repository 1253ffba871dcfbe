"""The KPIs of a demo as tables for people, asked from the views that everybody asks."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Final, NamedTuple

from clickhouse_connect.driver.client import Client
from rich import box
from rich.console import Console, Group, RenderableType
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from deploy.cli.question import Answer, ask
from deploy.demo.watching import Counts
from sinks.topics import SOURCES

GAP: Final = 4
"""Columns between two tables that stand side by side."""


class Figure(NamedTuple):
    """A KPI to show. `query` may use {day} and {population}."""

    view: str
    sentence: str
    query: str


_WHERE: Final = "population = 'self_managed' AND basis = 'exact' AND as_of = '{day}'"

POPULATIONS: Final = Figure(
    "kpi_mau",
    "of each population: counted from users, and reported",
    "SELECT population, basis, dau, wau, mau, stickiness FROM kpi_mau WHERE as_of = '{day}' "
    "ORDER BY indexOf(['self_managed', 'gitlab_com', 'group'], population), basis",
)
USERS: Final = Figure(
    "kpi_user_count",
    "registered users of installations, by plan",
    "SELECT if(plan = '', 'all', plan) AS of_plan, users, reporting_scopes FROM kpi_user_count "
    "WHERE population = 'self_managed' AND as_of = '{day}' ORDER BY users",
)
MAU: Final = Figure(
    "kpi_mau",
    "of installations: each user of 28 days counted once",
    "SELECT formatDateTime(as_of, '%a') AS day, as_of, dau, wau, mau, stickiness FROM kpi_mau "
    "WHERE population = 'self_managed' AND basis = 'exact' AND as_of BETWEEN toDate('{day}') - 6 AND '{day}' ORDER BY as_of",
)
SMAU: Final = Figure(
    "kpi_smau", "… of a stage", f"SELECT stage, smau FROM kpi_smau WHERE {_WHERE} ORDER BY smau DESC, stage"
)
FEATURE_MAU: Final = Figure(
    "kpi_feature_mau",
    "… of a feature, the first eight",
    f"SELECT stage, feature, feature_mau FROM kpi_feature_mau WHERE {_WHERE} ORDER BY feature_mau DESC, feature LIMIT 8",
)
SMAU_FACTOR: Final = Figure(
    "kpi_smau_factor", "stages a user uses", f"SELECT mau, sum_smau, smau_factor FROM kpi_smau_factor WHERE {_WHERE}"
)
FEATURE_MAU_FACTOR: Final = Figure(
    "kpi_feature_mau_factor",
    "features of a stage that its user uses",
    "SELECT stage, smau, sum_feature_mau, feature_mau_factor FROM kpi_feature_mau_factor "
    f"WHERE {_WHERE} ORDER BY feature_mau_factor DESC, stage",
)
ADOPTION: Final = Figure(
    "kpi_stage_adoption",
    "more than x stages in use",
    f"SELECT more_than, scopes, total, share FROM kpi_stage_adoption WHERE {_WHERE} ORDER BY more_than",
)
PINGS: Final = Figure(
    "kpi_usage_pings",
    "pings that were recorded that day, and in 28 days",
    "SELECT as_of, pings, counters, failed_counters, pings_28d FROM kpi_usage_pings "
    "WHERE population = 'self_managed' AND as_of BETWEEN toDate('{day}') - 6 AND '{day}' ORDER BY as_of",
)

RETENTION: Final = Figure(
    "kpi_net_retention",
    "customers of 12 months ago: MRR then and now, with and without growth",
    "SELECT level, customers, churned_customers, base_mrr, current_mrr, net_retention, gross_retention "
    "FROM kpi_net_retention WHERE as_of = '{day}' ORDER BY indexOf(['subscription', 'account', 'parent'], level)",
)
MRR: Final = Figure(
    "kpi_mrr",
    "monthly and yearly recurring revenue, by plan",
    "SELECT if(dimension = 'total', 'all', value) AS of_plan, mrr, arr FROM kpi_mrr "
    "WHERE dimension IN ('plan', 'total') AND as_of = '{day}' ORDER BY dimension, mrr, value",
)
MRR_MOVEMENT: Final = Figure(
    "kpi_mrr_movement",
    "what changed it in 28 days",
    "SELECT kind, sum(mrr_change) AS mrr_change FROM kpi_mrr_movement WHERE as_of = '{day}' GROUP BY kind "
    "ORDER BY indexOf(['new', 'seat', 'tier', 'discount', 'price', 'churn'], kind)",
)
SEATS: Final = Figure(
    "kpi_seats",
    "seats, by segment",
    "SELECT if(dimension = 'total', 'all', value) AS of_segment, seats FROM kpi_seats "
    "WHERE dimension IN ('segment', 'total') AND as_of = '{day}' ORDER BY dimension, seats, value",
)
SEATS_ADDED: Final = Figure(
    "kpi_seats_added",
    "seats added in 28 days outside of renewals",
    "SELECT if(dimension = 'total', 'all', value) AS of_segment, seats_added_28d, seats_at_start, added_share "
    "FROM kpi_seats_added WHERE dimension IN ('segment', 'total') AND as_of = '{day}' "
    "ORDER BY dimension, seats_added_28d, value",
)
TIERS: Final = Figure(
    "kpi_tier_movement",
    "changes of tier between paid plans in 28 days",
    "SELECT plan_from, plan_to, direction, sum(subscriptions) AS moved, sum(seats) AS of_seats, "
    "sum(mrr_change) AS mrr_change FROM kpi_tier_movement WHERE as_of = '{day}' "
    "GROUP BY plan_from, plan_to, direction ORDER BY direction DESC, plan_from, plan_to",
)
ADDONS: Final = Figure(
    "kpi_addons",
    "bought beside seats in 28 days",
    "SELECT addon, channel, purchases, quantity, amount FROM kpi_addons WHERE as_of = '{day}' ORDER BY addon, channel",
)
SELF_SERVICE: Final = Figure(
    "kpi_self_service_total",
    "customers that did it by themselves at least once",
    "SELECT trial, purchase, growth, upgrade, renew, outreach, customers, utilization_pct FROM kpi_self_service_total "
    "WHERE as_of = '{day}'",
)
UTILIZATION: Final = Figure(
    "kpi_seat_utilization",
    "seats and who uses them: the eight largest with usage",
    "SELECT account_id, plan, seats, billable_users, mau, utilization, seats_owed FROM kpi_seat_utilization "
    "WHERE as_of = '{day}' AND seats > 0 AND mau IS NOT NULL ORDER BY seats DESC, account_id, subscription_id LIMIT 8",
)
ACCOUNTS: Final = Figure(
    "kpi_account_usage",
    "what accounts use, beside their seats; the eight with most use",
    "SELECT if(used.account_id = '', 'nobody', used.account_id) AS account, bought.seats AS seats, used.mau AS mau, "
    "used.stages_used AS stages_used, used.features_used AS features_used, used.pings_28d AS pings_28d "
    "FROM (SELECT * FROM kpi_account_usage WHERE as_of = '{day}') AS used "
    "LEFT JOIN (SELECT account_id, toNullable(sum(seats)) AS seats FROM kpi_seat_utilization WHERE as_of = '{day}' "
    "GROUP BY account_id) AS bought ON bought.account_id = used.account_id ORDER BY mau DESC, used.account_id LIMIT 8",
)

_UNFINISHED: Final = "SELECT uniqExact(topic) < 2 OR min(as_of) < '{as_of}' FROM progress FINAL"

_HALVES: Final = (
    (
        "What is used",
        ((POPULATIONS, SMAU_FACTOR), (MAU, USERS), (SMAU, FEATURE_MAU_FACTOR), (FEATURE_MAU, ADOPTION), (PINGS,)),
    ),
    ("What was bought", ((RETENTION,), (MRR, MRR_MOVEMENT), (SEATS, SEATS_ADDED), (TIERS, ADDONS), (SELF_SERVICE,))),
    ("What was bought, beside what is used", ((UTILIZATION,), (ACCOUNTS,))),
)
"""What is shown under which title: rows of figures that stand side by side."""


def is_complete(client: Client, as_of: dt.date) -> bool:
    """Whether the as-of clock has written its rows up to `as_of` in every partition of both topics."""
    return not ask(client, _UNFINISHED.format(as_of=as_of)).rows[0][0]


def print_kpis(console: Console, client: Client, day: dt.date, counts: Counts) -> None:
    """Prints the KPIs of `day` and what became of the messages, side by side where the console is wide enough."""
    shown = [
        (title, [[_kpi(figure, ask(client, figure.query.format(day=day))) for figure in row] for row in rows])
        for title, rows in _HALVES
    ]
    for title, tables in shown:
        console.print(f"{title}\n", style="bold underline")
        for row in tables:
            console.print(_beside(console, row))
            console.print()
    console.print(_titled("messages", "what became of them", _outcomes(counts)))
    console.print()


def _kpi(figure: Figure, answer: Answer) -> RenderableType:
    table = _table()
    for name, type_name in zip(answer.names, answer.types, strict=True):
        table.add_column(
            name, justify="left" if "String" in type_name or "Date" in type_name else "right", no_wrap=True
        )
    for row in answer.rows:
        table.add_row(*(_shown(value, type_name) for value, type_name in zip(row, answer.types, strict=True)))
    return _titled(figure.view, figure.sentence, table)


def _outcomes(counts: Counts) -> Table:
    table = _table()
    for name in ("topic", "outcome"):
        table.add_column(name, no_wrap=True)
    table.add_column("messages", justify="right", no_wrap=True)
    for (topic, outcome), number in sorted(counts.outcomes.items(), key=_by_topic):
        table.add_row(topic, outcome, _shown(number))
    table.add_section()
    for (topic, reason), number in sorted(counts.letters.items(), key=_by_topic):
        if number:
            table.add_row(topic, f"letter: {reason}", _shown(number))
    return table


def _by_topic(count: tuple[tuple[str, str], int]) -> tuple[int, str]:
    (topic, name), _ = count
    return SOURCES.index(topic), name


def _shown(value: Any, type_name: str = "UInt64") -> str:
    """Numbers with their thousands, ratios with three digits behind the point."""
    if value is None:
        return "–"
    if "Decimal" in type_name:
        return f"{Decimal(value):,}"
    if isinstance(value, str):
        return value
    return f"{value:,.3f}" if "Float" in type_name else f"{value:,}"


def _table() -> Table:
    return Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), header_style="")


def _titled(title: str, sentence: str, table: Table) -> Group:
    return Group(Text(title, style="bold cyan"), Text(sentence, style="dim"), table)


def _beside(console: Console, parts: Sequence[RenderableType]) -> RenderableType:
    widths = [Measurement.get(console, console.options, part).maximum for part in parts]
    grid = Table.grid(padding=(0, GAP, 0, 0), pad_edge=False)
    if sum(widths) + GAP * (len(parts) - 1) > console.width:
        for part in parts[:-1]:
            grid.add_row(part)
            grid.add_row("")
        grid.add_row(parts[-1])
    else:
        for _ in parts:
            grid.add_column()
        grid.add_row(*parts)
    return grid
