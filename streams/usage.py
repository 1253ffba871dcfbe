"""The usage half: pings into ledgers, figures of scopes by day, live MAU."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from itertools import islice

from sinks.prometheus import Metrics
from streams.ledger.book import Book, Folded, Rules, UsageRows
from streams.ledger.live import LiveFigures
from streams.ledger.names import Names
from streams.ledger.pseudonym import Pseudonymiser
from streams.ledger.scope import NEVER
from streams.rows import RowSink
from streams.side import LetterRow, WriteState

ROLL_SCOPES = 2_000
"""Scopes whose rows are written at once when the as-of clock moves on."""

LIVE_SCOPES = 500
"""Scopes of a partition that are counted for Prometheus in one idle moment."""


class UsageSide:
    """Books of installations and groups; see `streams.side`."""

    flush_bytes = 32 * 1024 * 1024
    flush_records = 16_000
    """A scope that a flush touches costs about as much as one of its pings: the more pings of it there are in one, the better."""

    def __init__(self, rows: RowSink, pseudonymiser: Pseudonymiser, rules: Rules, metrics: Metrics) -> None:
        self._rows = rows
        self._pseudonymiser = pseudonymiser
        self._rules = rules
        self._metrics = metrics
        self._names = Names()
        self._live = LiveFigures(self._names.is_stage)

    def open(self, partition: int, values: Mapping[bytes, bytes], generation: int) -> Book:
        """A book of recovered state."""
        return Book(partition, values, self._names, self._pseudonymiser, self._rules, generation)

    def prepare(self, books: Mapping[int, Book], folded: Mapping[int, Folded]) -> UsageRows:
        """Counts the rows of the scopes that a flush touched."""
        usage = UsageRows()
        for partition, done in folded.items():
            books[partition].rows(done, usage)
        return usage

    async def write(
        self,
        books: Mapping[int, Book],
        folded: Mapping[int, Folded],
        prepared: UsageRows,
        letters: Sequence[LetterRow],
        behind: bool,
        write_state: WriteState,
        still_ours: Callable[[], bool],
    ) -> bool:
        """Writes figures, pings and letters of a flush, far behind or not: nothing else knows of pings."""
        pings = [(p, books[p].epoch, ping) for p, done in folded.items() for ping in done.pings]
        plain = [(p, books[p].epoch, done.plain) for p, done in folded.items() if done.plain is not None]
        return await self._rows.write(self._names, prepared, pings, letters, still_ours, plain)

    async def roll(self, book: Book, as_of: int, write_state: WriteState, still_ours: Callable[[], bool]) -> bool:
        """Writes the figures of all scopes up to the as-of day: users fall silent by themselves."""
        scopes = list(book.all_scopes())
        for at in range(0, len(scopes), ROLL_SCOPES):
            some = scopes[at : at + ROLL_SCOPES]
            usage = UsageRows()
            book.roll(some, as_of, usage)
            if usage.rows and not await self._rows.write(self._names, usage, [], [], still_ours):
                return False
            if changes := book.retire(some):
                await write_state({book.partition: changes})
            await asyncio.sleep(0)
        return True

    def taken_over(self) -> None:
        """Live figures begin anew."""
        self._live = LiveFigures(self._names.is_stage)

    def note(self, books: Mapping[int, Book], folded: Mapping[int, Folded], prepared: UsageRows, as_of: int) -> None:
        """Counts a flush, and today's figures of the scopes that it touched."""
        for done in folded.values():
            self._metrics.activities.inc(done.tally.activities)
            self._metrics.unknown_values.inc(done.tally.unknown)
            self._metrics.forgotten_entries.inc(done.tally.forgotten)
        # Until a partition's rows are of today they are too many, and its scopes are counted when it is idle.
        last = [
            last if books[partition].rolled_to >= as_of else NEVER
            for partition, done in folded.items()
            for _, _, last in done.touched
        ]
        self._live.take(prepared, last, as_of)

    def count_live(self, books: Mapping[int, Book], day: int) -> bool:
        """Counts today's figures of scopes that no message has touched today, some at a time. False when none are left."""
        left = False
        for partition, book in books.items():
            if book.rolled_to < day:
                left = True
                continue
            left |= book.read_some(LIVE_SCOPES)
            some = list(islice(self._live.behind(partition, book.read_scopes, day), LIVE_SCOPES))
            self._live.count(partition, book.directory, some, day)
            left |= bool(some)
        return left

    def refresh(self) -> None:
        """Brings the gauges of the live figures up to date."""
        metrics = self._metrics
        metrics.mau.clear()
        metrics.smau.clear()
        metrics.feature_mau.clear()
        metrics.scopes_by_stages_used.clear()
        for (population, number), users in self._live.sums.items():
            stage, feature = self._names.name(number)
            if not stage:
                metrics.mau.labels(population, "exact").set(users)
            elif not feature:
                metrics.smau.labels(population, "exact", stage).set(users)
            else:
                metrics.feature_mau.labels(population, "exact", stage, feature).set(users)
        for (population, stages), scopes in self._live.by_stages.items():
            metrics.scopes_by_stages_used.labels(population, str(stages)).set(scopes)
