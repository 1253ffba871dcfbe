"""A worker for half an hour under half of its load, while the clock goes through 60 days: what grows, and whether it is right.

    python -m tests.benchmarks.soak [--minutes M] [--days D] [--installations N] [--share S]

Pings of the shape `small` come all day long, evenly, at a share of the rate at which a worker drains a full topic here. Each
day is as long as the others, and the clock moves on when it begins. A worker as it is by default, with the embedded engine.
Every ten seconds memory, open files, threads, parts in ClickHouse, lag, the state and the changelog are noted. The table shows
means of the second and of the last quarter: by then what only a start costs is over. The state may grow with the days
that it keeps, which is shown beside it; so does the changelog until Kafka compacts it, after an hour.

At the end every figure of some installations on every day is compared with sets of the users that their pings named, and every
ping must have been applied once. A wrong one ends it with exit code 1.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import psutil
from clickhouse_connect.driver.client import Client
from rich import box
from rich.console import Console
from rich.table import Table

from deploy.message import Message
from schemas.ping import EPOCH
from sinks.topics import USAGE_PINGS
from streams.ledger.kernels import WINDOW
from streams.ledger.records import DAY_MS
from tests.benchmarks.arriving import by_default, endless, limit, moved, new_place, send_evenly, sender
from tests.benchmarks.drain import MIB, number, say, topic_bytes
from tests.benchmarks.latency import FOLLOWED, PATIENCE
from tests.benchmarks.shapes import DAYS, LAST_DAY, SMALL, Filled, messages
from tests.running import CHANGELOG, Site, WorkerProcess

EVERY = 10.0
"""Seconds between two looks."""

FIRST = (LAST_DAY - EPOCH.date()).days

Name = tuple[str, str]


class Expected:
    """Who used what on which day, of the installations that are followed, as sets."""

    def __init__(self) -> None:
        self._users: dict[str, dict[int, dict[Name, set[int]]]] = defaultdict(
            lambda: defaultdict(lambda: defaultdict(set))
        )

    def take(self, ping: Message) -> None:
        """What a ping tells."""
        document = json.loads(ping.value)
        days = self._users[f"{document['uuid']}@{document['hostname']}"]
        for entry in document["activity"]:
            day = np.datetime64(entry["date"], "D").astype(int)
            for name in (("", ""), (entry["stage"], ""), (entry["stage"], entry["feature"])):
                days[int(day)][name] |= set(entry["users"])

    def rows(self, first: int, last: int) -> dict[tuple[Any, ...], tuple[int, int, int]]:
        """(dau, wau, mau) above 0, by scope, day and name."""
        found = {}
        for scope, days in self._users.items():
            names = {name for day in days.values() for name in day}
            for day in range(first, last + 1):
                for name in names:
                    sizes = tuple(
                        len(set().union(*(days[one][name] for one in range(day - window + 1, day + 1) if one in days)))
                        for window in (1, 7, WINDOW)
                    )
                    if sizes[-1]:
                        found[scope, day, *name] = sizes
        return found  # type: ignore[return-value]


@dataclass
class Notes:
    """What was seen, one element a look."""

    seen: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def look(self, site: Site, worker: WorkerProcess, client: Client) -> None:
        """Notes everything."""
        process = psutil.Process(worker.pid)
        samples = worker.metrics()
        lag = sum(value for (name, _), value in samples.items() if name == "pingstream_consumer_lag_records")
        self.seen["memory, MiB"].append(process.memory_info().rss / MIB)
        self.seen["open files"].append(process.num_fds())
        self.seen["threads"].append(process.num_threads())
        parts = "SELECT count() FROM system.parts WHERE active AND database = 'pingstream'"
        self.seen["parts in ClickHouse"].append(number(client, parts))
        self.seen["lag, pings"].append(lag)
        self.seen["state, MiB"].append(samples["pingstream_state_bytes", ()] / MIB)
        self.seen["changelog on disk, MiB"].append(topic_bytes(site.broker, CHANGELOG) / MIB)

    def table(self) -> Table:
        """Means of quarters."""
        table = Table(box=box.SIMPLE)
        for column in ("", "second quarter", "last quarter", "most"):
            table.add_column(column, justify="right" if column else "left")
        for name, values in self.seen.items():
            quarter = max(1, len(values) // 4)
            means = np.mean(values[quarter : 2 * quarter] or values), np.mean(values[-quarter:])
            table.add_row(name, *(f"{value:,.1f}" for value in (*means, max(values))))
        return table


def day_of_pings(bodies: list[Message], day: int, count: int, turn: Iterator[int]) -> list[Message]:
    """So many pings, evenly over a day."""
    step = DAY_MS // count
    return [moved(bodies[next(turn)], day * DAY_MS + at * step) for at in range(count)]


def compare(client: Client, expected: Expected, last: int) -> int:
    """Holds the tables against what is expected; gives how many figures that were.

    Raises:
        SystemExit: one differs.
    """
    wanted = expected.rows(FIRST, last)
    rows = client.query(
        "SELECT scope_id, toInt32(as_of), stage, feature, dau, wau, mau FROM pingstream.usage_kpi "
        "WHERE mau > 0 AND scope_id IN {scopes:Array(String)} AND toInt32(as_of) BETWEEN {first:Int32} AND {last:Int32}",
        parameters={"scopes": sorted({key[0] for key in wanted}), "first": FIRST, "last": last},
    ).result_rows
    found = {tuple(row[:4]): tuple(row[4:]) for row in rows}
    wrong = sorted(key for key in wanted.keys() | found.keys() if wanted.get(key) != found.get(key))
    if wrong:
        sys.exit(
            f"{len(wrong)} of {len(wanted)} figures are wrong, as {wrong[0]}: {found.get(wrong[0])}, not {wanted.get(wrong[0])}"
        )
    return len(wanted)


def soak(console: Console, minutes: float, days: int, installations: int, share: float) -> None:
    """All of it."""
    say(f"making {installations * DAYS:,} pings")
    bodies = list(messages(SMALL, installations, Filled(0, 0, 0, [], (0, 0, 0), [])))
    rate = limit(bodies) * share
    seconds = minutes * 60 / days
    count = int(rate * seconds)
    say(f"{days} days of {seconds:.0f} s, {rate:,.0f} pings a second, {count:,} a day")
    followed = f"installation-{FOLLOWED:05d}".encode()
    expected, notes, turn = Expected(), Notes(), endless(installations)
    with new_place() as site, sender() as pool:
        clock = site.folder / "day"
        clock.write_text(str(FIRST))
        site.send([])
        with by_default(site, "-m", "tests.clocked", str(clock)) as worker:
            worker.wait_ready(PATIENCE)
            with site.tables() as client:
                pings = day_of_pings(bodies, FIRST, count, turn)
                for day in range(FIRST, FIRST + days):
                    clock.write_text(str(day))
                    ends = time.monotonic() + seconds
                    sending = pool.submit(send_evenly, site.broker.bootstrap, pings, rate)
                    for ping in pings:
                        if (ping.key or b"") < followed:
                            expected.take(ping)
                    if day + 1 < FIRST + days:
                        pings = day_of_pings(bodies, day + 1, count, turn)
                    while not sending.done() or time.monotonic() < ends:
                        notes.look(site, worker, client)
                        time.sleep(min(EVERY, max(0.1, ends - time.monotonic())))
                    sending.result()
                    say(
                        f"day {day - FIRST + 1} of {days}: "
                        + ", ".join(f"{k} {v[-1]:,.0f}" for k, v in notes.seen.items())
                    )
                worker.wait_caught_up(PATIENCE)
                time.sleep(3)
                notes.look(site, worker, client)
                outcomes = worker.outcomes()
                checked = compare(client, expected, FIRST + days - 1)
    if outcomes[USAGE_PINGS, "applied"] != days * count:
        sys.exit(f"{outcomes[USAGE_PINGS, 'applied']:,} pings were applied of {days * count:,}: {dict(outcomes)}")
    table = notes.table()
    table.title = f"{days} days in {minutes:.0f} min, {days * count:,} pings of {installations:,} installations, {rate:,.0f} a second"
    table.caption = f"every ping applied once, {checked:,} figures of {FOLLOWED} installations are those of sets"
    console.print(table)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.soak", description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--days", type=int, default=60)
    parser.add_argument("--installations", type=int, default=2_000)
    parser.add_argument("--share", type=float, default=0.5, help="of the rate at which a full topic is drained [0.5]")
    chosen = parser.parse_args()
    soak(Console(width=120), chosen.minutes, chosen.days, chosen.installations, chosen.share)
    return 0


if __name__ == "__main__":
    sys.exit(main())
