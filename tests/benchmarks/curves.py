"""How the cost of usage grows: CPU time a ping and an activity against installations, users, features, days, batches, repeats.

    python -m tests.benchmarks.curves [--only CURVE…] [--picture FILE]

In one process, without Kafka and ClickHouse: messages through the fold, the bytes of the state, the counts of dau, wau and
mau, and the Arrow blocks of the rows, as a worker does it while it catches up, one flush after another. Of each curve one
thing changes, and the others stay as in BASE. An activity is a user in an entry of a ping, what is repeated too.

The days before the last third are folded first and not measured: what a new installation costs is not in the curves, but in
the one of days. A figure is the CPU time of the measured flushes, the least of two runs. Tables stand on standard output,
progress on standard error; the picture is that of the docs.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from schemas.ping import EPOCH
from streams.ledger.book import Book, Rules, UsageRows
from streams.ledger.names import Names
from streams.ledger.pseudonym import Pseudonymiser
from streams.ledger.records import DAY_MS
from streams.ping_rows import plain_block
from streams.rows import figures_block
from tests.benchmarks.drain import say
from tests.benchmarks.shapes import LAST_DAY
from tests.running import ROOT
from tests.streams.ledger.record import Record

PICTURE = ROOT / "docs" / "benchmarks" / "curves.png"
END = (LAST_DAY - EPOCH.date()).days
DISTINCT = 200
"""So many installations are drawn; the others are copies of them under other names."""

RUNS = 2


@dataclass(frozen=True)
class Job:
    """What is folded.

    Attributes:
        users: of an installation; two of five use something on a day.
        features: that there are, six to a stage; a user who comes uses three of them, or all where there are fewer.
        days: with a ping of each installation.
        batch: pings of a flush.
        repeats: days before its own that a ping repeats.
    """

    installations: int = 2_000
    users: int = 30
    features: int = 18
    days: int = 12
    batch: int = 4_000
    repeats: int = 1


BASE = Job()
CURVES: dict[str, list[Job]] = {
    "installations": [
        replace(BASE, installations=n, days=days)
        for n, days in ((10, 200), (100, 120), (1_000, 24), (10_000, 9), (100_000, 3))
    ],
    "users": [
        replace(BASE, users=n, installations=installations, batch=min(4_000, 4 * installations))
        for n, installations in ((10, 6_000), (100, 600), (1_000, 60), (10_000, 6), (100_000, 1))
    ],
    "features": [replace(BASE, users=200, installations=300, features=n, batch=600) for n in (5, 18, 50, 150, 500)],
    "days": [replace(BASE, installations=400, batch=800, days=n) for n in (6, 12, 30, 90, 180)],
    "batch": [replace(BASE, batch=n) for n in (20, 200, 2_000, 4_000, 8_000)],
    "repeats": [replace(BASE, days=30, installations=600, batch=1_200, repeats=n) for n in (0, 1, 3, 7, 27)],
}
TITLES = {
    "installations": "installations of 30 users",
    "users": "users of an installation",
    "features": "features, 200 users",
    "days": "days of pings that came before and with them",
    "batch": "pings of a flush, 2,000 installations",
    "repeats": "days that a ping repeats",
}
PARTS = ("fold and state", "counts", "blocks")


class Told:
    """One installation's days: what its pings say of each, as JSON."""

    def __init__(self, job: Job, seed: int) -> None:
        self._rng = np.random.default_rng([seed, job.users, job.features])
        self._job = job
        self._ids = np.sort(self._rng.choice(job.users * 10, job.users, replace=False)) + 1
        self._days: dict[int, tuple[str, int]] = {}

    def day(self, day: int) -> tuple[str, int]:
        """The entries of a day and how many users they name."""
        found = self._days.get(day)
        if found is None:
            found = self._days[day] = self._draw(day)
            self._days.pop(day - self._job.repeats - 1, None)
        return found

    def _draw(self, day: int) -> tuple[str, int]:
        job, rng = self._job, self._rng
        here = self._ids[rng.random(job.users) < 0.4]
        uses = min(3, job.features)
        columns = rng.integers(0, job.features, (len(here), uses))  # one twice is one less
        date = (EPOCH.date()).fromordinal(EPOCH.toordinal() + day)
        told, number = [], 0
        order = np.argsort(columns, axis=None, kind="stable")
        flat, owners = columns.ravel()[order], np.repeat(here, uses)[order]
        bounds = np.searchsorted(flat, np.arange(job.features + 1))
        for column in range(job.features):
            users = np.unique(owners[bounds[column] : bounds[column + 1]]).tolist()
            if users:
                number += len(users)
                told.append(
                    f'{{"date":"{date}","stage":"stage{column // 6}","feature":"feature{column}",'
                    f'"users":[{",".join(map(str, users))}]}}'
                )
        return ",".join(told), number


def pings(job: Job) -> Iterator[tuple[list[Record], int]]:
    """Each day's records and their activities."""
    distinct = [Told(job, seed) for seed in range(min(DISTINCT, job.installations))]
    offset = 0
    for day in range(END - job.days + 1, END + 1):
        bodies = []
        for one in distinct:
            some = [one.day(day - back) for back in range(job.repeats, -1, -1)]
            bodies.append((",".join(text for text, _ in some if text), sum(number for _, number in some)))
        recorded = f"{(EPOCH.date()).fromordinal(EPOCH.toordinal() + day)}T22:00:00Z"
        records, activities = [], 0
        for number in range(job.installations):
            body, told = bodies[number % len(bodies)]
            uuid = f"installation-{number:06d}"
            value = (
                f'{{"uuid":"{uuid}","hostname":"gitlab.{number}.example","version":"18.3.1-ee","edition":"EEP",'
                f'"recorded_at":"{recorded}","active_user_count":{job.users},"activity":[{body}]}}'
            )
            records.append(Record(uuid.encode(), value.encode(), offset, day * DAY_MS + 22 * 3_600_000))
            offset += 1
            activities += told
        yield records, activities


@dataclass
class Cost:
    """Seconds of CPU of each part, for so many pings and activities."""

    parts: tuple[float, ...]
    pings: int
    activities: int

    @property
    def seconds(self) -> float:
        return sum(self.parts)


def measure(job: Job) -> Cost:
    """Folds it; only the last third of the days counts."""
    book = Book(0, {}, Names(), Pseudonymiser(b"0123456789abcdef"), Rules())
    book.claim(END)
    spent = [0.0, 0.0, 0.0]
    count = told = 0
    waiting: list[Record] = []
    for number, (records, activities) in enumerate(pings(job)):
        counts = number >= job.days - max(1, job.days // 3)
        if counts:
            count += len(records)
            told += activities
        waiting += records
        last = number == job.days - 1
        edge = number == job.days - max(1, job.days // 3) - 1  # so that no flush is of both
        while len(waiting) >= job.batch or (waiting and (last or edge)):
            some, waiting = waiting[: job.batch], waiting[job.batch :]
            marks = [time.process_time()]
            done = book.fold(some, END)
            marks.append(time.process_time())
            rows = UsageRows()
            book.rows(done, rows)
            marks.append(time.process_time())
            figures_block(rows)
            if done.plain is not None:
                plain_block([(0, 1, done.plain)])
            marks.append(time.process_time())
            if counts:
                spent = [so_far + b - a for so_far, a, b in zip(spent, marks, marks[1:], strict=False)]
    return Cost(tuple(spent), count, told)


def curve(name: str) -> list[tuple[Job, Cost]]:
    """The points of a curve."""
    found = []
    for job in CURVES[name]:
        say(f"{name}: {job}")
        found.append((job, min((measure(job) for _ in range(RUNS)), key=lambda cost: cost.seconds)))
    return found


def show(console: Console, name: str, points: list[tuple[Job, Cost]]) -> None:
    """A curve as a table."""
    table = Table(box=box.SIMPLE, title=TITLES[name])
    for column in (name, "pings", "activities", "µs a ping", *PARTS, "ns an activity"):
        table.add_column(column, justify="right")
    for job, cost in points:
        table.add_row(
            f"{getattr(job, name):,}", f"{cost.pings:,}", f"{cost.activities:,}", f"{cost.seconds / cost.pings * 1e6:,.1f}",
            *(f"{part / cost.pings * 1e6:,.1f}" for part in cost.parts), f"{cost.seconds / cost.activities * 1e9:,.0f}",
        )  # fmt: skip
    console.print(table)


def draw(curves: dict[str, list[tuple[Job, Cost]]], file: Path) -> None:
    """All curves as one picture: CPU time an activity, by its parts."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, panels = plt.subplots(2, 3, figsize=(12, 6.5), layout="constrained")
    for panel, (name, points) in zip(panels.flat, curves.items(), strict=False):
        at = [max(getattr(job, name), 0.5) for job, _ in points]
        bottom = np.zeros(len(points))
        for part, label in enumerate(PARTS):
            top = bottom + [cost.parts[part] / cost.activities * 1e9 for _, cost in points]
            panel.fill_between(at, bottom, top, label=label, alpha=0.75, linewidth=0)
            bottom = top
        panel.plot(at, bottom, color="black", linewidth=1, marker="o", markersize=3)
        panel.set_xscale("log")
        panel.set_xticks(at, [f"{getattr(job, name):,}" for job, _ in points])
        panel.minorticks_off()
        panel.set_ylim(0)
        panel.set_title(TITLES[name], fontsize=10)
        panel.set_ylabel("ns of CPU an activity", fontsize=8)
        panel.tick_params(labelsize=8)
        panel.grid(axis="y", linewidth=0.4)
    panels.flat[0].legend(fontsize=8, loc="upper right")
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=110)
    plt.close(figure)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.curves", description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="*", choices=tuple(CURVES), default=list(CURVES))
    parser.add_argument("--picture", type=Path, help=f"file to draw into [{PICTURE.relative_to(ROOT)}, of all curves]")
    chosen = parser.parse_args()
    console = Console(width=120)
    measure(replace(BASE, installations=50, days=6))  # kernels are loaded
    curves = {name: curve(name) for name in chosen.only}
    for name, points in curves.items():
        show(console, name, points)
    if chosen.picture or len(curves) == len(CURVES):
        draw(curves, chosen.picture or PICTURE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
