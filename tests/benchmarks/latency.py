"""How long a ping takes, from Kafka's acknowledgement until its figures can be read in ClickHouse; what midnight costs; and how
long a worker takes to take all of the state over.

    python -m tests.benchmarks.latency [--only PART] [--installations N] [--seconds S] [--scopes N] [--recovered N]

    figures   pings of the shape `small` come at 10, 50 and 90 % of the limit, evenly, for S seconds each, all of them of today;
              the limit is the rate at which a worker drains a full topic here, its start and end left out
    midnight  the as-of clock moves on to a day for which nobody has sent anything, with N scopes, while some pings go on
    recovery  N installations of 50 users have sent pings for RECOVERY_DAYS days; another worker starts, with an empty folder: what
              it knows is in the changelog, which was not compacted

A worker as it is by default, with the embedded engine; the broker, who sends and who looks are on the same machine. Who looks asks
every 80 ms for the newest ping of some installations, by the protocol by which `pingstream sql` asks: a ping's row is written
behind its figures, so that they are there when it is. The end of the first answer that has it counts, so half of the time
from look to look is in every figure. Tables stand on standard output, progress on standard error.
"""

from __future__ import annotations

import argparse
import datetime as dt
import sys
import threading
import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import replace
from itertools import islice
from typing import Self

import numpy as np
import psutil
from clickhouse_connect.driver.client import Client
from rich import box
from rich.console import Console
from rich.table import Table

from deploy.message import Message
from schemas.ping import EPOCH
from streams.ledger.records import DAY_MS
from tests.benchmarks.arriving import Sent, by_default, endless, limit, moved, new_place, send_evenly, sender
from tests.benchmarks.drain import MIB, drain, number, say, topic_bytes
from tests.benchmarks.shapes import DAYS, LAST_DAY, SMALL, Filled, messages
from tests.running import CHANGELOG, WorkerProcess, wait_until

SHARES = (0.1, 0.5, 0.9)
LOOK = 0.08
"""Seconds between two looks at the tables."""

FOLLOWED = 64
"""Installations that are looked at: to look at all would cost more than their pings."""

PATIENCE = 300.0
P50, P99, MIDNIGHT_CPU = 0.5, 1.5, 30.0
"""The bars, seconds: at half of the limit, and for all scopes' rows of a new day."""

MIDNIGHT_RATE = 100.0
RECOVERED = replace(SMALL, users=50)
RECOVERY_DAYS = 10
READY_SECONDS = 15.0
"""The bar without local state, of 20,000 installations."""


class Looker:
    """Looks at the newest ping of the first installations, in a thread of its own, and notes when each was there first."""

    def __init__(self, client: Client, last: str) -> None:
        self._client = client
        self._last = last
        self._seen: dict[str, tuple[list[int], list[float]]] = defaultdict(lambda: ([], []))
        """Of each installation the moments of its newest pings, as they came, and when."""
        self.looks: list[float] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def follows(self, scope: str) -> bool:
        """Whether it looks at an installation."""
        return scope < self._last

    def first_seen(self, sent: Sent) -> float | None:
        """When a ping, or a newer one of the same installation, was there first; None as long as none is."""
        moments, times = self._seen[sent.scope]
        at = bisect_left(moments, sent.moment)
        return times[at] if at < len(moments) else None

    def _run(self) -> None:
        floor = 0
        while not self._ended.is_set():
            begun = time.monotonic()
            scopes, newest = self._client.query(
                "SELECT scope_id, max(toUnixTimestamp64Milli(toDateTime64(recorded_at, 3))) FROM pingstream.ping "
                "WHERE uuid < {last:String} AND recorded_at >= fromUnixTimestamp64Milli({floor:Int64}) GROUP BY scope_id",
                parameters={"last": self._last, "floor": floor},
            ).result_columns or ((), ())  # fmt: skip
            now = time.monotonic()
            self.looks.append(now - begun)
            for scope, moment in zip(scopes, newest, strict=True):
                moments, times = self._seen[scope]
                if not moments or moment > moments[-1]:
                    moments.append(moment)
                    times.append(now)
            floor = min(newest, default=floor)
            time.sleep(LOOK)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()


def latencies(looker: Looker, sent: Sequence[Sent]) -> np.ndarray:
    """Seconds of each ping that is looked for, once all are there."""
    followed = [one for one in sent if looker.follows(one.scope)]
    wait_until(
        lambda: all(looker.first_seen(one) is not None for one in followed),
        "the figures can be read",
        PATIENCE,
        pause=0.2,
    )
    return np.array([max((looker.first_seen(one) or 0.0) - one.acknowledged, 0.0) for one in followed])


def _cpu(worker: WorkerProcess) -> float:
    spent = psutil.Process(worker.pid).cpu_times()
    return float(spent.user + spent.system)


def _flushes(worker: WorkerProcess) -> tuple[float, float]:
    """How many flushes there were, and the seconds that they took."""
    samples = worker.metrics()
    found = {name: sum(value for (one, _), value in samples.items() if one == name) for name in (
        "pingstream_sink_flush_seconds_count", "pingstream_sink_flush_seconds_sum",
    )}  # fmt: skip
    count, seconds = found.values()
    return count, seconds


# ---- figures -------------------------------------------------------------------------------------------------------------


def figures(console: Console, installations: int, seconds: float) -> None:
    """The part of that name."""
    say(f"making {installations * DAYS:,} pings")
    pings = list(messages(SMALL, installations, Filled(0, 0, 0, [], (0, 0, 0), [])))
    most = limit(pings[: len(pings) // 2])
    # Those that are looked at come at any time of a round. The first round has made the installations.
    coming = islice(enumerate(endless(installations)), installations, None)
    today = int(dt.datetime.combine(LAST_DAY, dt.time(), dt.UTC).timestamp()) * 1000
    table = Table(box=box.SIMPLE, title=f"the limit: {most:,.0f} pings a second of wall time")
    for column in ("of the limit", "pings/s", "p50, s", "p90, s", "p99, s", "most, s", "worker, CPUs", "flushes/s", "s of each", "a look, s"):  # fmt: skip
        table.add_column(column, justify="right")
    with new_place() as site, sender() as pool:
        site.send(moved(one, today) for one in pings[:installations])  # their first pings make them
        with by_default(site, as_of=LAST_DAY.isoformat()) as worker:
            worker.wait_caught_up(PATIENCE)
            for share in SHARES:
                rate = most * share
                some = [
                    moved(pings[number], today + at // installations * 60_000)
                    for at, number in islice(coming, int(rate * seconds))
                ]
                say(f"{share:.0%}: {rate:,.0f} pings a second, {len(some):,} of them")
                with site.tables() as client, Looker(client, f"installation-{FOLLOWED:05d}") as looker:
                    cpu, (count, took), begun = _cpu(worker), _flushes(worker), time.monotonic()
                    sent = pool.submit(send_evenly, site.broker.bootstrap, some, rate).result()
                    found = latencies(looker, sent)
                    wall = time.monotonic() - begun
                    after, spent = _flushes(worker), _cpu(worker) - cpu
                flushes = max(after[0] - count, 1)
                p50, p90, p99 = np.percentile(found, [50, 90, 99])
                table.add_row(
                    f"{share:.0%}", f"{len(sent) / (max(s.acknowledged for s in sent) - begun):,.0f}", f"{p50:.2f}", f"{p90:.2f}",
                    f"{p99:.2f}", f"{found.max():.2f}", f"{spent / wall:.2f}", f"{flushes / wall:.1f}",
                    f"{(after[1] - took) / flushes:.2f}", f"{np.median(looker.looks):.3f}",
                )  # fmt: skip
    table.caption = f"to reach at 50 %: p50 {P50} s, p99 {P99} s"
    console.print(table)


# ---- midnight ------------------------------------------------------------------------------------------------------------


def midnight(console: Console, scopes: int) -> None:
    """The part of that name."""
    bodies = list(messages(SMALL, 500, Filled(0, 0, 0, [], (0, 0, 0), [])))[-500:]
    say(f"making {scopes:,} pings")

    def copy(at: int, days: int = 0) -> Message:
        body = bodies[at % len(bodies)]
        return moved(body, body.timestamp_ms + days * DAY_MS, f"copy-{at:06d}".encode())

    today = (LAST_DAY - EPOCH.date()).days
    with new_place() as site, sender() as pool:
        clock = site.folder / "day"
        clock.write_text(str(today))
        site.send(map(copy, range(scopes)))
        say("a worker takes them")
        with by_default(site, "-m", "tests.clocked", str(clock)) as worker:
            worker.wait_caught_up(PATIENCE)
            with site.tables() as client:

                def there(day: int) -> int:
                    return number(
                        client,
                        f"SELECT uniqExact(scope_id) FROM pingstream.usage_day WHERE as_of = toDate32({day})",
                    )

                wait_until(lambda: there(today) >= scopes, "all have a row", PATIENCE, pause=0.5)
                time.sleep(5)
                resting = psutil.Process(worker.pid).memory_info().rss
                going = [copy(at, 1) for at in np.random.default_rng(1).permutation(int(MIDNIGHT_RATE * 30)).tolist()]
                say("midnight")
                with site.tables() as other, Looker(other, f"copy-{FOLLOWED:06d}") as looker:
                    cpu, begun = _cpu(worker), time.monotonic()
                    clock.write_text(str(today + 1))
                    sending: Future[list[Sent]] = pool.submit(send_evenly, site.broker.bootstrap, going, MIDNIGHT_RATE)
                    wait_until(lambda: there(today + 1) >= scopes, "the new day's rows", PATIENCE, pause=0.2)
                    wall, spent = time.monotonic() - begun, _cpu(worker) - cpu
                    sent = sending.result()
                    found = latencies(looker, sent)
    table = Table(box=box.SIMPLE, title=f"midnight with {scopes:,} installations of {SMALL.users} users")
    table.add_column("")
    table.add_column("measured", justify="right")
    table.add_row(f"CPU until the new day's rows are there (to reach: {MIDNIGHT_CPU:.0f} s)", f"{spent:.1f} s")
    table.add_row("wall time", f"{wall:.1f} s")
    table.add_row(f"pings that come meanwhile, {MIDNIGHT_RATE:.0f} a second: p50, p99, most", ", ".join(f"{one:.2f} s" for one in np.percentile(found, [50, 99, 100])))  # fmt: skip
    table.add_row("memory of the worker, embedded engine and all, before", f"{resting / MIB:,.0f} MiB")
    console.print(table)


# ---- recovery ------------------------------------------------------------------------------------------------------------


def recovery(console: Console, scopes: int) -> None:
    """The part of that name."""
    distinct = 500
    say(f"making {scopes * RECOVERY_DAYS:,} pings")
    bodies = list(messages(RECOVERED, distinct, Filled(0, 0, 0, [], (0, 0, 0), [])))[-RECOVERY_DAYS * distinct :]

    def every() -> Iterator[Message]:
        for day in range(RECOVERY_DAYS):
            for at in range(scopes):
                body = bodies[day * distinct + at % distinct]
                yield moved(body, body.timestamp_ms, f"copy-{at:06d}".encode())

    with new_place() as site, site.clickhouse() as server:
        settings = {
            "as_of": LAST_DAY.isoformat(),
            "clickhouse": server.found(r"PINGSTREAM_CLICKHOUSE=(http://\S+)"),
        }
        site.send(every())
        say("a worker drains them")
        drain(site, **settings)
        written = topic_bytes(site.broker, CHANGELOG)
        say("another one starts")
        begun = time.monotonic()
        with by_default(site, data_dir=str(site.folder / "another"), **settings) as worker:
            worker.wait_ready(PATIENCE)
            ready, spent = time.monotonic() - begun, _cpu(worker)
            with site.tables(settings["clickhouse"]) as client:
                first_one = next(every())
                again = moved(first_one, first_one.timestamp_ms + RECOVERY_DAYS * DAY_MS)
                site.send([again])
                wait_until(
                    lambda: number(client, f"SELECT max(toUnixTimestamp64Milli(toDateTime64(recorded_at, 3))) = "
                        f"{again.timestamp_ms} FROM pingstream.ping") == 1,
                    "a ping that comes then", PATIENCE,
                )  # fmt: skip
            first = time.monotonic() - begun
    table = Table(
        box=box.SIMPLE, title=f"a start with the state of {scopes:,} installations of {RECOVERED.users} users"
    )
    table.add_column("")
    table.add_column("measured", justify="right")
    table.add_row("changelog on disk", f"{written / MIB:,.0f} MiB")
    table.add_row(f"ready after (to reach: {READY_SECONDS:.0f} s)", f"{ready:.1f} s, {spent:.1f} s of CPU")
    table.add_row("a ping that is sent then can be read after", f"{first:.1f} s")
    console.print(table)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.latency", description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=("figures", "midnight", "recovery"))
    parser.add_argument("--installations", type=int, default=8_000, help="that send, for figures [8000]")
    parser.add_argument("--seconds", type=float, default=15.0, help="at each rate [15]")
    parser.add_argument("--scopes", type=int, default=100_000, help="at midnight [100000]")
    parser.add_argument("--recovered", type=int, default=20_000, help="installations whose state is recovered [20000]")
    chosen = parser.parse_args()
    console = Console(width=120)
    if chosen.only in (None, "figures"):
        figures(console, chosen.installations, chosen.seconds)
    if chosen.only in (None, "midnight"):
        midnight(console, chosen.scopes)
    if chosen.only in (None, "recovery"):
        recovery(console, chosen.recovered)
    return 0


if __name__ == "__main__":
    sys.exit(main())
