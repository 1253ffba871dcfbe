"""Kept events of some accounts as columns: read from their bytes at once, no object for any of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeAlias

import msgspec
import numpy as np

from schemas.billing import Profile
from streams.ledger.billing import kernels
from streams.ledger.billing.columns import Bools, Ints, Texts
from streams.ledger.state import StateError, readable

Spans: TypeAlias = tuple[Ints, Ints]
"""Where strings begin and where they end, in the bytes of all facts."""

NO_TEXT: Spans = (np.zeros(1, np.int64), np.zeros(1, np.int64))

_profile = msgspec.msgpack.Decoder(Profile).decode


class Facts:
    """The events of accounts, of each id the first, by account, time, sequence and id.

    Args:
        account_ids: the accounts.
        data: facts as segments have them (`streams.ledger.billing.state`), and anything in between.
        places: where each begins in `data`: those of an account together, in the order in which they came.
        lengths: how many each account has, one at least.

    Attributes:
        account: the place in `account_ids` of each.

    Raises:
        StateError: some bytes are no fact.
    """

    def __init__(self, account_ids: Sequence[str], data: bytes, places: Ints, lengths: Sequence[int]) -> None:
        self.account_ids = account_ids
        self.account = np.repeat(np.arange(len(account_ids)), lengths)
        every = np.frombuffer(data, np.uint8)
        text, ends = np.empty(len(every), np.uint8), np.zeros(len(places), np.int64)
        bad = kernels.lay_facts(every, places, text, ends)
        self._bytes = text[: ends[-1] if len(ends) else 0].tobytes()
        self._text = np.frombuffer(self._bytes, np.uint8)
        self._numbers = np.zeros((kernels.NUMBERS, len(places)), np.int64)
        self._starts, self._stops = (np.zeros((kernels.TEXTS, len(places)), np.int64) for _ in range(2))
        if bad < 0:
            bad = kernels.read_facts(self._text, ends, self._numbers, self._starts, self._stops)
        if bad >= 0:
            raise StateError(
                f"an event of account {account_ids[self.account[bad]]!r} cannot be read from the state in the changelog: it was "
                "not written by this program, or was damaged; docs/operations.md says how to start over"
            )
        order = self._order()
        self.account = self.account[order]
        self._numbers, self._starts, self._stops = (
            column.take(order, axis=1) for column in (self._numbers, self._starts, self._stops)
        )

    def _order(self) -> Ints:
        """Places of the events, as they are to stand."""
        _, firsts = self._number((self._starts[kernels.EVENT_ID], self._stops[kernels.EVENT_ID]), self.account)
        at, sequence, account = self.number(kernels.AT), self.number(kernels.SEQUENCE), self.account
        order = firsts[np.lexsort((sequence[firsts], at[firsts], account[firsts]))]
        meet = np.ones(max(len(order) - 1, 0), np.bool_)
        for column in (sequence, at, account):
            meet &= column[order[1:]] == column[order[:-1]]
        for start, stop in _runs(meet):
            # bytes of UTF-8 sort as the characters do
            run = order[start:stop]
            event_ids = list(self._cut(self._spans(kernels.EVENT_ID, run), np.arange(len(run))))
            order[start:stop] = run[sorted(range(len(run)), key=event_ids.__getitem__)]
        return order

    # ---- columns -----------------------------------------------------------------------------------------------------

    def number(self, row: int) -> Ints:
        """A number of each event, by its row in `streams.ledger.billing.kernels`."""
        column: Ints = self._numbers[row]
        return column

    def has(self, block: int) -> Bools:
        """Whether each event has a block."""
        found: Bools = self.number(kernels.BLOCKS) & block != 0
        return found

    def texts(self, row: int, places: Ints) -> Texts:
        """A string of some events."""
        return self._copied(self._spans(row, places))

    def strings(self, row: int, places: Ints | None = None) -> tuple[list[str], Ints]:
        """A string of events, of all if none are named: the different ones, which are few, and the number of each."""
        spans = self._spans(row, np.arange(len(self.account)) if places is None else places)
        numbers, firsts = self._number(spans)
        with readable():
            return [data.decode() for data in self._cut(spans, firsts)], numbers

    def numbered(self, columns: Sequence[tuple[int, Ints]]) -> tuple[list[Ints], Texts]:
        """Strings of some events, each column with its row and its events, by number; the different ones, '' is the first."""
        spans = _joined([NO_TEXT, *(self._spans(*column) for column in columns)])
        numbers, firsts = self._number(spans)
        return _split(numbers[1:], columns), self._copied((spans[0][firsts], spans[1][firsts]))

    def numbered_by_account(self, columns: Sequence[tuple[int, Ints]]) -> tuple[list[Ints], Texts, Ints]:
        """The same for each account by itself, without the ''; and the account of each different one."""
        spans = _joined([self._spans(*column) for column in columns])
        account = np.concatenate([self.account[places] for _, places in columns])
        numbers, firsts = self._number(spans, account)
        return _split(numbers, columns), self._copied((spans[0][firsts], spans[1][firsts])), account[firsts]

    def profiles(self, places: Ints) -> tuple[Ints, list[Profile]]:
        """The profiles of some events by number, and the different ones."""
        spans = self._spans(kernels.PROFILE, places)
        numbers, firsts = self._number(spans)
        with readable():
            return numbers, [_profile(data) for data in self._cut(spans, firsts)]

    def _spans(self, row: int, places: Ints) -> Spans:
        return self._starts[row, places], self._stops[row, places]

    def _number(self, spans: Spans, owners: Ints | None = None) -> tuple[Ints, Ints]:
        """Strings by number, equal ones of one owner alike, and the place of the first of each number."""
        count = len(spans[0])
        if owners is None:
            owners = np.zeros(count, np.int64)
        slots = np.full(1 << (2 * count).bit_length(), -1, np.int64)
        numbers, firsts = np.empty(count, np.int64), np.empty(count, np.int64)
        return numbers, firsts[: kernels.number_texts(self._text, *spans, owners, slots, numbers, firsts)]

    def _copied(self, spans: Spans) -> Texts:
        starts, stops = spans
        offsets = np.zeros(len(starts) + 1, np.int32)
        np.cumsum(stops - starts, out=offsets[1:])
        data = np.empty(offsets[-1], np.uint8)
        kernels.copy_texts(self._text, starts, stops, data)
        return Texts(data, offsets)

    def _cut(self, spans: Spans, places: Ints) -> Iterator[bytes]:
        starts, stops = spans
        for start, stop in zip(starts[places].tolist(), stops[places].tolist(), strict=True):
            yield self._bytes[start:stop]


def _joined(several: Sequence[Spans]) -> Spans:
    starts, stops = (np.concatenate(ends) for ends in zip(*several, strict=True))
    return starts, stops


def _split(numbers: Ints, columns: Sequence[tuple[int, Ints]]) -> list[Ints]:
    return np.split(numbers, np.cumsum([len(places) for _, places in columns])[:-1])


def _runs(meet: Bools) -> Iterator[tuple[int, int]]:
    """(start, stop) of the runs of elements that meet: element i and the next one do where `meet[i]`."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], meet, [False])).astype(np.int8)))
    yield from ((int(start), int(stop) + 1) for start, stop in edges.reshape(-1, 2))
