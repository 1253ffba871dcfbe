"""Pingstream and other engines do the same job, one after the other, on the same broker and topic.

    python -m tests.benchmarks.peers [--shape d1 d1l d2] [--systems NAME …] [--scale F] [--repeat N]

Each system is a process of its own from its start to its end; CPU time and memory are those of the process and its children,
the broker's are not in it. Every row is compared with figures that numpy computes from the seed. What each system's figure
includes and leaves out is told in docs/benchmarks.md.

Tables stand on standard output, ready for a page in Markdown, progress on standard error. A system that cannot run here is left
out with a note; wrong rows end the benchmark with exit code 1.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from deploy.kafka.broker import LocalBroker
from tests.benchmarks.drain import MIB, decoding_speed, say
from tests.benchmarks.peers.clickhouse import ClickHouse
from tests.benchmarks.peers.jobs import JOBS, WINDOWS, Figures, Job, Wrong, check, expected
from tests.benchmarks.peers.kafka_streams import KafkaStreams
from tests.benchmarks.peers.pingstream import Pingstream
from tests.benchmarks.peers.quix import Quix
from tests.benchmarks.peers.systems import Failed, Skipped, Spent, System, Task
from tests.benchmarks.shapes import Filled, messages
from tests.running import Site


def systems() -> list[System]:
    return [Pingstream(), ClickHouse(), KafkaStreams(1), KafkaStreams(2), Quix()]


def prepared(chosen: Sequence[System]) -> list[System]:
    """Those that can run here."""
    there = []
    for system in chosen:
        try:
            system.prepare()
            there.append(system)
        except Skipped as why:
            say(f"{system.name} is left out: {why}")
    return there


def run(job: Job, chosen: Sequence[System], repeat: int) -> None:
    """Fills a topic, lets all systems do the job, `repeat` times, and prints what they took."""
    filled = Filled(0, 0, 0, [], (0, 0, 0), [])
    spent: dict[str, list[Spent]] = {system.name: [] for system in chosen}
    checked: dict[str, int] = {}
    with tempfile.TemporaryDirectory(prefix="pingstream-peers-") as name:
        folder = Path(name)
        with LocalBroker(folder / "full", port=0) as broker:
            say(f"{job.name}: filling the topic with {job.pings:,} pings")
            Site(folder, broker).send(messages(job.shape, job.installations, filled))
        filled.kept.clear()
        loops = [decoding_speed(filled.samples[:2_000])]
        wanted = expected(job)
        for turn in range(1, repeat + 1):
            # A copy of the full broker: nobody's groups, changelogs or results are there from the turn before.
            copy = folder / f"turn-{turn}"
            shutil.copytree(folder / "full", copy / "kafka")
            with LocalBroker(copy / "kafka", port=0) as broker:
                for system in chosen:
                    task = Task(job, broker, copy / system.name)
                    task.folder.mkdir()
                    say(f"{job.name}: {system.name}, {turn} of {repeat}")
                    took = system.run(task)
                    spent[system.name].append(took)
                    say(f"{job.name}: {took.wall:.1f} s, {took.cpu:.1f} s of CPU; checking")
                    checked[system.name] = _check(job, system, wanted, task)
                    shutil.rmtree(task.folder)
            shutil.rmtree(copy)
        loops.append(decoding_speed(filled.samples[:2_000]))
    _print(job, filled, spent, checked, loops)


def _check(job: Job, system: System, wanted: Sequence[Figures], task: Task) -> int:
    """How many rows a system has got right."""
    return sum(
        check(job, WINDOWS[window], wanted[window], found)
        for window, found in zip(system.windows, system.figures(task), strict=True)
    )


def _spread(values: Sequence[float], digits: int = 1) -> str:
    """The median, with the smallest and largest of several."""
    middle = f"{statistics.median(values):,.{digits}f}"
    return middle if len(values) == 1 else f"{middle} ({min(values):,.{digits}f}–{max(values):,.{digits}f})"


def _print(
    job: Job, filled: Filled, spent: dict[str, list[Spent]], checked: dict[str, int], loops: Sequence[float]
) -> None:
    table = Table(box=box.MARKDOWN)
    for column in (
        job.name,
        "wall, s",
        "CPU, s",
        "peak, MiB",
        "first result, s",
        "M activities a CPU s",
        "to ours",
        "rows",
    ):
        table.add_column(column, justify="left" if column == job.name else "right")
    ours = [filled.activities / one.cpu for one in spent.get("pingstream", [])]
    for name, taken in spent.items():
        speeds = [filled.activities / one.cpu for one in taken]
        ratios = [speed / our for speed, our in zip(speeds, ours, strict=True)] if ours else []
        table.add_row(
            name,
            _spread([one.wall for one in taken]),
            _spread([one.cpu for one in taken]),
            _spread([one.memory / MIB for one in taken], 0),
            _spread([one.first for one in taken]),
            _spread([speed / 1e6 for speed in speeds], 2),
            _spread(ratios, 2) if ratios else "",
            f"{checked[name]:,}",
        )
    repeats = len(next(iter(spent.values())))
    console = Console(width=160)
    console.print(
        f"\n{job.name}: {job.installations:,} installations of {job.shape.users:,} users, {filled.pings:,} pings, "
        f"{filled.activities:,} activities; {repeats} run{'s' if repeats > 1 else ''}, medians (smallest–largest)\n"
        f"{time.strftime('%Y-%m-%d %H:%M')}, {os.cpu_count()} cores ({platform.machine()}), "
        f"load {', '.join(f'{load:.1f}' for load in os.getloadavg())} at the end; plain decoding of the same pings here: "
        f"{loops[0] / 1e6:.1f} M activities a CPU s before, {loops[1] / 1e6:.1f} M after"
    )
    console.print(table)


def main() -> None:
    every = {system.name: system for system in systems()}
    parser = argparse.ArgumentParser(description="Pingstream and other engines do the same job.")
    parser.add_argument("--shape", nargs="+", choices=[job.name for job in JOBS], default=[job.name for job in JOBS])
    parser.add_argument(
        "--systems", nargs="+", choices=every, default=list(every), metavar="NAME", help=", ".join(every)
    )
    parser.add_argument("--scale", type=float, default=1.0, help="of the shape's installations, as 0.1")
    parser.add_argument("--repeat", type=int, default=1)
    chosen = parser.parse_args()
    there = prepared([every[name] for name in chosen.systems])
    if not there:
        sys.exit("none of the systems can run here")
    for job in JOBS:
        if job.name in chosen.shape:
            try:
                run(job.scaled(chosen.scale), there, max(1, chosen.repeat))
            except (Wrong, Failed) as exc:
                sys.exit(f"{job.name}: {exc}")


if __name__ == "__main__":
    main()
