"""All books of a topic in memory, with the internal topic between them, and what they would have written."""

from __future__ import annotations

import datetime as dt
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Literal

import numpy as np

from schemas.ping import EPOCH, micros
from streams.forwarder import partition_of
from streams.ledger.book import Book, Folded, Rules, UsageRows
from streams.ledger.names import Names
from streams.ledger.plain.folding import PlainRows
from streams.ledger.pseudonym import Pseudonymiser
from streams.ledger.records import PingRow, attempt_of
from streams.ping_rows import plain_block
from tests.oracle import usage as oracle
from tests.streams.ledger.record import Record

EPOCH_DAY = EPOCH.date()
KEY = b"0123456789abcdef"

Crash = Literal["after forwards", "in state", "after state"]
CRASHES: tuple[Crash, ...] = ("after forwards", "in state", "after state")


def day(date: dt.date) -> int:
    """Days since 1970."""
    return (date - EPOCH_DAY).days


class World:
    """Books 0..partitions-1, each with a source partition and one of the internal topic.

    Attributes:
        sources, internal: the logs; `read`: how much of each is committed.
        letters: reason by (partition, offset); outcomes: of committed flushes.
        figures_written: elements handed to the sink.
    """

    def __init__(self, sources: Sequence[Sequence[Record]], as_of: dt.date) -> None:
        self.partitions = len(sources)
        self.sources = [list(records) for records in sources]
        self.internal: list[list[Record]] = [[] for _ in sources]
        self.read = [[0, 0] for _ in sources]
        self.as_of = day(as_of)
        self.names = Names()
        self.values: list[dict[bytes, bytes]] = [{} for _ in sources]
        self.rows: dict[tuple[str, str, int, int], tuple[int, list[tuple[str, str, int, int, int, int]], int]] = {}
        self.pings: dict[tuple[str, str, str, int], PingRow] = {}
        self.outcomes: Counter[str] = Counter()
        self.letters: dict[tuple[int, int], str] = {}
        self.figures_written = 0
        self.forgotten = 0
        self.books: list[Book] = [self._open(partition) for partition in range(self.partitions)]

    def _open(self, partition: int) -> Book:
        rules = Rules(partitions=self.partitions, partition_of=lambda key: partition_of(key, self.partitions))
        book = Book(partition, dict(self.values[partition]), self.names, Pseudonymiser(KEY), rules)
        self._keep(partition, [book.claim(self.as_of)])
        return book

    def restart(self, partition: int) -> None:
        """Another worker takes the partition over."""
        self.books[partition] = self._open(partition)

    def _keep(self, partition: int, changes: Iterable[tuple[bytes, bytes]]) -> None:
        for key, value in changes:
            assert len(value) <= 512 * 1024
            self.values[partition][key] = value

    def flush(self, partition: int, records: int, forwarded: int, crash: Crash | None = None) -> None:
        """Takes so many records of the source and of the internal topic; a crash ends it on the way, and it comes again."""
        book, (at, internal_at) = self.books[partition], self.read[partition]
        own = self.sources[partition][at : at + records]
        arrived = self.internal[partition][internal_at : internal_at + forwarded]
        if not own and not arrived:
            return
        folded = book.fold(own, self.as_of, arrived)
        assert folded.tally.handled == len(own) + len(arrived), "it is known what became of each"
        self._forward(folded)
        if crash is not None:
            if crash != "after forwards":
                self._keep(partition, folded.changes if crash == "after state" else folded.changes[:1])
            self.restart(partition)
            return
        self._keep(partition, folded.changes)
        usage = UsageRows()
        book.rows(folded, usage)
        self._take(usage)
        self.read[partition] = [at + len(own), internal_at + len(arrived)]
        self.outcomes.update({str(outcome): n for outcome, n in folded.tally.outcomes.items()})
        self.forgotten += folded.tally.forgotten
        self.letters.update({letter.place: str(letter.reason) for letter in folded.letters})
        self.pings.update(
            {
                (row.uuid, row.hostname, row.namespace_id, row.recorded_at): row
                for row in (*folded.pings, *(plain_pings(folded.plain) if folded.plain is not None else ()))
            }
        )

    def _forward(self, folded: Folded) -> None:
        for forward in folded.forwards:
            to = partition_of(forward.key, self.partitions) if forward.partition is None else forward.partition
            self.internal[to].append(Record(forward.key, forward.value, len(self.internal[to]), forward.timestamp))

    def left(self, partition: int) -> tuple[int, int]:
        """Records of the source and of the internal topic that are not committed."""
        at, internal_at = self.read[partition]
        return len(self.sources[partition]) - at, len(self.internal[partition]) - internal_at

    def drain_internal(self) -> None:
        """Until nothing is on its way."""
        while any(self.left(partition)[1] for partition in range(self.partitions)):
            for partition in range(self.partitions):
                self.flush(partition, 0, 10_000)

    def drain(self, rng: random.Random, largest: int, crashes: float = 0.0, restarts: float = 0.0) -> None:
        """Everything, in flushes of any size, the partitions in any order."""
        while todo := [p for p in range(self.partitions) if any(self.left(p))]:
            partition = rng.choice(todo)
            sizes = rng.randint(0, largest), rng.randint(0, largest)
            self.flush(partition, *sizes, rng.choice(CRASHES) if rng.random() < crashes else None)
            if rng.random() < restarts:
                self.restart(partition)

    def drain_one_by_one(self, order: Sequence[int], size: int = 200) -> None:
        """The partitions one after the other, each to its end before the next begins."""
        for partition in order:
            while self.left(partition)[0]:
                self.flush(partition, size, size)
            self.drain_internal()

    def roll(self, as_of: dt.date | None = None) -> None:
        """The as-of clock is there."""
        if as_of is not None:
            self.as_of = day(as_of)
        for partition, book in enumerate(self.books):
            usage = UsageRows()
            book.roll(book.all_scopes(), self.as_of, usage)
            self._take(usage)
            if not any(any(self.left(some)) for some in range(self.partitions)):
                self._keep(partition, book.retire(book.all_scopes()))
            self._keep(partition, [book.rolled(self.as_of)])

    def _take(self, usage: UsageRows) -> None:
        at = 0
        self.figures_written += usage.figures.length
        columns = [column[: usage.figures.length].tolist() for column in (
            usage.figures.name, usage.figures.dau, usage.figures.wau, usage.figures.mau, usage.figures.sessions,
        )]  # fmt: skip
        if not usage.scopes:
            return
        rows = zip(*(np.concatenate(some).tolist() for some in (usage.days, usage.lengths, usage.counted)), strict=True)
        for scope, shard, version, repeat in zip(
            usage.scopes, usage.shards, usage.versions, usage.repeats, strict=True
        ):
            for of_day, length, figures in islice(rows, repeat):
                row = [
                    (*self.names.name(name), *rest)
                    for name, *rest in zip(*(column[at : at + length] for column in columns), strict=True)
                ]
                at += length
                key = (*scope, of_day, shard)
                if key not in self.rows or version >= self.rows[key][0]:
                    self.rows[key] = version, row, figures  # type: ignore[assignment]
        assert at == usage.figures.length and not list(rows)

    def table(self) -> dict[tuple[object, ...], tuple[object, ...]]:
        """The exact rows of `usage_kpi`: sums over shards; GitLab.com's sessions are those of its groups and its own."""
        figures: dict[tuple[int, str, str, str, str], list[int]] = defaultdict(lambda: [0, 0, 0])
        sessions: Counter[tuple[int, str, str, str, str]] = Counter()
        for (population, scope, of_day, _), (_, row, counted) in self.rows.items():
            for place, (stage, feature, *counts, number) in enumerate(row):
                key = of_day, population, scope, stage, feature
                if place < counted:
                    figures[key] = [a + b for a, b in zip(figures[key], counts, strict=True)]
                if number >= 0:
                    sessions[key] += number
                    if population == "group":
                        sessions[of_day, "gitlab_com", "gitlab.com", stage, feature] += number
        return {
            (EPOCH_DAY + dt.timedelta(key[0]), *key[1:]): (*counts, sessions.get(key))
            for key, counts in figures.items()
        }

    def state_bytes(self) -> int:
        """Bytes of all values of the changelog, compacted."""
        return sum(len(value) for values in self.values for value in values.values())


def plain_pings(rows: PlainRows) -> list[PingRow]:
    """Rows of plain pings, as the long way has them: they go the way to Arrow, and back."""
    found = []
    for row in plain_block([(0, 1, rows)]).to_pylist():
        row["recorded_at"] = micros(row["recorded_at"])
        row["received_at"] = micros(row["received_at"]) // 1000
        own = {name: row[name] for name in PingRow._fields if name in row}
        found.append(PingRow(**own, reported=None, unknown=row["reported_unknown"], users_by=None))
        assert not (row["reports"] or row["has_users_by"] or row["stage_map"] or row["reported_names"])
    return found


def expect(sources: Sequence[Sequence[Record]], as_of: dt.date) -> oracle.Expected:
    """What the oracle says, partition after partition."""
    return oracle.expect(
        [
            oracle.Record("usage-pings", partition, r.offset, r.timestamp, r.key, r.value, attempt_of(r))
            for partition, records in enumerate(sources)
            for r in records
        ],
        oracle.Rules(as_of=as_of),
    )


def exact_rows(expected: oracle.Expected) -> dict[tuple[object, ...], tuple[object, ...]]:
    """The exact rows of the oracle's `usage_kpi`, as `World.table` gives them."""
    return {
        (row["as_of"], row["population"], row["scope_id"], row["stage"], row["feature"]): (
            row["dau"], row["wau"], row["mau"], row["sessions"],
        )
        for row in expected.usage_kpi
        if row["basis"] == "exact"
    }  # fmt: skip


def assert_equals_oracle(world: World, as_of: dt.date) -> oracle.Expected:
    """Rows, letters and outcomes are the oracle's."""
    expected = expect(world.sources, as_of)
    found, wanted = world.table(), exact_rows(expected)
    missing, extra = sorted(wanted.keys() - found.keys()), sorted(found.keys() - wanted.keys())
    other = [
        (key, found[key], wanted[key]) for key in sorted(wanted.keys() & found.keys()) if found[key] != wanted[key]
    ]
    assert not (missing or extra or other), (
        f"missing {missing[:3]}\nextra {extra[:3]}\n(key, found, wanted) {other[:5]}"
    )
    assert world.letters == {(row["partition"], row["offset"]): row["reason"] for row in expected.dead_letter}
    assert len(world.pings) == len(expected.usage_ping)
    return expected


def dealt(records: Iterable[tuple[int, bytes | None, bytes | None, int]], partitions: int) -> list[list[Record]]:
    """(partition, key, value, timestamp in ms) as the logs of a topic."""
    sources: list[list[Record]] = [[] for _ in range(partitions)]
    for partition, key, value, timestamp in records:
        sources[partition].append(Record(key, value, len(sources[partition]), timestamp))
    return sources
