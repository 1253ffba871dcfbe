"""How fast one worker drains billing events, how fast the views over them are, what they cost on disk.

    python -m tests.benchmarks.billing [--accounts N] [--late F] [--pings N]

The events are a fleet's of 18 months, some 11 an account, in the order in which they occurred but for a share that comes up to
120 days late; 100,000 accounts make 1.1 million. Bars: 20,000 events a second of CPU, everything included. Views that add up:
one day under 0.3 s, a year of days under 5 s; views by account: one day of all accounts under 1 s, one account for a year under
0.3 s. Those by account are timed twice: without pings, and beside N pings of installations that name a subscription each, as
accounts are joined to their usage then. Each query is the best of three, its result taken whole.

A table stands on standard output, progress on standard error. It is a benchmark, not a test: a missed bar is shown and fails
nothing. Machines differ, and one machine from minute to minute: the speed is given beside that of reading the same events and
nothing else, measured in the same run.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from clickhouse_connect.driver.client import Client
from rich import box
from rich.console import Console
from rich.table import Table

from deploy.fleet import Fleet, FleetSpec
from deploy.kafka.broker import LocalBroker
from deploy.message import Message
from sinks.topics import USAGE_PINGS
from streams.ledger.billing.reading import read_events
from tests.benchmarks.drain import LOOP_SECONDS, MIB, best, drain, number, say, topic_bytes
from tests.benchmarks.shapes import LAST_DAY
from tests.running import Site

CHANGELOG = "pingstream-billing-changelog"
BILLING_DAYS = 548
SAMPLES = 5_000

ADDING = (
    "kpi_seats", "kpi_mrr", "kpi_seats_added", "kpi_net_retention", "kpi_tier_movement", "kpi_mrr_movement", "kpi_addons",
    "kpi_self_service_total",
)  # fmt: skip
BY_ACCOUNT = ("account_kpi", "kpi_seat_utilization", "kpi_account_usage", "kpi_self_service")
TABLES = ("billing_account", "billing_subscription", "billing_cell")

YEAR_AGO = LAST_DAY - dt.timedelta(364)
PING_DAYS = 50
"""Each installation sends a ping on so many days up to the last."""


def events(spec: FleetSpec, samples: list[bytes]) -> Iterator[Message]:
    """The fleet's billing events; keeps the first ones."""
    for message in Fleet(spec).billing():
        if len(samples) < SAMPLES:
            samples.append(message.value or b"")
        yield message


def naming_pings(pings: int, samples: list[bytes]) -> Iterator[Message]:
    """Pings of installations that name a subscription of the sampled events, each its own."""
    told = (json.loads(sample).get("subscription") for sample in samples)
    subscriptions = list(dict.fromkeys(one["subscription_id"] for one in told if one))
    for day in range(PING_DAYS):
        date = LAST_DAY - dt.timedelta(PING_DAYS - 1 - day)
        moment = dt.datetime.combine(date, dt.time(8), dt.UTC)
        for which in range(pings // PING_DAYS):
            value = {
                "uuid": f"installation-{which:06d}", "hostname": f"gitlab.{which}.example",
                "recorded_at": moment.isoformat(), "license_subscription_id": subscriptions[which % len(subscriptions)],
                "license_billable_users": 10, "historical_max_users": 12,
                "activity": [{"date": date.isoformat(), "stage": "create", "feature": "wiki", "users": [which, which + 1]}],
            }  # fmt: skip
            key = str(value["uuid"]).encode()
            yield Message(USAGE_PINGS, key, json.dumps(value).encode(), int(moment.timestamp() * 1000))


def reading_speed(samples: list[bytes]) -> float:
    """Events a second of CPU that are read and nothing else."""
    read = 0
    begun = time.process_time()
    while time.process_time() < begun + LOOP_SECONDS:
        read_events(samples, "USD", MIB)
        read += len(samples)
    return read / (time.process_time() - begun)


def time_views(client: Client, table: Table, owner: str, *, by_account_alone: bool = False) -> None:
    """A line for each view and way of asking; `owner`: where the account that is asked for stands first."""
    day, year = f"as_of = '{LAST_DAY}'", f"as_of BETWEEN '{YEAR_AGO}' AND '{LAST_DAY}'"
    busy = client.query(f"SELECT account_id FROM pingstream.{owner} LIMIT 1").first_row[0]
    of_one = f"{year} AND account_id = '{busy}'"
    asked = [
        (view, name, where, bar)
        for view in (() if by_account_alone else ADDING)
        for name, where, bar in (("a day", day, 0.3), ("a year", year, 5.0))
    ]
    asked += [
        (view, name, where, bar)
        for view in BY_ACCOUNT
        for name, where, bar in (("a day of all", day, 1.0), ("a year of one", of_one, 0.3))
    ]
    for view, name, where, bar in asked:
        say(f"{view}, {name}")
        seconds, rows = best(client, f"SELECT * FROM pingstream.{view} WHERE {where}")
        table.add_row(view, name, f"{seconds:.2f} s", f"{bar:g} s", f"{rows:,} rows")


def main() -> None:
    parser = argparse.ArgumentParser(description="How fast one worker drains billing events, and the views over them.")
    parser.add_argument("--accounts", type=int, default=100_000)
    parser.add_argument("--late", type=float, default=0.05, help="share of events that come up to 120 days late")
    parser.add_argument("--pings", type=int, default=50_000, help="that name subscriptions, for the views by account")
    chosen = parser.parse_args()
    spec = FleetSpec(
        last_day=LAST_DAY, days=1, seed=1, installations=0, groups=0, accounts=chosen.accounts, billing_days=BILLING_DAYS,
        late_billing=chosen.late,
    )  # fmt: skip
    table = Table(box=box.SIMPLE, title=f"{chosen.accounts:,} accounts, 18 months")
    for column in ("", "", "found", "bar", ""):
        table.add_column(column, justify="left" if not column else "right")
    with tempfile.TemporaryDirectory(prefix="pingstream-bench-") as name:
        folder = Path(name)
        (folder / "idle").mkdir()
        say("a worker with nothing to do, for comparison")
        with LocalBroker(folder / "idle-kafka", port=0) as broker:
            idle = drain(Site(folder / "idle", broker))
        with LocalBroker(folder / "kafka", port=0) as broker:
            site = Site(folder, broker)
            samples: list[bytes] = []
            say("filling the topic")
            sent = site.send(events(spec, samples))
            loop = reading_speed(samples)
            say(f"draining {sent:,} events")
            spent = drain(site, flush_seconds="0.25")
            speed, net = sent / spent.cpu, sent / (spent.cpu - idle.cpu)
            table.add_row("drain", "events/s of CPU", f"{speed:,.0f}", "20,000", f"{net:,.0f} without start and end")
            table.add_row("", "of reading alone", f"{speed / loop:.2f}", "", f"{loop:,.0f} events/s")
            table.add_row("", "wall, CPU", f"{spent.wall:.0f} s, {spent.cpu:.0f} s", "", f"idle {idle.cpu:.1f} s")
            table.add_row("", "peak memory", f"{spent.memory / MIB:,.0f} MiB", "", f"idle {idle.memory / MIB:,.0f} MiB")
            written = topic_bytes(broker, CHANGELOG)
            table.add_row("", "changelog", f"{written / MIB:,.0f} MiB", "", f"{written / sent:,.0f} bytes an event")
            with site.tables() as client:
                kept = number(client, "SELECT sum(length(movement_event)) FROM pingstream.billing_account FINAL")
                if not kept:
                    sys.exit("there are no movements")
                parts = "FROM system.parts WHERE active AND database = 'pingstream' AND table"
                for one in TABLES:
                    rows = number(client, f"SELECT count() FROM pingstream.{one} FINAL")
                    size = number(client, f"SELECT sum(bytes_on_disk) {parts} = '{one}'")
                    stored = number(client, f"SELECT sum(rows) {parts} = '{one}'")
                    table.add_row(one, "on disk", f"{size / MIB:,.1f} MiB", "", f"{rows:,} rows, {stored:,} stored")
                time_views(client, table, "billing_account FINAL ORDER BY length(movement_event) DESC")
            say(f"draining {chosen.pings:,} pings that name subscriptions")
            site.send(naming_pings(chosen.pings, samples))
            drain(site, flush_seconds="0.25")
            with site.tables() as client:
                linked = number(client, "SELECT uniqExact(account_id) FROM pingstream.scope_link")
                if not linked:
                    sys.exit("no installation is linked to an account")
                table.add_section()
                table.add_row("beside pings", f"{chosen.pings:,}", "", "", f"of {linked:,} accounts")
                time_views(client, table, "scope_link", by_account_alone=True)
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
