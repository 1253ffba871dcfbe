"""`make dashboard-pictures`: a picture of each dashboard for the docs, of a fleet's year, through a real worker.

python -m tests.grafana.pictures
"""

from __future__ import annotations

import datetime as dt
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from deploy.fleet import FleetSpec
from deploy.fleet.spec import usual_accounts
from tests.grafana.drawing import Mark, draw
from tests.grafana.expansion import Moment
from tests.grafana.prometheus import INSTALLED
from tests.grafana.reading import Answer, Json, Lines, Sources, chosen, dashboard, panels
from tests.grafana.site import shown
from tests.running import ROOT

FOLDER = ROOT / "docs" / "dashboards"
YEAR = 365 * 86_400
INSTALLATIONS, GROUPS = 50, 14

SENT_BEFORE = 0.97
RATE = 10.0
"""Messages a second while Prometheus looks on: about a minute and a half."""

PATIENCE = 600.0
"""Seconds for the year, on a machine that has other things to do."""

WORTH_A_LOOK = """
    SELECT account_id FROM account_kpi
    WHERE as_of = '{day}' AND mrr_12m_ago > 0 AND billable_users > 0 AND subscription_id IN (SELECT license_subscription_id FROM usage_ping)
        AND account_id IN (SELECT account_id FROM addon_purchase WHERE occurred_at > toDate('{day}') - 365)
    GROUP BY account_id ORDER BY count() DESC, sum(seats) DESC, account_id LIMIT 1
"""


def main() -> None:
    """Draws all dashboards."""
    if not INSTALLED:
        sys.exit("Prometheus is not installed: Debian's package prometheus has it")
    yesterday = dt.datetime.now(dt.UTC).date() - dt.timedelta(days=1)
    spec = FleetSpec(
        last_day=yesterday, days=400, billing_days=760, installations=INSTALLATIONS, groups=GROUPS,
        accounts=usual_accounts(INSTALLATIONS, GROUPS), duplicates=0.01, reordered=0.02, late=0.002, late_billing=0.03,
        future=0.002, broken=0.004, conflicts=0.004,
    )  # fmt: skip
    FOLDER.mkdir(exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="pingstream-pictures-") as folder,
        shown(Path(folder), spec, SENT_BEFORE, RATE, PATIENCE) as site,
    ):
        picture("pipeline", site.sources, Moment(site.begun, int(time.time()), step=2, rate=10))
        for name in ("usage", "expansion", "account"):
            picture(name, site.sources, Moment(site.end - YEAR, site.end), yesterday)


def picture(name: str, sources: Sources, moment: Moment, day: dt.date | None = None) -> None:
    """Draws one dashboard from the answers to its queries."""
    board = dashboard(name)
    moment = chosen(board, sources, moment)
    if name == "account":
        accounts = sources.select(WORTH_A_LOOK.format(day=day)).columns
        moment = replace(moment, values={**moment.values, "account": accounts["account_id"][:1]})
    drawn = answers(board, sources, moment)
    period = (moment.start, moment.end)
    size = draw(board, moment.values, drawn, marks(board, sources, moment), period, FOLDER / f"{name}.png")
    sys.stdout.write(f"docs/dashboards/{name}.png: {size:,} bytes\n")


def answers(board: Json, sources: Sources, moment: Moment) -> dict[int, list[Answer]]:
    """The answers to the queries of each panel, by its id."""
    return {
        panel["id"]: [
            sources.ask(target, moment, panel["fieldConfig"]["defaults"].get("displayName", ""))
            for target in panel["targets"]
        ]
        for panel in panels(board)
    }


def marks(board: Json, sources: Sources, moment: Moment) -> list[Mark]:
    """The annotations of the board in the time range, but those that the other dashboards' Prometheus knows."""
    found: list[Mark] = []
    for annotation in board["annotations"]["list"]:
        if "expr" in annotation["target"] and board["uid"] != "pingstream-pipeline":
            continue
        answer = sources.ask(annotation["target"], moment)
        if isinstance(answer, Lines):
            moments = [at for points in answer.lines.values() for at, _ in points]
            found += [(at, at, annotation["iconColor"]) for at in moments]
        else:
            begun = answer.columns.get("time", [])
            ended = answer.columns.get("timeEnd", begun)
            found += [(_seconds(a), _seconds(b), annotation["iconColor"]) for a, b in zip(begun, ended, strict=True)]
    return found


def _seconds(moment: dt.datetime) -> float:
    """ClickHouse's moments are UTC, with or without saying so."""
    return moment.replace(tzinfo=dt.UTC).timestamp()


if __name__ == "__main__":
    main()
