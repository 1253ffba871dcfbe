"""Every query of every dashboard, run against a real engine and a real Prometheus that a real worker has filled."""

from __future__ import annotations

import datetime as dt
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from deploy.fleet import FleetSpec
from tests.grafana.expansion import Moment
from tests.grafana.prometheus import INSTALLED, SCRAPE_SECONDS
from tests.grafana.reading import Answer, Json, Lines, Sources, chosen, dashboard, options, panels
from tests.grafana.site import LOST, Shown, shown
from tests.running import ROOT

LAST_DAY = dt.date(2026, 3, 20)
YEAR = 365 * 86_400

SPEC = FleetSpec(
    last_day=LAST_DAY, days=32, seed=14, installations=8, groups=4, users=8, leaves=10, accounts=12,
    duplicates=0.05, late=0.02, future=0.02, broken=0.02, conflicts=0.05,
)  # fmt: skip

WITH_EVERYTHING = """
    SELECT account_id FROM account_kpi
    WHERE as_of = '{day}' AND mrr_12m_ago > 0 AND billable_users > 0
        AND subscription_id IN (SELECT license_subscription_id FROM usage_ping)
        AND account_id IN (SELECT account_id FROM addon_purchase WHERE occurred_at > toDate('{day}') - 365)
        AND account_id IN (SELECT account_id FROM self_service_action WHERE occurred_at > toDate('{day}') - 365)
        AND account_id IN (SELECT account_id FROM seat_movement WHERE occurred_at > toDate('{day}') - 365 AND kind != 'none')
    ORDER BY account_id
"""
"""Accounts that every panel of *Account* can show something of."""

NAMES = {
    "population": "SELECT DISTINCT population FROM kpi_mau",
    "basis": "SELECT DISTINCT basis FROM kpi_mau",
    "dimension": "SELECT DISTINCT dimension FROM kpi_seats",
    "level": "SELECT DISTINCT level FROM kpi_net_retention",
}
"""What the views call the values that variables offer."""


@pytest.mark.broker
@pytest.mark.slow
def test_every_query_returns_data(tmp_path: Path) -> None:
    with shown(tmp_path, SPEC) as site:
        if INSTALLED:
            assert_pipeline_shows(site)
        for name in ("usage", "expansion", "account"):
            board = dashboard(name)
            moment = chosen(board, site.sources, Moment(site.end - YEAR, site.end))
            if name == "account":
                accounts = site.sources.select(WITH_EVERYTHING.format(day=LAST_DAY)).columns
                moment = replace(moment, values={**moment.values, "account": accounts["account_id"][:1]})
            assert_shows(board, site.sources, moment)
            assert_offers_what_there_is(board, site.sources)
        assert_gap_is_marked(site)
        assert_grants_can_be_read(site)
        assert_chosen_accounts_are_all(site)
    if not INSTALLED:
        pytest.skip("the queries to Prometheus were not run: it is not installed (Debian's package prometheus)")


def assert_offers_what_there_is(board: Json, sources: Sources) -> None:
    for variable, offered in options(board).items():
        (there,) = sources.select(NAMES[variable]).columns.values()
        assert set(offered) <= set(there)


def assert_shows(board: Json, sources: Sources, moment: Moment) -> None:
    """Each query answers, with rows, and with a known value in each of its columns."""
    empty = [
        f"{panel['title']}: {what}"
        for panel in panels(board)
        for target in panel["targets"]
        for what in missing(sources.ask(target, moment, display_name(panel)))
    ]
    assert not empty, (board["title"], moment.values, empty)


def display_name(panel: Json) -> str:
    return str(panel["fieldConfig"]["defaults"].get("displayName", ""))


def missing(answer: Answer) -> Iterator[str]:
    """What an answer lacks, in words."""
    if isinstance(answer, Lines):
        if not any(value is not None for points in answer.lines.values() for _, value in points):
            yield "no value in any series"
        return
    if not answer.rows:
        yield "no rows"
    for name, values in answer.columns.items():
        if all(value is None for value in values):
            yield f"{name} is NULL everywhere"


def assert_gap_is_marked(site: Shown) -> None:
    for name in ("usage", "expansion", "account"):
        board = dashboard(name)
        moment = chosen(board, site.sources, Moment(site.end - YEAR, site.end))
        (gaps,) = [a for a in board["annotations"]["list"] if a["name"] == "Gaps"]
        answer = site.sources.ask(gaps["target"], moment)
        assert not isinstance(answer, Lines)
        assert answer.columns["text"][0].startswith(f"usage-pings, partition 0: {LOST} messages from offset ")
        assert answer.columns["time"][0] < answer.columns["timeEnd"][0]


def assert_grants_can_be_read(site: Shown) -> None:
    (block,) = re.findall(r"```sql\n(.+?)```", (ROOT / "docs" / "dashboards.md").read_text(), re.S)
    statements = [statement for statement in block.split(";") if statement.strip()]
    assert len(statements) == 2
    for statement in statements:
        assert site.sources.select(f"EXPLAIN AST {statement}").rows


def assert_chosen_accounts_are_all(site: Shown) -> None:
    """With everything chosen the figures of chosen accounts are those of all, which the contract's views count otherwise."""
    board = dashboard("expansion")
    moment = chosen(board, site.sources, Moment(site.end - YEAR, site.end))

    def newest(title: str) -> float:
        (panel,) = [panel for panel in panels(board) if panel["title"] == title]
        answer = site.sources.ask(panel["targets"][0], moment)
        assert isinstance(answer, Lines)
        ((_, value),) = [points[-1] for points in answer.lines.values()]
        assert value is not None
        return value

    def kpi(what: str) -> float:
        (value,) = site.sources.select(f"SELECT toFloat64({what} AND as_of = '{LAST_DAY}'").rows[0]
        return float(value)

    assert newest("Their seats") == kpi("seats) FROM kpi_seats WHERE dimension = 'total'")
    assert newest("Their MRR") == kpi("mrr) FROM kpi_mrr WHERE dimension = 'total'")
    assert newest("Their net retention, by subscription") == pytest.approx(
        kpi("net_retention) FROM kpi_net_retention WHERE level = 'subscription'"), rel=1e-9
    )


def assert_pipeline_shows(site: Shown) -> None:
    board = dashboard("pipeline")
    # a rate needs a few scrapes behind the last message
    time.sleep(3 * SCRAPE_SECONDS)
    moment = chosen(board, site.sources, Moment(site.begun, int(time.time()), step=1, rate=15))
    assert_shows(board, site.sources, moment)
    (deployments,) = board["annotations"]["list"]
    marks = site.sources.ask(deployments["target"], moment)
    assert isinstance(marks, Lines) and any(marks.lines.values()), "the worker's version began to run"
