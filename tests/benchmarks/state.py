"""How small state stays, how fast a scope of a million users is counted and recovered, and what a reporting ping costs.

    python -m tests.benchmarks.state [--only PART] [--users N] [--days N]

    installation  one installation of 5,000 users, 90 days; its book in memory
    gitlab        GitLab.com by groups over 4 partitions, a day folded at once, as while catching up; the books in memory
    arriving      the same with a tenth of the users, each ping folded alone, as they arrive over the day
    worker        the pings of `gitlab` through a real broker: a worker drains them, another one starts with all the state
    gone          GitLab.com again, small: nine of ten users leave; state before and 160 days after
    pings         what pings with some 1,000 reported figures cost in ClickHouse

The bars are meant for `--users 1000000`, which takes about 10 minutes and 4 GB of memory; the default is a fifth of it.

Activity, in all of them: 40 features, of which each user has 5 favourites, popular ones more often. On a day a user comes by a
chance of his own, independent of other days (no weekends: they would compress), and uses 3 of his favourites. A ping tells of
its day and repeats the day before. In an installation the chance lies between 30 and 50 %; on GitLab.com it is 30 % on
average, beta-distributed (1.5, 3.5), every fifth user is in two or three groups, and each use lies in one of them.

State and changelog are bytes of keys and values. As written: all of them; compacted: the newest value of each key, which is
the state.

Tables stand on standard output with the bar to reach beside each figure, progress on standard error. It is a benchmark, not a
test: a missed bar is shown and fails nothing. Each part runs in a process of its own, for its peak memory.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime as dt
import json
import multiprocessing
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import psutil
from clickhouse_connect.driver.client import Client
from rich import box
from rich.console import Console
from rich.table import Table

from deploy.kafka.broker import LocalBroker
from deploy.message import Message
from schemas.ping import EPOCH
from sinks.clickhouse.connection import open_engine
from sinks.clickhouse.schema import migrate
from sinks.prometheus import Metrics
from sinks.topics import USAGE_PINGS, internal_topic
from streams.forwarder import partition_of
from streams.ledger import example
from streams.ledger.book import Book, Rules, UsageRows
from streams.ledger.forwarding import GITLAB_SCOPE
from streams.ledger.kernels import WINDOW
from streams.ledger.names import Names
from streams.ledger.pseudonym import Pseudonymiser
from streams.ledger.records import DAY_MS, PingRow
from streams.ledger.state import Version, digest_of, head_key, scope_digest, version_of
from streams.rows import RowSink
from tests.benchmarks.drain import MIB, drain, number, say, topic_bytes
from tests.benchmarks.shapes import LARGE, LAST_DAY, names
from tests.running import CHANGELOG, Site
from tests.streams.ledger.record import Record

COLUMNS = names(LARGE)
FAVOURITES = 5
USES = 3
PARTITIONS = 4
GROUPS = 200
MOST_GROUPS = 3
END = (LAST_DAY - EPOCH.date()).days
"""The last day of every part but `gone`, days since 1970: the day up to which `drain` writes rows."""

INSTALLATION_USERS, INSTALLATION_DAYS = 5_000, 90
QUIET_DAYS = 160
RESTART_SECONDS = 300.0

CELL_BYTES, ACTIVITY_BYTES, VALUE_BYTES = 16.0, 8.0, 512 * 1024.0
COUNT_SECONDS, READY_SECONDS = 1.0, 20.0

Numbers = npt.NDArray[np.int64]


# ---- what is shown -------------------------------------------------------------------------------------------------------


@dataclass
class Report:
    """Figures with the bars to reach. Plain, as it comes from another process."""

    title: str
    lines: list[tuple[str, str, str, bool]] = field(default_factory=list)

    def say(self, name: str, text: str) -> None:
        """A line without a bar."""
        self.lines.append((name, text, "", False))

    def measured(self, name: str, value: float, at_most: float, unit: str, digits: int = 1) -> None:
        """A line with a bar."""
        missed = value > at_most
        self.lines.append((name, f"{value:,.{digits}f} {unit}", f"at most {at_most:,.0f}", missed))

    def heading(self, text: str) -> None:
        """A line above those that belong together."""
        self.lines.append((f"[bold]{text}[/bold]", "", "", False))

    def print(self, console: Console) -> None:
        """As a table."""
        table = Table("figure", "measured", "to reach", "", title=self.title, box=box.SIMPLE, title_justify="left")
        for name, text, bar, missed in self.lines:
            table.add_row(
                name, text, bar, "missed" if missed else "reached" if bar else "", style="red" if missed else ""
            )
        console.print(table)


def mib(nbytes: float) -> str:
    """Bytes in words."""
    return f"{nbytes / MIB:,.1f} MiB"


def peak_memory() -> int:
    """Bytes of this process at its peak."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


# ---- who uses what -------------------------------------------------------------------------------------------------------


class Crowd:
    """Users of one installation, or of GitLab.com in groups, and the pings that tell of them. Seeded.

    Attributes:
        ids: of the users, ascending.
        chance: of each user to come on a day; 0 sends him away.
        last: [user, favourite]: the last day of its use, -1 for never.
        uses: (user, feature, day) so far.
    """

    def __init__(self, users: int, groups: int, seed: int) -> None:
        self._rng = rng = np.random.default_rng([seed, users, groups])
        self._groups = groups
        self.ids = np.sort(rng.choice(users * 20, users, replace=False)) + 1
        self.chance = rng.beta(1.5, 3.5, users) if groups else rng.uniform(0.3, 0.5, users)
        self._favourites = np.concatenate([self._choose(min(50_000, users - at)) for at in range(0, users, 50_000)])
        size = 1 / np.arange(1, max(groups, 1) + 1) ** 0.7
        self._groups_of = rng.choice(len(size), (users, MOST_GROUPS), p=size / size.sum()).astype(np.uint8)
        self._number_of_groups = rng.choice([1, 2, 3], users, p=[0.8, 0.15, 0.05]) if groups else np.ones(users, int)
        self.last = np.full((users, FAVOURITES), -1, np.int16)
        self._last_in = np.full((users, FAVOURITES, MOST_GROUPS), -1, np.int16) if groups else self.last[:, :, None]
        self._yesterday = [""] * len(size)
        self.uses = 0

    def _choose(self, users: int) -> npt.NDArray[np.uint8]:
        """Favourites, a row a user: a feature of rank r is r**0.6 times rarer than the first."""
        rarity = np.arange(1, len(COLUMNS) + 1) ** 0.6
        turn = self._rng.standard_exponential((users, len(COLUMNS))) * rarity
        return np.argpartition(turn, FAVOURITES, axis=1)[:, :FAVOURITES].astype(np.uint8)

    def pings(self, day: int) -> list[Message]:
        """The pings of a day, at 22:00. Days come in order."""
        here = np.flatnonzero(self._rng.random(len(self.ids)) < self.chance)
        slots = self._rng.random((len(here), FAVOURITES)).argsort(axis=1)[:, :USES]
        which = (self._rng.random(slots.shape) * self._number_of_groups[here, None]).astype(np.int64)
        rows = here[:, None]
        self.last[rows, slots] = day
        self._last_in[rows, slots, which] = day
        self.uses += slots.size
        today = _entries(
            day,
            self._groups_of[rows, which].ravel(),
            self._favourites[rows, slots].ravel(),
            np.repeat(self.ids[here], USES),
            len(self._yesterday),
        )
        moment = day * DAY_MS + 22 * 3_600_000
        told = [
            self._ping(group, f"{before},{now}" if before and now else before or now, moment + group)
            for group, (before, now) in enumerate(zip(self._yesterday, today, strict=True))
        ]
        self._yesterday = today
        return told

    def _ping(self, group: int, activity: str, moment: int) -> Message:
        recorded_at = (EPOCH + dt.timedelta(milliseconds=moment)).isoformat().replace("+00:00", "Z")
        where, key = '"hostname":"gitlab.acme.example"', "6f1a52d0"
        if self._groups:
            where, key = f'"hostname":"gitlab.com","namespace_id":"{9_000 + group}"', f"6f1a52d0:{9_000 + group}"
        value = (
            f'{{"uuid":"6f1a52d0",{where},"version":"18.3.1-ee","edition":"EEU","recorded_at":"{recorded_at}",'
            f'"activity":[{activity}]}}'
        )
        return Message(USAGE_PINGS, key.encode(), value.encode(), moment)

    def mau(self, day: int) -> int:
        """Users active in the 28 days up to `day`, the last one told of."""
        return int((self.last > day - WINDOW).any(axis=1).sum())

    def cells(self, day: int) -> int:
        """(user, feature) in that window."""
        return int((self.last > day - WINDOW).sum())

    def group_cells(self, day: int) -> int:
        """(group, user, feature) in that window. (Who drew one group twice is in it once.)"""
        recent = self._last_in > day - WINDOW
        for later, earlier in ((1, 0), (2, 0), (2, 1)):
            same = (self._groups_of[:, later] == self._groups_of[:, earlier])[:, None]
            recent[:, :, later] &= ~(same & recent[:, :, earlier])
        return int(recent.sum())


def _entries(
    day: int, groups: npt.NDArray[np.uint8], columns: npt.NDArray[np.uint8], ids: Numbers, number: int
) -> list[str]:
    """A day's entries as JSON, joined, for each of so many groups."""
    place = groups.astype(np.uint16) * np.uint16(len(COLUMNS)) + columns
    order = np.argsort(place, kind="stable")
    texts = list(map(str, ids[order].tolist()))
    bounds = np.searchsorted(place[order], np.arange(number * len(COLUMNS) + 1)).tolist()
    date = (EPOCH + dt.timedelta(day)).date()
    heads = [f'{{"date":"{date}","stage":"{stage}","feature":"{feature}","users":[' for stage, feature in COLUMNS]
    told = []
    for group in range(number):
        lo = group * len(COLUMNS)
        spans = zip(heads, bounds[lo:], bounds[lo + 1 :], strict=False)
        told.append(",".join(f"{head}{','.join(texts[a:b])}]}}" for head, a, b in spans if b > a))
    return told


def days_of(crowd: Crowd, days: int) -> Iterator[tuple[int, list[Message]]]:
    """Each day up to END with its pings."""
    for day in range(END - days + 1, END + 1):
        yield day, crowd.pings(day)


# ---- books in memory -----------------------------------------------------------------------------------------------------

SHARDS, SCOPES, OWN = "shards", "scopes", "partitions"
DELTA_MARK = b"d"
"""Byte of a delta's key behind the scope's digest."""


def _kind(key: bytes) -> str:
    digest = digest_of(key)
    return OWN if digest is None else SHARDS if digest == scope_digest(GITLAB_SCOPE) else SCOPES


class Stored(NamedTuple):
    """Bytes of the newest value of each key: the state.

    live, dead: deltas on the base that stands, and on older ones, which wait to be written over.
    """

    bases: int
    live: int
    dead: int

    @property
    def nbytes(self) -> int:
        return sum(self)


class Changelog:
    """What was written to a changelog: bytes of keys and values."""

    def __init__(self) -> None:
        self.written: Counter[str] = Counter()
        self.records = 0
        self.largest = 0
        self._newest: dict[tuple[int, bytes], tuple[int, Version]] = {}

    def take(self, partition: int, key: bytes, value: bytes) -> None:
        """One record."""
        size = len(key) + len(value)
        self.written[_kind(key)] += size
        self.records += 1
        self.largest = max(self.largest, len(value))
        self._newest[partition, key] = size, version_of(value)

    def stored(self, kind: str) -> Stored:
        """What compaction leaves."""
        bases = live = dead = 0
        for (partition, key), (size, version) in self._newest.items():
            if _kind(key) != kind:
                continue
            digest = digest_of(key)
            if digest is None or not key.startswith(DELTA_MARK, 1 + len(digest)):
                bases += size
            elif version > self._newest[partition, head_key(digest)][1]:
                live += size
            else:
                dead += size
        return Stored(bases, live, dead)


class Books:
    """The books of all partitions in memory, with the internal topic between them."""

    def __init__(self, partitions: int, as_of: int) -> None:
        rules = Rules(partitions=partitions, partition_of=lambda key: partition_of(key, partitions))
        pseudonymiser = Pseudonymiser(b"0123456789abcdef")
        self.names = Names()
        self.books = [Book(p, {}, self.names, pseudonymiser, rules) for p in range(partitions)]
        self.changelog = Changelog()
        self._offsets = [0] * partitions
        self._delivered = [0] * partitions
        self._waiting: list[list[Record]] = [[] for _ in range(partitions)]
        for partition, book in enumerate(self.books):
            self.changelog.take(partition, *book.claim(as_of))

    def take(self, messages: Iterable[Message], as_of: int, together: bool) -> None:
        """Folds messages and what comes of them in the internal topic: each ping alone, as it is while they arrive over the
        day, or together, as when a worker catches up."""
        sources: list[list[Record]] = [[] for _ in self.books]
        for message in messages:
            partition = partition_of(message.key or b"", len(self.books))
            sources[partition].append(
                Record(message.key, message.value, self._offsets[partition], message.timestamp_ms)
            )
            self._offsets[partition] += 1
            if not together:
                self._flush(partition, sources[partition], as_of)
                sources[partition] = []
                self._settle(as_of)
        for partition, records in enumerate(sources):
            self._flush(partition, records, as_of)
        self._settle(as_of)

    def _settle(self, as_of: int) -> None:
        while any(self._waiting):
            for partition in range(len(self.books)):
                self._flush(partition, [], as_of)

    def _flush(self, partition: int, records: list[Record], as_of: int) -> None:
        arrived, self._waiting[partition] = self._waiting[partition], []
        if not records and not arrived:
            return
        folded = self.books[partition].fold(records, as_of, arrived)
        for change in folded.changes:
            self.changelog.take(partition, *change)
        for forward in folded.forwards:
            to = partition_of(forward.key, len(self.books)) if forward.partition is None else forward.partition
            self._waiting[to].append(Record(forward.key, forward.value, self._delivered[to], forward.timestamp))
            self._delivered[to] += 1

    def roll(self, as_of: int) -> None:
        """The as-of clock moves on; its rows are not counted here."""
        for partition, book in enumerate(self.books):
            for change in (*book.retire(book.all_scopes()), book.rolled(as_of)):
                self.changelog.take(partition, *change)

    def count(self, day: int) -> tuple[int, float]:
        """GitLab.com's mau, and the CPU seconds that all its figures of a day took, over all shards."""
        shards = [scope for book in self.books for scope in book.all_scopes() if scope.key == GITLAB_SCOPE]
        begun = time.process_time()
        mau = 0
        for partition, scope in enumerate(shards):
            usage = UsageRows()
            usage.add(self.books[partition].directory, [(scope, day, day)], partition)
            mau += int(usage.figures.mau[0])  # the total comes first
        return mau, time.process_time() - begun

    def users(self, kind: str) -> int:
        """Users that ledgers hold, a user of two scopes twice."""
        return sum(
            scope.ledger.count
            for book in self.books
            for scope in book.all_scopes()
            if (scope.key == GITLAB_SCOPE) == (kind == SHARDS)
        )

    def nbytes(self) -> int:
        """Bytes of the ledgers' arrays."""
        ledgers = [scope.ledger for book in self.books for scope in book.all_scopes()]
        return sum(one.masks.nbytes + one.users.nbytes + one.slots.nbytes + one.sessions.nbytes for one in ledgers)


def _state(report: Report, changelog: Changelog, kind: str, cells: int, uses: int) -> None:
    """The figures of one kind of scopes."""
    stored, written = changelog.stored(kind), changelog.written[kind]
    name = "GitLab.com's shards" if kind == SHARDS else "installations, groups"
    report.heading(name)
    report.say("(user, feature) active in the window", f"{cells:,}")
    report.measured("state of each", stored.nbytes / cells, CELL_BYTES, "bytes")
    report.say("state", mib(stored.nbytes))
    report.say("… bases, deltas, deltas of older bases", ", ".join(map(mib, stored)))
    report.say("changelog a new activity, as written", f"{written / uses:,.2f} bytes ({mib(written)})")
    report.measured("… once compacted", stored.nbytes / uses, ACTIVITY_BYTES, "bytes", 2)


def installation(users: int, days: int) -> Report:
    """One installation, a ping a day."""
    crowd, books = Crowd(users, 0, 2026), Books(1, END)
    begun = time.process_time()
    heaviest = 0.0
    for day, messages in days_of(crowd, days):
        books.take(messages, day, together=False)
        books.roll(day)
        if day > END - WINDOW:
            heaviest = max(heaviest, books.changelog.stored(SCOPES).nbytes / crowd.cells(day))
    report = Report(f"installation: {users:,} users, {len(COLUMNS)} features, after {days} days")
    report.say("new activities", f"{crowd.uses:,} ({crowd.uses / days:,.0f} a day)")
    report.say("CPU time, making the pings included", f"{time.process_time() - begun:.1f} s")
    _state(report, books.changelog, SCOPES, crowd.cells(END), crowd.uses)
    report.measured("state of each on the heaviest of 28 days", heaviest, CELL_BYTES, "bytes")
    report.say("the ledger's arrays, of each", f"{books.nbytes() / crowd.cells(END):.1f} bytes in memory")
    report.measured("largest value", books.changelog.largest, VALUE_BYTES, "bytes", 0)
    report.say("records written", f"{books.changelog.records:,}")
    return report


def gitlab(users: int, days: int, together: bool) -> Report:
    """GitLab.com by groups."""
    part = "gitlab" if together else "arriving"
    crowd, books = Crowd(users, GROUPS, 2026), Books(PARTITIONS, END)
    before, folding = peak_memory(), 0.0
    for at, (day, messages) in enumerate(days_of(crowd, days), 1):
        begun = time.process_time()
        books.take(messages, day, together)
        books.roll(day)
        folding += time.process_time() - begun
        if at % 7 == 0:
            say(f"{part}: day {at} of {days}, {folding:.0f} s of CPU in the books")
    report = Report(
        f"{part}: GitLab.com, {users:,} users in {GROUPS} groups, {PARTITIONS} partitions, after {days} days, "
        f"folded {'a day at once' if together else 'ping by ping'}"
    )
    report.say("new activities", f"{crowd.uses:,} ({crowd.uses / days / USES:,.0f} users a day, {USES} features each)")
    report.say("CPU in the books", f"{folding:.1f} s, {crowd.uses / folding:,.0f} new activities a second")
    example.run()  # the kernels are loaded
    seconds = min(books.count(END)[1] for _ in range(3))
    report.measured("CPU to count a day of the whole scope", seconds, COUNT_SECONDS, "s", 2)
    mau, wanted = books.count(END)[0], crowd.mau(END)
    report.say("MAU by the shards", f"{mau:,} ({'right' if mau == wanted else f'wrong: it is {wanted:,}'})")
    report.say("peak memory", f"{mib(peak_memory())} ({mib(before)} before the first ping)")
    report.say("… the ledgers' arrays", mib(books.nbytes()))
    _state(report, books.changelog, SHARDS, crowd.cells(END), crowd.uses)
    _state(report, books.changelog, SCOPES, crowd.group_cells(END), crowd.uses)
    report.heading("all")
    report.measured("largest value", books.changelog.largest, VALUE_BYTES, "bytes", 0)
    report.say("records written", f"{books.changelog.records:,}")
    report.say("partitions' own records, as written", mib(books.changelog.written[OWN]))
    return report


def gone(users: int, days: int) -> Report:
    """Nine of ten users leave after `days` days; the others go on."""
    crowd, books = Crowd(users, GROUPS // 10, 2027), Books(PARTITIONS, END)
    report = Report(f"gone: GitLab.com, {users:,} users, of whom nine of ten leave after {days} days")
    for day in range(END + 1, END + 1 + days + QUIET_DAYS):
        if day == END + 1 + days:
            _sizes(report, books, "before they leave", crowd.cells(day - 1))
            crowd.chance[np.random.default_rng(2027).random(users) < 0.9] = 0
            say(f"gone: {int((crowd.chance > 0).sum()):,} of {users:,} users stay")
        books.take(crowd.pings(day), day, together=True)
        books.roll(day)
    _sizes(report, books, f"{QUIET_DAYS} days later", crowd.cells(day))
    here, left = crowd.chance > 0, crowd.last.max(axis=1) >= 0
    report.say("users who stay, users who left", f"{int((here & left).sum()):,}, {int((~here & left).sum()):,}")
    return report


def _sizes(report: Report, books: Books, when: str, cells: int) -> None:
    for kind in (SHARDS, SCOPES):
        state = books.changelog.stored(kind).nbytes
        name = "GitLab.com's shards" if kind == SHARDS else "groups"
        report.say(f"{name}, {when}", f"{state:,} bytes of state, {books.users(kind):,} users in the ledgers")
    report.say(f"(user, feature) active in the window, {when}", f"{cells:,}")


# ---- a real worker -------------------------------------------------------------------------------------------------------


def worker(users: int, days: int) -> Report:
    """The pings of `gitlab` through a broker: drained, then a start with all the state."""
    crowd = Crowd(users, GROUPS, 2026)
    report = Report(f"worker: GitLab.com, {users:,} users in {GROUPS} groups, {PARTITIONS} partitions, {days} days")
    with tempfile.TemporaryDirectory(prefix="pingstream-state-") as name:
        folder = Path(name)
        with LocalBroker(folder / "kafka", port=0) as broker:
            site = Site(folder, broker, {"partitions": str(PARTITIONS)})
            say("worker: filling the topic")
            site.send(message for _, messages in days_of(crowd, days) for message in messages)
            report.say("new activities", f"{crowd.uses:,}")
            report.say("messages", mib(topic_bytes(broker, USAGE_PINGS)) + " in the topic, compressed")
            say(f"worker: draining {crowd.uses:,} new activities")
            spent = drain(site, flush_seconds="0.25")
            report.say("drain: wall, CPU time", f"{spent.wall:.1f} s, {spent.cpu:.1f} s")
            report.say(
                "drain: new activities/s of wall, CPU", f"{crowd.uses / spent.wall:,.0f}, {crowd.uses / spent.cpu:,.0f}"
            )
            report.say("drain: peak memory", mib(spent.memory))
            _written(report, site, crowd)
            report.say("internal topic on disk", mib(topic_bytes(broker, internal_topic("usage-pings"))))
            with site.tables() as client:
                mau = number(
                    client,
                    f"SELECT mau FROM pingstream.kpi_mau WHERE as_of = '{LAST_DAY}' AND population = 'gitlab_com'",
                )
            wanted = crowd.mau(END)
            report.say("kpi_mau", f"{mau:,} ({'right' if mau == wanted else f'wrong: it is {wanted:,}'})")
            _restart(report, site, crowd)
    return report


def _written(report: Report, site: Site, crowd: Crowd) -> None:
    say("worker: reading the changelog")
    changelog = Changelog()
    for record in site.read(CHANGELOG):
        changelog.take(record.partition, record.key, record.value)
    _state(report, changelog, SHARDS, crowd.cells(END), crowd.uses)
    _state(report, changelog, SCOPES, crowd.group_cells(END), crowd.uses)
    report.measured("largest value", changelog.largest, VALUE_BYTES, "bytes", 0)
    report.say(
        "changelog: records, bytes, on disk",
        f"{changelog.records:,}, {mib(changelog.written.total())}, {mib(topic_bytes(site.broker, CHANGELOG))}",
    )


def _restart(report: Report, site: Site, crowd: Crowd) -> None:
    """A worker that finds all state in a changelog that is not compacted yet, and then the next ping."""
    say("worker: starting again")
    begun = time.monotonic()
    with site.worker(as_of=LAST_DAY.isoformat()) as again:
        again.wait_ready(RESTART_SECONDS)
        report.measured("restart: from start to ready", time.monotonic() - begun, READY_SECONDS, "s")
        process = psutil.Process(again.pid)
        spent = process.cpu_times()
        report.say("restart: CPU until then", f"{spent.user + spent.system:.1f} s")
        begun = time.monotonic()
        last = crowd.pings(END)[0]
        site.send([last._replace(value=last.value.replace(b"T22:00:00", b"T23:00:00"))])
        again.wait_read(1, RESTART_SECONDS)
        report.say("restart: from ready to a first ping applied", f"{time.monotonic() - begun:.1f} s")
        again.wait_caught_up(RESTART_SECONDS)
        report.say("restart: … and to nothing left to do", f"{time.monotonic() - begun:.1f} s")
        report.say("restart: memory then", mib(process.memory_info().rss))


# ---- pings in ClickHouse -------------------------------------------------------------------------------------------------

INSTALLATIONS, WEEKS = 200, 10
REPORTED_STAGES, REPORTED_FEATURES = 12, 85


class Reporting:
    """Installations that report: 1,020 features, of which each lacks 2 %, half of the others are 0 and the rest moves by 3 %
    from week to week."""

    def __init__(self) -> None:
        self._rng = rng = np.random.default_rng(2028)
        shape = INSTALLATIONS, REPORTED_STAGES * REPORTED_FEATURES
        people = rng.lognormal(5, 1.5, INSTALLATIONS)[:, None]
        share = rng.beta(0.4, 3, shape[1]) * rng.lognormal(0, 0.5, shape)
        self._usual = people * np.minimum(share, 1) * (rng.random(shape) < 0.5)
        self._known = rng.random(shape) >= 0.02
        self._hashes = [rng.bytes(32).hex() for _ in range(INSTALLATIONS)]

    def pings(self, week: int) -> Iterator[Record]:
        """One of each installation."""
        users = np.rint(self._usual * self._rng.normal(1, 0.03, self._usual.shape)).astype(np.int64)
        moment = EPOCH + dt.timedelta(END + 7 * week)
        for at, (numbers, known) in enumerate(zip(users.tolist(), self._known.tolist(), strict=True)):
            monthly: dict[str, dict[str, int]] = {"manage": {"events": max(numbers)}}
            for place, (value, there) in enumerate(zip(numbers, known, strict=True)):
                stage, feature = divmod(place, REPORTED_FEATURES)
                monthly.setdefault(f"stage_{stage:02d}", {})[f"users_of_feature_{feature:02d}"] = value if there else -1
            ping = {
                "uuid": self._hashes[at][:36],
                "hostname": f"gitlab.company-{at:03d}.example",
                "recorded_at": f"{moment:%Y-%m-%dT}{at // 60:02d}:{at % 60:02d}:00Z",
                "version": f"18.{week // 4}.1-ee",
                "edition": "EEP",
                "active_user_count": max(numbers) * 2,
                "license_sha256": self._hashes[at],
                "license_subscription_id": str(70_000 + at),
                "counts": {"issues": sum(numbers), "uploads": -1},
                "usage_activity_by_stage_monthly": monthly,
            }
            timestamp = int(moment.timestamp() * 1000) + at * 60_000
            yield Record(
                self._hashes[at][:36].encode(), json.dumps(ping).encode(), week * INSTALLATIONS + at, timestamp
            )


def pings() -> Report:
    """What reporting pings cost in ClickHouse: read by a book, written by the worker's own sink, a block a week."""
    reporting, ledger_names = Reporting(), Names()
    book = Book(0, {}, ledger_names, Pseudonymiser(b"0123456789abcdef"), Rules())
    rows: list[PingRow] = []
    known = 0
    report = Report(f"pings: {INSTALLATIONS} installations, {WEEKS} weekly pings of each, in ClickHouse")
    with tempfile.TemporaryDirectory(prefix="pingstream-pings-") as folder, open_engine(Path(folder) / "db") as engine:
        client = engine.client()
        migrate(client, "pingstream")
        client.command("SYSTEM STOP MERGES pingstream.ping")
        sink = RowSink(lambda: engine.client("pingstream"), "pingstream", Metrics("benchmark"))
        for week in range(WEEKS):
            rows = book.fold(list(reporting.pings(week)), END + 7 * week).pings
            known += sum(len(row.reported or ()) for row in rows)
            assert asyncio.run(sink.write(ledger_names, UsageRows(), [(0, 1, row) for row in rows], [], lambda: True))
        sink.close()
        report.say("known reported figures a ping", f"{known / (WEEKS * INSTALLATIONS):,.0f}")
        _columns(report, client, "as inserted, a block a week")
        client.command("SYSTEM START MERGES pingstream.ping")
        client.command("OPTIMIZE TABLE pingstream.ping FINAL")
        _columns(report, client, "merged")
        report.say(
            "their names, once for all pings", f"{number(client, 'SELECT count() FROM pingstream.figure_name'):,} rows"
        )
    return report


def _columns(report: Report, client: Client, when: str) -> None:
    """Bytes on disk a ping, of the columns that matter; `rest` is everything else in the parts."""
    parts = "database = 'pingstream' AND table = 'ping' AND active"
    count = number(client, f"SELECT sum(rows) FROM system.parts WHERE {parts}")
    whole = number(client, f"SELECT sum(bytes_on_disk) FROM system.parts WHERE {parts}")
    found = client.query(
        "SELECT column, sum(column_bytes_on_disk), sum(column_data_uncompressed_bytes) FROM system.parts_columns "
        f"WHERE {parts} AND column IN ('reported_names', 'reported_mau') GROUP BY column ORDER BY column DESC"
    ).result_rows
    report.say(f"a ping, {when}", f"{whole / count:,.0f} bytes")
    if all(stored for _, stored, _ in found):  # parts of one file do not say what each column takes
        for column, stored, plain in found:
            report.say(f"… {column}", f"{stored / count:,.0f} bytes ({plain / count:,.0f} uncompressed)")
        report.say("… the rest", f"{(whole - sum(stored for _, stored, _ in found)) / count:,.0f} bytes")


# ---- the command ---------------------------------------------------------------------------------------------------------


def main() -> None:
    parser = argparse.ArgumentParser(
        description="How small state stays, and how fast it is counted and recovered.",
        epilog="example: python -m tests.benchmarks.state --only gitlab --only worker --users 1000000",
    )
    only = ("installation", "gitlab", "arriving", "worker", "gone", "pings")
    parser.add_argument("--only", choices=only, action="append", help="a part; may be given more than once")
    parser.add_argument(
        "--users", type=int, default=200_000, help="of GitLab.com; the bars are for 1000000 (default 200000)"
    )
    parser.add_argument("--days", type=int, default=28, help="of GitLab.com (default 28)")
    chosen = parser.parse_args()
    parts: dict[str, tuple[Callable[..., Report], tuple[int, ...]]] = {
        "installation": (installation, (INSTALLATION_USERS, INSTALLATION_DAYS)),
        "gitlab": (gitlab, (chosen.users, chosen.days, True)),
        "arriving": (gitlab, (chosen.users // 10, chosen.days, False)),
        "worker": (worker, (chosen.users, chosen.days)),
        "gone": (gone, (chosen.users // 20, 60)),
        "pings": (pings, ()),
    }
    console = Console(width=None if sys.stdout.isatty() else 120)
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), max_tasks_per_child=1) as pool:
        for name in chosen.only or only:
            say(name)
            part, arguments = parts[name]
            pool.submit(part, *arguments).result().print(console)


if __name__ == "__main__":
    main()
