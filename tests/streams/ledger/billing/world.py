"""All books of accounts in memory, with the internal topic between them, and the rows that they would have written."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Literal

from streams.forwarder import partition_of
from streams.ledger.billing.book import Book, Folded, Rules
from streams.ledger.billing.cells import Cells
from streams.ledger.billing.rows import AccountRows, rows_of
from streams.ledger.records import Change
from streams.ledger.state import VERSION
from tests.streams.ledger.billing.shape import Row, accounts, subscriptions
from tests.streams.ledger.record import Record

Crash = Literal["after forwards", "in state", "after state", "after rows"]
CRASHES: tuple[Crash, ...] = ("after forwards", "in state", "after state", "after rows")
ALL = 10**9


class BillingWorld:
    """Books 0..partitions-1, each with a source partition and one of the internal topic.

    Attributes:
        sources, internal: the logs; read: how much of each is committed.
        values: the changelog of each partition, compacted.
        written: blocks of rows that the sink took, in order.
        letters: reason by (partition, offset); outcomes: of committed flushes.
    """

    def __init__(self, sources: Sequence[Sequence[Record]]) -> None:
        self.partitions = len(sources)
        self.sources = [list(records) for records in sources]
        self.internal: list[list[Record]] = [[] for _ in sources]
        self.read = [[0, 0] for _ in sources]
        self.values: list[dict[bytes, bytes]] = [{} for _ in sources]
        self.cells = Cells()
        self.written: list[AccountRows] = []
        self.outcomes: Counter[str] = Counter()
        self.letters: dict[tuple[int, int], str] = {}
        self.books = [self._open(partition) for partition in range(self.partitions)]

    def _open(self, partition: int) -> Book:
        rules = Rules(partitions=self.partitions, partition_of=lambda key: partition_of(key, self.partitions))
        book = Book(partition, self.values[partition], rules)
        self._keep(partition, [book.claim(0)])
        return book

    def restart(self, partition: int) -> None:
        """Another worker takes the partition over."""
        self.books[partition] = self._open(partition)

    def _keep(self, partition: int, changes: Iterable[Change]) -> None:
        for key, value in changes:
            assert len(value) <= 512 * 1024
            known = self.values[partition].get(key)
            assert known is None or known[VERSION] <= value[VERSION]
            self.values[partition][key] = value

    def flush(
        self, partition: int, records: int, forwarded: int, *, rows: bool = True, crash: Crash | None = None
    ) -> None:
        """Takes so many records of the source and of the internal topic; a crash ends it on the way, and it comes again.

        Args:
            rows: write what is to be written, as a worker does that has caught up; else put it off.
        """
        book, (at, internal_at) = self.books[partition], self.read[partition]
        own = self.sources[partition][at : at + records]
        arrived = self.internal[partition][internal_at : internal_at + forwarded]
        folded = book.fold(own, 0, arrived)
        assert folded.tally.handled == len(own) + len(arrived), "it is known what became of each"
        self._forward(folded)
        if crash == "after forwards":
            self.restart(partition)
            return
        self._keep(partition, folded.changes[: len(folded.changes) // 2] if crash == "in state" else folded.changes)
        if crash in ("in state", "after state"):
            self.restart(partition)
            return
        if rows:
            self.write(partition, sure=crash is None)
        if crash is not None:
            self.restart(partition)
            return
        self.read[partition] = [at + len(own), internal_at + len(arrived)]
        self.outcomes.update({str(outcome): n for outcome, n in folded.tally.outcomes.items()})
        self.letters.update({letter.place: str(letter.reason) for letter in folded.letters})

    def _forward(self, folded: Folded) -> None:
        for forward in folded.forwards:
            to = partition_of(forward.key, self.partitions)
            self.internal[to].append(Record(forward.key, forward.value, len(self.internal[to]), forward.timestamp))

    def write(self, partition: int, *, sure: bool = True) -> None:
        """Writes the rows that are to be written, three accounts at a time; not `sure` ends before the state knows of it."""
        book = self.books[partition]
        while book.dirty:
            history = book.unwritten(3, ALL)
            self.written.append(rows_of(history, self.cells, partition, book.version.row))
            if not sure:
                return
            change = book.written(history.account_ids)
            if change is not None:
                self._keep(partition, [change])

    def left(self, partition: int) -> bool:
        """Whether anything of its source or of the internal topic is not committed."""
        at, internal_at = self.read[partition]
        return at < len(self.sources[partition]) or internal_at < len(self.internal[partition])

    def drain(self, rng: random.Random, largest: int, crashes: float = 0.0, restarts: float = 0.0) -> None:
        """Everything, in flushes of any size, the partitions in any order; rows at last, as the as-of clock has it."""
        while todo := [p for p in range(self.partitions) if self.left(p)]:
            partition = rng.choice(todo)
            crash = rng.choice(CRASHES) if rng.random() < crashes else None
            sizes = rng.randint(0, largest), rng.randint(0, largest)
            self.flush(partition, *sizes, rows=rng.random() < 0.3, crash=crash)
            if rng.random() < restarts:
                self.restart(partition)
        for partition in range(self.partitions):
            self.write(partition)

    def rows(self) -> dict[str, dict[tuple[Any, ...], Row]]:
        """The newest row of each key of `account` and `subscription`: its groups of columns by name."""
        newest: dict[str, dict[tuple[Any, ...], tuple[int, Row]]] = {"account": {}, "subscription": {}}
        for block in self.written:
            for name, rows, width in (("account", accounts(block), 1), ("subscription", subscriptions(block), 2)):
                found = newest[name]
                for key, row in rows:
                    if key[:width] not in found or block.version >= found[key[:width]][0]:
                        found[key[:width]] = block.version, row
        return {name: {key: row for key, (_, row) in found.items()} for name, found in newest.items()}
