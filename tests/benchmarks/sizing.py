"""What an installation, a user and a ping cost: bytes in Kafka, in a worker's memory and in ClickHouse, and CPU time.

    python -m tests.benchmarks.sizing [--copies N] [--only PART]

    pings      the shapes `small` (30 users) and `large` (5,000) of `drain`, each with few and with many installations; what the
               many take more is solved for a price a ping (or installation) and a price an activity (or a user's feature)
    reported   weekly pings with 1,020 reported figures each
    views      the rows of `small`, copied N times under other names: the views over 100,000 installations (N = 50)

A real broker, a worker and `pingstream clickhouse` are processes of their own: a worker's figures are without ClickHouse's. Of a
worker two kinds of memory are shown: its peak while it drains 40 days at once, and what it holds after a start with all of the
state and another ping of each installation, as it does from day to day. Bytes in ClickHouse are those of merged parts; between merges they may be twice as many.

Tables stand on standard output, progress on standard error. It is a benchmark, not a test: docs/sizing.md says what follows.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
from clickhouse_connect.driver.client import Client
from rich import box
from rich.console import Console
from rich.table import Table

from deploy.kafka.broker import LocalBroker
from deploy.message import Message
from sinks.topics import USAGE_PINGS
from tests.benchmarks.drain import MIB, Spent, drain, number, say, topic_bytes
from tests.benchmarks.shapes import DAYS, LARGE, LAST_DAY, SMALL, Filled, Shape, installation, messages, names
from tests.benchmarks.state import INSTALLATIONS, OWN, RESTART_SECONDS, SCOPES, WEEKS, Changelog, Reporting
from tests.running import CHANGELOG, Process, Site

FEW_AND_MANY = ((SMALL, 500, 2_000), (LARGE, 10, 40))
WINDOW = 28
DATABASE = "pingstream"
ASKED = ("kpi_mau", "kpi_smau", "kpi_feature_mau", "kpi_stage_adoption", "kpi_usage_pings", "kpi_versions")


@dataclass
class Place:
    """A broker with a full topic, and a ClickHouse beside it.

    Attributes:
        dsn: where the ClickHouse is.
        server: its process.
    """

    site: Site
    server: Process
    dsn: str

    @contextmanager
    def tables(self) -> Iterator[Client]:
        with self.site.tables(self.dsn) as client:
            yield client

    def server_cpu(self) -> float:
        """Seconds that ClickHouse has taken so far."""
        spent = psutil.Process(self.server.pid).cpu_times()
        return float(spent.user + spent.system)

    def drain(self, as_of: str) -> Spent:
        return drain(self.site, as_of=as_of, clickhouse=self.dsn, flush_seconds="0.25")


@contextmanager
def place() -> Iterator[Place]:
    """An empty one."""
    with tempfile.TemporaryDirectory(prefix="pingstream-sizing-") as name:
        folder = Path(name)
        with LocalBroker(folder / "kafka", port=0) as broker:
            site = Site(folder, broker)
            with site.clickhouse() as server:
                yield Place(site, server, server.found(r"PINGSTREAM_CLICKHOUSE=(http://\S+)"))


@dataclass
class Taken:
    """What some installations of a shape took in DAYS days.

    Attributes:
        installations, pings: how many there were.
        told: users in entries of pings, yesterday's repeated.
        uses: (user, feature, day).
        cells: (user, feature) active in the 28 days up to the last one.
        sent, topic: bytes of messages, and of them in Kafka, compressed.
        cpu, server_cpu: seconds of the worker, and of ClickHouse meanwhile.
        peak, resting: bytes of the worker while it drains, and after another start when the pings of the last day have come again,
            for which it unpacks the state of every installation.
        ready: seconds of that start until it was ready.
        changelog, compacted: bytes written to the changelog's log, and those of keys and values that compaction would leave.
        figures: in a row of usage_day.
        day_bytes, ping_bytes: a row of `usage_day` and of `ping`, on disk, merged.
    """

    installations: int
    pings: int = 0
    told: int = 0
    uses: int = 0
    cells: int = 0
    sent: int = 0
    topic: int = 0
    cpu: float = 0.0
    server_cpu: float = 0.0
    peak: int = 0
    resting: int = 0
    ready: float = 0.0
    changelog: int = 0
    compacted: int = 0
    figures: float = 0.0
    day_bytes: float = 0.0
    ping_bytes: float = 0.0


def take(here: Place, shape: Shape, installations: int) -> Taken:
    """Fills, drains, starts again, looks."""
    taken = Taken(installations)
    filled = Filled(0, 0, 0, [], (0, 0, 0), [])
    say(f"{shape.name}: filling the topic with {installations * DAYS:,} pings")
    last_day: deque[Message] = deque(maxlen=installations)
    here.site.send(_noting(messages(shape, installations, filled), last_day))
    taken.pings, taken.told, taken.sent = filled.pings, filled.activities, filled.nbytes
    for one in range(installations):
        present = installation(shape, one).present
        taken.uses += int(present.sum())
        taken.cells += int(present[-WINDOW:].any(axis=0).sum())
    taken.topic = topic_bytes(here.site.broker, USAGE_PINGS)
    say(f"{shape.name}: draining {filled.activities:,} activities")
    before = here.server_cpu()
    spent = here.drain(LAST_DAY.isoformat())
    taken.cpu, taken.peak, taken.server_cpu = spent.cpu, spent.memory, here.server_cpu() - before
    taken.changelog = topic_bytes(here.site.broker, CHANGELOG)
    changelog = Changelog()
    for record in here.site.read(CHANGELOG):
        changelog.take(record.partition, record.key, record.value)
    taken.compacted = changelog.stored(SCOPES).nbytes + changelog.stored(OWN).nbytes
    say(f"{shape.name}: starting again")
    begun = time.monotonic()
    with here.site.worker(as_of=LAST_DAY.isoformat(), clickhouse=here.dsn) as again:
        again.wait_ready(RESTART_SECONDS)
        taken.ready = time.monotonic() - begun
        again.wait_caught_up(RESTART_SECONDS)
        again.wait_read(here.site.send(last_day), RESTART_SECONDS)
        taken.resting = psutil.Process(again.pid).memory_info().rss
    with here.tables() as client:
        taken.figures = number(client, f"SELECT sum(length(names)) FROM {DATABASE}.usage_day FINAL") / taken.pings
        taken.day_bytes, taken.ping_bytes = merged(client, "usage_day"), merged(client, "ping")
    return taken


def _noting(every: Iterator[Message], last: deque[Message]) -> Iterator[Message]:
    for message in every:
        last.append(message)
        yield message


def merged(client: Client, table: str) -> float:
    """Bytes a row on disk, once parts are merged."""
    client.command(f"OPTIMIZE TABLE {DATABASE}.{table} FINAL")
    parts = f"FROM system.parts WHERE active AND database = '{DATABASE}' AND table = '{table}'"
    return number(client, f"SELECT sum(bytes_on_disk) {parts}") / number(client, f"SELECT sum(rows) {parts}")


def idle() -> Spent:
    """A worker with nothing to do."""
    with place() as here:
        say("a worker with nothing to do, for comparison")
        here.drain(LAST_DAY.isoformat())  # makes the schema
        return here.drain(LAST_DAY.isoformat())


# ---- pings ---------------------------------------------------------------------------------------------------------------


def pings(console: Console, copies: int) -> None:
    """The part of that name, and `views` behind it where rows are to be copied."""
    nothing = idle()
    found: list[tuple[Shape, Taken, Taken]] = []
    for shape, few, many in FEW_AND_MANY:
        with place() as here:
            lesser = take(here, shape, few)
        with place() as here:
            greater = take(here, shape, many)
            if shape is SMALL and copies:
                _views(console, here, greater, copies)
        found.append((shape, lesser, greater))
    table = Table(box=box.SIMPLE, title=f"an idle worker: {nothing.cpu:.1f} CPU s, {nothing.memory / MIB:,.0f} MiB")
    runs = [(shape, one) for shape, lesser, greater in found for one in (lesser, greater)]
    for column in ("", *(f"{shape.name}, {one.installations:,}" for shape, one in runs)):
        table.add_column(column, justify="right" if column else "left")
    takens = [one for _, one in runs]
    for name, text in {
        "pings": lambda one: f"{one.pings:,}",
        "activities told": lambda one: f"{one.told:,}",
        "(user, feature, day)": lambda one: f"{one.uses:,}",
        "(user, feature) in 28 days": lambda one: f"{one.cells:,}",
        "message bytes a ping": lambda one: f"{one.sent / one.pings:,.0f}",
        "… in Kafka": lambda one: f"{one.topic / one.pings:,.0f}",
        "worker: CPU s": lambda one: f"{one.cpu:.1f}",
        "ClickHouse: CPU s": lambda one: f"{one.server_cpu:.1f}",
        "worker: peak MiB": lambda one: f"{one.peak / MIB:,.0f}",
        "worker: MiB from day to day": lambda one: f"{one.resting / MIB:,.0f}",
        "worker: s until ready": lambda one: f"{one.ready:.1f}",
        "changelog, MiB written": lambda one: f"{one.changelog / MIB:,.1f}",
        "… compacted": lambda one: f"{one.compacted / MIB:,.1f}",
        "figures a row": lambda one: f"{one.figures:.1f}",
        "usage_day, bytes a row": lambda one: f"{one.day_bytes:,.0f}",
        "ping, bytes a row": lambda one: f"{one.ping_bytes:,.0f}",
    }.items():
        table.add_row(name, *map(text, takens))
    console.print(table)
    console.print(_prices(found))


def _prices(found: list[tuple[Shape, Taken, Taken]]) -> Table:
    """What the many took more than the few, of both shapes, as so much a ping and so much an activity."""
    table = Table(box=box.SIMPLE, title="prices")
    for column, justify in (("", "left"), ("a ping", "right"), ("an activity told", "right")):
        table.add_column(column, justify=justify)  # type: ignore[arg-type]
    by_ping = [(two.pings - one.pings, two.told - one.told) for _, one, two in found]
    by_place = [
        (
            two.installations - one.installations,
            (two.installations - one.installations) * shape.users * len(names(shape)),
        )
        for shape, one, two in found
    ]  # what ledgers have room for: every feature of the installation for each of its users

    def row(name: str, counts: list[tuple[int, int]], more: list[float], unit: float, digits: int) -> None:
        each, other = np.linalg.solve(np.array(counts, float), np.array(more, float)) * unit
        table.add_row(name, f"{each:,.{digits}f}", f"{other:,.{digits}f}")

    row("Kafka, bytes", by_ping, [two.topic - one.topic for _, one, two in found], 1, 2)
    row("changelog written, bytes", by_ping, [two.changelog - one.changelog for _, one, two in found], 1, 2)
    row("worker, CPU µs", by_ping, [two.cpu - one.cpu for _, one, two in found], 1e6, 3)
    row("ClickHouse, CPU µs", by_ping, [two.server_cpu - one.server_cpu for _, one, two in found], 1e6, 3)
    table.add_section()
    table.add_row("", "an installation", "a user's feature, used or not")
    row("worker, peak, bytes", by_place, [two.peak - one.peak for _, one, two in found], 1, 1)
    row("worker, from day to day, bytes", by_place, [two.resting - one.resting for _, one, two in found], 1, 1)
    row("changelog compacted, bytes", by_place, [two.compacted - one.compacted for _, one, two in found], 1, 1)
    return table


# ---- views ---------------------------------------------------------------------------------------------------------------


def _views(console: Console, here: Place, taken: Taken, copies: int) -> None:
    """Copies the rows of one place and asks the views."""
    with here.tables() as client:
        for name in ("usage_day", "ping"):
            say(f"views: {name}, {copies} times")
            columns = [
                f"concat(toString(copy_), '-', {column})" if column in ("scope_id", "uuid") else column
                for (column,) in client.query(
                    "SELECT name FROM system.columns WHERE database = {database:String} AND table = {name:String} ORDER BY position",
                    parameters={"database": DATABASE, "name": name},
                ).result_rows
            ]
            for copy in range(1, copies):
                client.command(
                    f"INSERT INTO {DATABASE}.{name} SELECT {', '.join(columns)} FROM (SELECT *, {copy} AS copy_ "
                    f"FROM {DATABASE}.{name} FINAL WHERE startsWith(scope_id, 'installation'))"
                )
        sizes = {name: merged(client, name) for name in ("usage_day", "ping")}
        rows = {name: number(client, f"SELECT count() FROM {DATABASE}.{name}") for name in sizes}
        scopes = copies * taken.installations
        table = Table(
            box=box.SIMPLE,
            title=f"{scopes:,} installations, {DAYS} days: "
            + ", ".join(f"{name} {rows[name]:,} rows of {sizes[name]:,.0f} bytes" for name in sizes),
        )
        for column in ("", "a day: CPU s", "s", f"{DAYS} days: CPU s", "s"):
            table.add_column(column, justify="right" if column else "left")
        for view in ASKED:
            say(f"views: {view}")
            costs = []
            for where in (f"as_of = '{LAST_DAY}'", "1"):
                best = (float("inf"), float("inf"))
                for _ in range(3):
                    cpu, wall = here.server_cpu(), time.monotonic()
                    client.query(f"SELECT count(), sum(cityHash64(*)) FROM {DATABASE}.{view} WHERE {where}")
                    best = min(best, (here.server_cpu() - cpu, time.monotonic() - wall))
                costs += [f"{best[0]:.2f}", f"{best[1]:.2f}"]
            table.add_row(view, *costs)
        memory = psutil.Process(here.server.pid).memory_info().rss
        table.caption = f"ClickHouse then has {memory / MIB:,.0f} MiB"
    console.print(table)


# ---- reported figures ----------------------------------------------------------------------------------------------------


def reported(console: Console) -> None:
    """The part of that name."""
    nothing = idle()
    reporting = Reporting()
    sent = [
        Message(USAGE_PINGS, record.key, record.value or b"", record.timestamp)
        for week in range(WEEKS)
        for record in reporting.pings(week)
    ]
    with place() as here:
        here.site.send(sent)
        topic = topic_bytes(here.site.broker, USAGE_PINGS)
        before = here.server_cpu()
        spent = here.drain((LAST_DAY.fromordinal(LAST_DAY.toordinal() + 7 * WEEKS)).isoformat())
        server = here.server_cpu() - before
        with here.tables() as client:
            size = merged(client, "ping")
            rows = number(client, f"SELECT count() FROM {DATABASE}.ping FINAL")
    assert rows == len(sent)
    table = Table(
        box=box.SIMPLE, title=f"{INSTALLATIONS} installations, {WEEKS} weekly pings of 1,020 reported figures"
    )
    table.add_column("")
    table.add_column("a ping", justify="right")
    table.add_row("message bytes", f"{sum(len(message.value) for message in sent) / rows:,.0f}")
    table.add_row("… in Kafka", f"{topic / rows:,.0f}")
    table.add_row("worker, CPU µs", f"{(spent.cpu - nothing.cpu) / rows * 1e6:,.0f}")
    table.add_row("ClickHouse, CPU µs", f"{server / rows * 1e6:,.0f}")
    table.add_row("ping, bytes a row", f"{size:,.0f}")
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description="What an installation, a user and a ping cost.")
    parser.add_argument("--copies", type=int, default=50, help="of the 2,000 installations, for the views (default 50)")
    parser.add_argument("--only", choices=("pings", "reported"))
    chosen = parser.parse_args()
    console = Console(width=120)
    if chosen.only != "pings":
        reported(console)
    if chosen.only != "reported":
        pings(console, chosen.copies)


if __name__ == "__main__":
    main()
