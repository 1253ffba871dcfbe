"""How fast one worker drains a full topic into embedded ClickHouse: all of it, decode, fold, changelog, rows, commit.

    python -m tests.benchmarks.drain [--shape small|large|both] [--installations N]

Figures stand on standard output, progress on standard error. Machines differ, and one machine from minute to minute:
compare the lines that are given as a ratio to a fixed loop, which is measured in the same run.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from clickhouse_connect.driver.client import Client

from deploy.kafka import properties
from deploy.kafka.broker import LocalBroker
from tests.benchmarks.shapes import DAYS, FIRST_DAY, LARGE, LAST_DAY, SMALL, Filled, Shape, messages, names
from tests.running import CHANGELOG, Site, environment

MIB = 1024 * 1024
LOOP_SECONDS = 2.0


def say(sentence: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {sentence}", file=sys.stderr, flush=True)


@dataclass
class Spent:
    """What a worker's process took: seconds of wall time and CPU time, bytes of memory at its peak."""

    wall: float
    cpu: float
    memory: int


def drain(site: Site, **settings: str) -> Spent:
    """Runs `worker --drain` to its end.

    Raises:
        SystemExit: it failed; its log is shown.
    """
    arguments = site.worker_arguments("--drain", **({"as_of": LAST_DAY.isoformat()} | settings))
    log = site.folder / "worker.log"
    begun = time.monotonic()
    with log.open("wb") as err:
        worker = subprocess.Popen(
            [sys.executable, "-m", "deploy.cli.main", *arguments],
            cwd=site.folder, env=environment(), stdin=subprocess.DEVNULL, stdout=err, stderr=err,
        )  # fmt: skip
        try:
            _, status, usage = os.wait4(worker.pid, 0)
        except BaseException:
            worker.kill()
            raise
    worker.returncode = os.waitstatus_to_exitcode(status)
    wall = time.monotonic() - begun
    if worker.returncode:
        sys.exit(f"the worker failed with {worker.returncode}:\n{log.read_text()[-4000:]}")
    unit = 1 if sys.platform == "darwin" else 1024
    return Spent(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * unit)


class _Activity(msgspec.Struct):
    date: str
    stage: str
    feature: str
    users: list[int]


class _Ping(msgspec.Struct):
    uuid: str
    recorded_at: str
    activity: list[_Activity]


def decoding_speed(samples: list[bytes]) -> float:
    """Activities a second of CPU that a plain decode of the same pings reaches here and now: the machine's own speed."""
    decode = msgspec.json.Decoder(_Ping).decode
    activities = 0
    begun = time.process_time()
    while time.process_time() < begun + LOOP_SECONDS:
        for value in samples:
            activities += sum(len(entry.users) for entry in decode(value).activity)
    return activities / (time.process_time() - begun)


def topic_bytes(broker: LocalBroker, topic: str) -> int:
    """Bytes of a topic's log on disk."""
    folder = broker.data_dir / properties.TOPICS
    return sum(path.stat().st_size for path in folder.glob(f"{topic}-*/*.log"))


def best(client: Client, query: str) -> tuple[float, int]:
    """(seconds, rows) of a query: the best of three, its result taken whole by the engine."""
    times = []
    rows = 0
    for _ in range(3):
        begun = time.monotonic()
        rows = int(client.query(f"SELECT count(), sum(cityHash64(*)) FROM ({query})").first_row[0])
        times.append(time.monotonic() - begun)
    return min(times), rows


def number(client: Client, query: str) -> int:
    return int(client.query(query).first_row[0] or 0)


def check(client: Client, shape: Shape, filled: Filled) -> int:
    """Compares figures with numpy; gives how many.

    Raises:
        SystemExit: one differs.
    """
    wanted: dict[tuple[Any, ...], tuple[int, ...]] = {}
    columns = names(shape)
    for one in filled.kept:
        scope = f"{one.uuid}@gitlab.{one.uuid}.example"
        for day in (0, 6, 20, 27, 28, DAYS - 1):
            date = FIRST_DAY.fromordinal(FIRST_DAY.toordinal() + day)
            spans = {("", ""): slice(None), columns[0]: slice(1), columns[-1]: slice(len(columns) - 1, None)}
            spans[columns[0][0], ""] = slice(shape.features)
            for name, span in spans.items():
                counts = tuple(one.users(day, window, span) for window in (1, 7, 28))
                if counts[-1]:
                    wanted[date, scope, *name] = counts
    scopes = sorted({key[1] for key in wanted})
    rows = client.query(
        "SELECT as_of, scope_id, stage, feature, dau, wau, mau FROM pingstream.usage_kpi WHERE scope_id IN {scopes:Array(String)}",
        parameters={"scopes": scopes},
    ).result_rows
    found = {tuple(row[:4]): tuple(row[4:]) for row in rows}
    wrong = {key: (counts, found.get(key)) for key, counts in wanted.items() if found.get(key) != counts}
    if wrong:
        sys.exit(f"{len(wrong)} of {len(wanted)} figures are wrong, as {next(iter(wrong.items()))}")
    totals = client.query(f"SELECT dau, wau, mau FROM pingstream.kpi_mau WHERE as_of = '{LAST_DAY}'").result_rows
    if [tuple(row) for row in totals] != [filled.totals]:
        sys.exit(f"kpi_mau of the last day is {totals}, not {filled.totals}")
    return len(wanted) + 3


def run(shape: Shape, installations: int) -> None:
    """Fills, drains, checks, prints."""
    with tempfile.TemporaryDirectory(prefix="pingstream-bench-") as name:
        folder = Path(name)
        (folder / "idle").mkdir()
        say(f"{shape.name}: a worker with nothing to do, for comparison")
        with LocalBroker(folder / "idle-kafka", port=0) as broker:
            idle = drain(Site(folder / "idle", broker))
        with LocalBroker(folder / "kafka", port=0) as broker:
            site = Site(folder, broker)
            filled = Filled(0, 0, 0, [], (0, 0, 0), [])
            say(f"{shape.name}: filling the topic with {installations * DAYS:,} pings")
            site.send(messages(shape, installations, filled))
            say(f"{shape.name}: draining {filled.pings:,} pings, {filled.activities:,} activities")
            loop = decoding_speed(filled.samples[:2_000])
            spent = drain(site, flush_seconds="0.25")
            say(f"{shape.name}: checking")
            changelog = topic_bytes(broker, CHANGELOG)
            with site.tables() as client:
                checked = check(client, shape, filled)
                rows = number(client, "SELECT count() FROM pingstream.usage_day FINAL")
                figures = number(client, "SELECT sum(length(names)) FROM pingstream.usage_day FINAL")
                stored = number(client, "SELECT sum(length(names)) FROM pingstream.usage_day")
                pings = number(client, "SELECT count() FROM pingstream.usage_ping")
            if pings != filled.pings:
                sys.exit(f"usage_ping has {pings:,} rows for {filled.pings:,} pings")
            written = _written(site.folder)
    _print(shape, installations, filled, spent, idle, loop, changelog, rows, figures, max(stored, written), checked)


def _written(folder: Path) -> int:
    """Figures that the worker says it has written; 0 when it says nothing."""
    found = re.search(r"figures[\"']?[=:] ?(\d+)", (folder / "worker.log").read_text())
    return int(found.group(1)) if found else 0


def _print(
    shape: Shape,
    installations: int,
    filled: Filled,
    spent: Spent,
    idle: Spent,
    loop: float,
    changelog: int,
    rows: int,
    figures: int,
    written: int,
    checked: int,
) -> None:
    net = Spent(spent.wall - idle.wall, spent.cpu - idle.cpu, spent.memory - idle.memory)
    per_cpu = filled.activities / spent.cpu
    print(f"\n{shape.name}: {installations:,} installations of {shape.users:,} users, {DAYS} days")
    lines = [
        (
            "pings, activities",
            f"{filled.pings:,}, {filled.activities:,} ({filled.activities / filled.pings:,.0f} a ping)",
        ),
        ("message bytes", f"{filled.nbytes / MIB:,.0f} MiB"),
        (
            "wall, CPU time",
            f"{spent.wall:.1f} s, {spent.cpu:.1f} s (an idle worker's: {idle.wall:.1f} s, {idle.cpu:.1f} s)",
        ),
        ("pings/s of wall, CPU", f"{filled.pings / spent.wall:,.0f}, {filled.pings / spent.cpu:,.0f}"),
        ("activities/s of wall, CPU", f"{filled.activities / spent.wall:,.0f}, {per_cpu:,.0f}"),
        ("… without start and end", f"{filled.activities / net.wall:,.0f}, {filled.activities / net.cpu:,.0f}"),
        ("plain decoding here", f"{loop:,.0f} activities/s of CPU"),
        (
            "ratio to plain decoding",
            f"{per_cpu / loop:.3f} ({filled.activities / net.cpu / loop:.3f} without start and end)",
        ),
        ("peak memory", f"{spent.memory / MIB:,.0f} MiB (an idle worker's: {idle.memory / MIB:,.0f} MiB)"),
        ("changelog", f"{changelog / MIB:,.1f} MiB, {changelog / filled.activities:.2f} bytes an activity"),
        ("usage_day", f"{rows:,} rows, {figures:,} figures in the end"),
        ("figures written", f"{written:,}, {written / figures:.2f} a figure, {written / filled.pings:.1f} a ping"),
        ("figures checked", f"{checked:,}"),
    ]
    for name, text in lines:
        print(f"  {name:<26} {text}")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description="How fast one worker drains a full topic.")
    parser.add_argument("--shape", choices=["small", "large", "both"], default="both")
    parser.add_argument("--installations", type=int, default=None, help="fewer (or more) than the shape has")
    chosen = parser.parse_args()
    for shape in (SMALL, LARGE):
        if chosen.shape in (shape.name, "both"):
            run(shape, chosen.installations or shape.installations)


if __name__ == "__main__":
    main()
