"""The billing half: events into accounts, their rows, live seats and MRR."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import islice

from sinks.prometheus import Metrics
from streams.clock import AsOfClock
from streams.ledger.billing.book import Book, Folded, Rules
from streams.ledger.billing.cells import Cells
from streams.ledger.billing.live import LiveBilling
from streams.ledger.billing.rows import rows_of
from streams.rows import AccountBlocks, RowSink
from streams.side import LetterRow, WriteState

READ_ACCOUNTS = 20_000
"""Accounts that are read at once."""

READ_EVENTS = 100_000
"""And no more once they have so many events together: what is in memory as columns at a time."""

WRITE_BYTES = 96 * 1024 * 1024
"""Rows that are written at once, as Arrow has them. Each insert is a part of a table, and few large parts are hardly ever
merged: with a quarter of this the merges cost more than the inserts."""

PUT_OFF_SECONDS = 300.0
"""While it is far behind, the worker writes no rows for so long: most of them would be written over soon, and half-read accounts
would stand where whole ones may stand already."""

LIVE_ACCOUNTS = 500
"""Accounts of a partition that are counted for Prometheus in one idle moment."""


class BillingSide:
    """Books of accounts; see `streams.side`.

    Rows are made of events that are durable, and the state tells which accounts' rows are still to be written. So a flush that
    is far behind may be acknowledged without them: whoever has the partition next writes them.
    """

    flush_bytes = 16 * 1024 * 1024
    flush_records = 8_000

    def __init__(self, rows: RowSink, clock: AsOfClock, rules: Rules, metrics: Metrics) -> None:
        self._rows = rows
        self._clock = clock
        self._rules = rules
        self._metrics = metrics
        self._cells = Cells()
        self._live = LiveBilling()
        self._written_at = time.monotonic()

    def open(self, partition: int, values: Mapping[bytes, bytes], generation: int) -> Book:
        """A book of recovered state."""
        return Book(partition, values, self._rules, generation)

    def prepare(self, books: Mapping[int, Book], folded: Mapping[int, Folded]) -> None:
        """Nothing: rows are made of what is durable."""

    async def write(
        self,
        books: Mapping[int, Book],
        folded: Mapping[int, Folded],
        prepared: None,
        letters: Sequence[LetterRow],
        behind: bool,
        write_state: WriteState,
        still_ours: Callable[[], bool],
    ) -> bool:
        """Writes letters, and the rows of all accounts that were touched; far behind, only now and then."""
        if letters and not await self._rows.write_letters(letters, still_ours):
            return False
        if behind and time.monotonic() - self._written_at < PUT_OFF_SECONDS:
            return True
        for partition in folded:
            if not await self._write_accounts(books[partition], write_state, still_ours):
                return False
        return True

    async def roll(self, book: Book, as_of: int, write_state: WriteState, still_ours: Callable[[], bool]) -> bool:
        """Writes what was put off. Days need no rows of their own: rows tell of days to come as well."""
        return await self._write_accounts(book, write_state, still_ours)

    async def _write_accounts(self, book: Book, write_state: WriteState, still_ours: Callable[[], bool]) -> bool:
        while book.dirty:
            blocks = AccountBlocks()
            accounts: list[str] = []
            while len(accounts) < book.dirty and blocks.nbytes < WRITE_BYTES:
                if not still_ours():  # the store may hold what another owner has written since
                    return False
                history = book.unwritten(READ_ACCOUNTS, READ_EVENTS, len(accounts))
                blocks.add(rows_of(history, self._cells, book.partition, book.version.row))
                self._live.count(book.partition, history, self._clock.day())
                accounts += history.account_ids
                await asyncio.sleep(0)
            if not await self._rows.write_accounts(self._cells, blocks, still_ours):
                return False
            if change := book.written(accounts):
                await write_state({book.partition: [change]})
        self._written_at = time.monotonic()
        return True

    def taken_over(self) -> None:
        """Live figures begin anew."""
        self._live = LiveBilling()

    def note(self, books: Mapping[int, Book], folded: Mapping[int, Folded], prepared: None, as_of: int) -> None:
        """Nothing beyond what is counted of every message: live figures follow the rows."""

    def count_live(self, books: Mapping[int, Book], day: int) -> bool:
        """Counts accounts that no message has touched, some at a time. False when none are left."""
        left = False
        for partition, book in books.items():
            new = (account_id for account_id in book.accounts if not self._live.knows((partition, account_id), day))
            some = list(islice(new, LIVE_ACCOUNTS))
            if some:
                self._live.count(partition, book.history(some), day)
            left |= bool(some)
        return left

    def refresh(self) -> None:
        """Brings the gauges of the live figures up to date."""
        metrics, live = self._metrics, self._live
        metrics.seats.clear()
        metrics.seats_added.clear()
        for plan, seats in live.seats.items():
            metrics.seats.labels(plan).set(seats)
        for plan, seats in live.seats_added.items():
            metrics.seats_added.labels(plan).set(seats)
        metrics.mrr.labels(self._rules.reporting_currency).set(live.mrr / 100)
        metrics.mrr_12m_ago.set(live.base / 100)
        metrics.mrr_retained.set(live.retained / 100)
