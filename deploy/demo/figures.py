"""The KPIs of a demo as tables for people, asked from the views that everybody asks."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from clickhouse_connect.driver.client import Client
from rich import box
from rich.console import Console, Group, RenderableType
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from deploy.cli.question import Answer, ask
from deploy.demo.watching import Counts

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

_UNFINISHED: Final = "SELECT count() = 0 OR min(as_of) < '{as_of}' FROM progress FINAL"


def is_complete(client: Client, as_of: dt.date) -> bool:
    """Whether the as-of clock has written its rows up to `as_of` in every partition."""
    return not ask(client, _UNFINISHED.format(as_of=as_of)).rows[0][0]


def print_kpis(console: Console, client: Client, day: dt.date, counts: Counts) -> None:
    """Prints the KPIs of `day` and what became of the messages, side by side where the console is wide enough."""
    shown = {figure: _kpi(figure, ask(client, figure.query.format(day=day))) for figure in _ALL}
    became = _titled("messages", "what became of them", _outcomes(counts))
    for row in (
        (shown[POPULATIONS], shown[SMAU_FACTOR]),
        (shown[MAU], shown[USERS]),
        (shown[SMAU], shown[FEATURE_MAU_FACTOR]),
        (shown[FEATURE_MAU], shown[ADOPTION]),
        (shown[PINGS], became),
    ):
        console.print(_beside(console, row))
        console.print()


_ALL: Final = (POPULATIONS, USERS, MAU, SMAU, FEATURE_MAU, SMAU_FACTOR, FEATURE_MAU_FACTOR, ADOPTION, PINGS)


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
    table.add_column("outcome", no_wrap=True)
    table.add_column("messages", justify="right", no_wrap=True)
    for outcome, number in sorted(counts.outcomes.items()):
        table.add_row(outcome, _shown(number))
    table.add_section()
    for reason, number in sorted(counts.letters.items()):
        table.add_row(f"letter: {reason}", _shown(number))
    return table


def _shown(value: Any, type_name: str = "UInt64") -> str:
    """Numbers with their thousands, ratios with three digits behind the point."""
    if value is None:
        return "–"
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
