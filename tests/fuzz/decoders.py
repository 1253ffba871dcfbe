"""A record's way from its bytes to the rows of ClickHouse, in this process: nothing but an outcome may come of it."""

from __future__ import annotations

import asyncio
import datetime as dt
import re
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from schemas.dead_letters import HEADER_ATTEMPT
from schemas.ping import EPOCH_ORDINAL
from sinks.clickhouse.writer import ArrowRows
from sinks.prometheus import Metrics
from streams.billing import BillingSide
from streams.clock import AsOfClock
from streams.ledger.billing.book import Rules as BillingRules
from streams.ledger.book import Rules
from streams.ledger.pseudonym import Pseudonymiser
from streams.ledger.redaction import redact
from streams.rows import RowSink
from streams.usage import UsageSide
from tests.fuzz.messages import DAY, LARGEST
from tests.streams.ledger.record import Record

SECONDS = 1.0
MEGABYTES = 64
"""What one message may take, of CPU and of memory beyond what there is."""

NOON_MS = int(dt.datetime.combine(DAY, dt.time(12), dt.UTC).timestamp() * 1000)
AS_OF = DAY.toordinal() - EPOCH_ORDINAL


class Nowhere(RowSink):
    """Makes the blocks of rows, and gives them to nobody."""

    def __init__(self) -> None:
        super().__init__(_no_client, "pingstream", Metrics("fuzz"))

    async def _insert_rows(self, table: str, rows: ArrowRows, still_ours: Callable[[], bool]) -> None:
        pa.ipc.open_stream(rows.data()).read_all().validate(full=True)


def _no_client() -> Any:
    raise AssertionError("no rows go anywhere here")


class Desk:
    """One partition of a topic, its state and its rows in memory; begun anew now and then."""

    def __init__(self, billing: bool) -> None:
        metrics, rows = Metrics("fuzz"), Nowhere()
        self._values: dict[bytes, bytes] = {}
        self._side: Any
        if billing:
            self._side = BillingSide(rows, AsOfClock(DAY), BillingRules(max_message_bytes=LARGEST), metrics)
        else:
            rules = Rules(max_message_bytes=LARGEST)
            self._side = UsageSide(rows, Pseudonymiser(b"0123456789abcdef"), rules, metrics)
        self._book = self._side.open(0, self._values, 1)
        self._keep([self._book.claim(AS_OF)])
        self._offset = 0
        self._forwards: list[Record] = []

    def take(self, value: bytes, attempt: int = 0) -> None:
        """A message's whole way."""
        asyncio.run(self._take(value, attempt))

    async def _take(self, value: bytes, attempt: int) -> None:
        headers = ((HEADER_ATTEMPT, b"%d" % attempt),) if attempt else ()
        record = Record(None, value, self._offset, NOON_MS, headers)
        self._offset += 1
        done = self._book.fold([record], AS_OF, self._forwards)
        self._forwards = [
            Record(f.key, f.value, n, f.timestamp) for n, f in enumerate(done.forwards, self._offset * 100)
        ]
        assert sum(done.tally.outcomes.values()) == 1, "a message has one outcome"
        self._keep(done.changes)
        letters = [
            ("topic", *letter.place, letter.reason, letter.sentence, letter.timestamp, 1) for letter in done.letters
        ]
        for letter in done.letters:
            letter.sentence.encode()
            redact(value)
        books, folded = {0: self._book}, {0: done}
        prepared = self._side.prepare(books, folded)
        assert await self._side.write(books, folded, prepared, letters, False, self._write_state, lambda: True)
        self._side.note(books, folded, prepared, AS_OF)

    async def _write_state(self, changes: Any) -> None:
        for some in changes.values():
            self._keep(some)

    def _keep(self, changes: Any) -> None:
        self._values.update((change.key, change.value) for change in changes)


class Cost(NamedTuple):
    """CPU seconds, and megabytes beyond what there was."""

    seconds: float
    megabytes: float

    def is_bounded(self, patience: float) -> bool:
        """Whether a message may take so much, on a machine that takes `patience` times as long for its work as a free one."""
        return self.seconds < SECONDS * patience and self.megabytes < MEGABYTES


def cost(act: Callable[[], None]) -> Cost:
    """Does it and says what it took."""
    _forget_peak()
    before, began = _memory("VmRSS"), time.thread_time()
    act()
    return Cost(time.thread_time() - began, _memory("VmHWM") - before)


def _forget_peak() -> None:
    with suppress(OSError):  # not Linux, or not allowed: the peak of the whole run stays
        Path("/proc/self/clear_refs").write_text("5")


def _memory(name: str) -> float:
    """VmRSS or VmHWM of this process, MB; 0 where there is no such thing."""
    try:
        found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    except OSError:
        return 0.0
    return int(found[1]) / 1024 if found else 0.0
