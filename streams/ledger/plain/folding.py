"""The short way of plain pings: those of many installations are folded, marked and told to the state by one call each.

It takes a scope's pings of a flush where all of them are plain, of an installation that is at home here, in the order of
`recorded_at`, with no entry late or future: then none is a duplicate, and each is applied. The scopes of all others go the
long way, `streams.ledger.book`, with all their pings; the tests compare both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from streams.ledger.directory import (
    COUNT,
    DIRTY_FROM,
    FIRST_PANE,
    FLOOR,
    NEWEST,
    OLDEST,
    PANES,
    RECORDED,
    UNSURE,
    WRITTEN_TO,
    Directory,
)
from streams.ledger.judgement import BACKWARDS_MS, FUTURE_DAYS, LATE_DAYS
from streams.ledger.kernels import FULL, PANE
from streams.ledger.names import Names
from streams.ledger.plain import kernels
from streams.ledger.plain.keys import PingKeys
from streams.ledger.plain.reading import PlainPings, PlainReader
from streams.ledger.records import DAY_MS, DAY_US, Change, PingKey, Record, ScopeKey
from streams.ledger.scope import Scope
from streams.ledger.state import SMALL_DELTA, Packer, scope_digest
from streams.ledger.usage import Entries

Numbers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

LONG_WAY = -1
"""Seat of pings that are never for the short way: GitLab.com's, those of another partition, of a scope with several names."""


@dataclass(slots=True)
class Seat:
    """A self-managed installation as its pings name it."""

    key: PingKey
    scope: Scope
    known: bool
    """Whether the scope is the book's; before its first ping is applied it is not."""


@dataclass(slots=True)
class PlainRows:
    """Rows of `usage_ping` of plain pings, as columns: their texts side by side in `text`, by where they start and end.

    Attributes:
        spans: [ping, text, start and end], see `kernels.read_pings`; numbers: [ping, number], -1 unknown.
        recorded_at, received_at: microseconds and milliseconds since 1970.
    """

    text: bytes
    spans: Numbers
    numbers: Numbers
    recorded_at: Numbers
    received_at: Numbers


@dataclass(slots=True)
class Applied:
    """What came of the plain pings of a flush.

    Attributes:
        touched: scopes and the range of days whose rows have to be written.
        activities: users in all entries.
    """

    changes: list[Change]
    touched: list[tuple[Scope, int, int]]
    rows: PlainRows
    activities: int


class PlainFold:
    """The short way into one book.

    Args:
        find: the book's scope of a key, None when there is none.
        seat_key: the scope and the name of (uuid, hostname); None where it is not for the short way.
        forget: lets days before a floor go from a scope.
    """

    def __init__(
        self,
        partition: int,
        directory: Directory,
        names: Names,
        reader: PlainReader,
        packer: Packer,
        find: Callable[[ScopeKey], Scope | None],
        seat_key: Callable[[str, str], tuple[ScopeKey, PingKey] | None],
        forget: Callable[[Scope, int], None],
    ) -> None:
        self._partition = partition
        self._directory = directory
        self._names = names
        self._reader = reader
        self._packer = packer
        self._find = find
        self._seat_key = seat_key
        self._forget = forget
        self._keys = PingKeys()
        self._seat_of_key = np.empty(0, np.int64)
        self._seats: list[Seat] = []
        self._of_scope: dict[ScopeKey, int] = {}

    # ---- choosing --------------------------------------------------------------------------------------------------

    def choose(self, records: Sequence[Record], pings: PlainPings, newest_before: Numbers, floor: int) -> Numbers:
        """The seat of each message that may go the short way, LONG_WAY for all others.

        Args:
            newest_before: newest received time ahead of each message in its partition, ms.
            floor: days before it may leave the ledgers.
        """
        count = len(records)
        timestamps = np.fromiter([record.timestamp for record in records], np.int64, count)
        received = timestamps // DAY_MS
        good = (
            pings.plain
            & np.fromiter([not record.headers for record in records], np.bool_, count)
            & (pings.moments // DAY_US <= received + FUTURE_DAYS)
            & (timestamps >= newest_before - BACKWARDS_MS)
            & (pings.first_day >= received - LATE_DAYS)
            & (pings.last_day <= received + FUTURE_DAYS)
        )
        seats = np.full(count, LONG_WAY, np.int64)
        chosen = np.flatnonzero(good)
        seats[chosen] = self._find_seats(pings, chosen)
        used = np.unique(seats)
        used = used[used >= 0]
        if not len(used):
            return seats
        rows = self._prepare(used, floor)
        place = np.searchsorted(used, seats)  # LONG_WAY lies before the first
        at = seats >= 0
        well = np.ones(len(used), np.bool_)
        well[place[at & (pings.first_day < rows[np.minimum(place, len(used) - 1), FLOOR])]] = False
        kernels.rising(np.where(at, place, -1), pings.moments, rows[:, RECORDED].copy(), well)
        seats[at & ~well[np.minimum(place, len(used) - 1)]] = LONG_WAY
        return seats

    def _find_seats(self, pings: PlainPings, chosen: Numbers) -> Numbers:
        numbers = self._keys.number(np.frombuffer(pings.text, np.uint8), pings.spans, chosen)
        new = [self._new_seat(*self._keys[number]) for number in range(len(self._seat_of_key), len(self._keys))]
        if new:
            self._seat_of_key = np.append(self._seat_of_key, new)
        found: Numbers = self._seat_of_key[numbers]
        return found

    def _new_seat(self, uuid: str, hostname: str) -> int:
        found = self._seat_key(uuid, hostname)
        if found is None or found[0] in self._of_scope:
            return LONG_WAY
        number = self._of_scope[found[0]] = len(self._seats)
        self._seats.append(Seat(found[1], Scope(found[0], scope_digest(found[0])), False))
        return number

    def _prepare(self, used: Numbers, floor: int) -> Numbers:
        """Rows of the directory of these seats' scopes."""
        scopes = []
        for number in used.tolist():
            seat = self._seats[number]
            if not seat.known and (found := self._find(seat.scope.key)) is not None:
                seat.scope, seat.known = found, True
            scopes.append(seat.scope)
        numbers = self._directory.numbers(scopes)
        rows = self._directory.rows[numbers]
        gone = (floor > rows[:, FLOOR]) & (rows[:, PANES] > 0) & (rows[:, FIRST_PANE] < floor // PANE)
        if gone.any():
            for place in np.flatnonzero(gone).tolist():
                self._forget(scopes[place], floor)
            numbers = self._directory.numbers(scopes)
            rows = self._directory.rows[numbers]
        return rows

    def leave(self, seats: Numbers, scopes: Iterable[ScopeKey]) -> None:
        """Takes scopes out of what `choose` gave: something else of them goes the long way."""
        taken = [self._of_scope[key] for key in scopes if key in self._of_scope]
        if taken:
            seats[np.isin(seats, taken)] = LONG_WAY

    # ---- folding ---------------------------------------------------------------------------------------------------

    def fold(
        self,
        records: Sequence[Record],
        pings: PlainPings,
        seats: Numbers,
        flush: int,
        epoch: int,
        floor: int,
        rolled_to: int,
        as_of: int,
    ) -> tuple[Applied, list[Scope]]:
        """Applies the messages that have a seat.

        Returns:
            What came of it, and scopes that are new to the book.
        """
        chosen = np.flatnonzero(seats >= 0)
        order = chosen[np.argsort(seats[chosen], kind="stable")]
        of_seat = seats[order]
        groups = np.append(np.flatnonzero(np.diff(of_seat, prepend=-1)), len(order))
        group_seats = [self._seats[number] for number in of_seat[groups[:-1]].tolist()]
        new = [seat.scope for seat in group_seats if not seat.known]
        for seat in group_seats:
            seat.known = True
        scopes = [seat.scope for seat in group_seats]
        numbers = self._directory.numbers(scopes)
        of_scope = np.repeat(numbers, np.diff(groups))
        entries = Entries(pings.days, np.zeros(len(pings.days), np.int64), pings.starts, pings.lengths, pings.ids)
        self._make_room(pings, order, groups, scopes, numbers)
        self._make_columns(pings, entries, order, of_scope)
        self._fold(pings, entries, order, of_scope)
        facts = np.empty((len(scopes), 5), np.int64)
        kernels.summarise(
            order, groups, pings.entry_from, pings.entry_to, entries.days, entries.lengths, entries.new_counts, facts
        )
        kernels.note_recorded(self._directory.rows, order, of_scope, pings.moments)
        first, last, final_before = (np.empty(len(scopes), np.int64) for _ in range(3))
        kernels.mark(self._directory.rows, numbers, facts, rolled_to, floor, as_of, first, last, final_before)
        self._write_back(scopes, numbers, epoch)
        offsets = np.fromiter([record.offset for record in records], np.int64, len(records))
        timestamps = np.fromiter([record.timestamp for record in records], np.int64, len(records))
        times, places = pings.moments[order].tolist(), offsets[order].tolist()
        elsewhere = []
        for seat, lo, hi in zip(group_seats, groups[:-1].tolist(), groups[1:].tolist(), strict=True):
            log = seat.scope.pings
            elsewhere.append(log.is_recent_elsewhere(self._partition))
            if elsewhere[-1]:
                for at in range(lo, hi):
                    log.add(seat.key, times[at], (self._partition, places[at], -1), flush)
            else:
                log.follow(seat.key, self._partition, flush, times[lo:hi], places[lo:hi])
        told = Told(pings, entries, order, groups, scopes, numbers, facts, offsets, final_before)
        changes = self._tell(told, np.array(elsewhere, np.bool_), epoch)
        touched = [
            (scope, begin, end)
            for scope, begin, end in zip(scopes, first.tolist(), last.tolist(), strict=True)
            if begin <= end
        ]
        rows = PlainRows(
            *_taken_out(pings.text, pings.spans[chosen]),
            pings.numbers[chosen],
            pings.moments[chosen],
            timestamps[chosen],
        )
        return Applied(changes, touched, rows, int(facts[:, 4].sum())), new

    def _make_columns(self, pings: PlainPings, entries: Entries, order: Numbers, of_scope: Numbers) -> None:
        """Finds the column of each entry; features that a ledger does not know yet are made."""

        def find() -> int:
            missing: int = kernels.find_columns(
                self._directory.rows, order, of_scope, pings.entry_from, pings.entry_to, pings.names,
                self._reader.digests, entries.columns,
            )  # fmt: skip
            return missing

        if not find():
            return
        missing = np.flatnonzero(entries.columns < 0)
        owners = self._owners(pings, order, of_scope)[np.searchsorted(pings.entry_to, missing, side="right")]
        wanted: dict[int, dict[int, None]] = {}
        for owner, name in zip(owners.tolist(), pings.names[missing].tolist(), strict=True):
            wanted.setdefault(owner, {})[name] = None
        for owner, names in wanted.items():
            scope = self._directory.scopes[owner]
            scope.ledger.add_columns([self._reader.names[name] for name in names], self._names)
            scope.stale = True
        self._directory.numbers(self._directory.scopes[owner] for owner in wanted)
        find()

    @staticmethod
    def _owners(pings: PlainPings, order: Numbers, of_scope: Numbers) -> Numbers:
        """The scope of each message, -1 of those that have no seat."""
        owners = np.full(len(pings.plain), -1, np.int64)
        owners[order] = of_scope
        return owners

    def _make_room(
        self, pings: PlainPings, order: Numbers, groups: Numbers, scopes: Sequence[Scope], numbers: Numbers
    ) -> None:
        """Panes for the days of each group, and some room for the users of a new scope."""
        rows = self._directory.rows[numbers]
        low = np.minimum.reduceat(pings.first_day[order], groups[:-1])
        high = np.maximum.reduceat(pings.last_day[order], groups[:-1])
        outside = (high >= 0) & (
            (rows[:, PANES] == 0)
            | (low // PANE < rows[:, FIRST_PANE])
            | (high // PANE >= rows[:, FIRST_PANE] + rows[:, PANES])
        )
        for place in np.flatnonzero(outside).tolist():
            ledger = scopes[place].ledger
            ledger.open_days(int(low[place]), int(high[place]))
            if not ledger.count:
                message = order[groups[place]]
                lengths = pings.lengths[pings.entry_from[message] : pings.entry_to[message]]
                ledger.make_room(4 * int(lengths.max(initial=2)))
            scopes[place].stale = True
        self._directory.numbers(scopes)

    def _fold(self, pings: PlainPings, entries: Entries, order: Numbers, of_scope: Numbers) -> None:
        owners = self._owners(pings, order, of_scope)
        at = np.zeros(4, np.int64)
        while (
            kernels.fold_pings(
                self._directory.rows, order, of_scope, owners, pings.entry_from, pings.entry_to, entries.days,
                entries.columns, entries.starts, entries.lengths, pings.echoes, entries.ids, entries.new_rows,
                entries.new_counts, at,
            ) == FULL
        ):  # fmt: skip
            scope = self._directory.scopes[of_scope[at[0]]]
            row = self._directory.rows[scope.number]
            ledger = scope.ledger
            ledger.count, ledger.newest, ledger.oldest = int(row[COUNT]), int(row[NEWEST]), int(row[OLDEST])
            left = int(entries.lengths[at[1]] - at[2])
            ledger.make_room(ledger.count + max(8, ledger.count // 2, left))
            self._directory.refresh(scope)
        entries.new_total = int(at[3])

    def _write_back(self, scopes: Sequence[Scope], numbers: Numbers, epoch: int) -> None:
        """What the kernels have changed in the directory, to the scopes."""
        columns = self._directory.rows[numbers][:, [COUNT, NEWEST, OLDEST, WRITTEN_TO, DIRTY_FROM, UNSURE]].T.tolist()
        for scope, count, newest, oldest, written_to, dirty_from, unsure in zip(scopes, *columns, strict=True):
            ledger = scope.ledger
            ledger.count, ledger.newest, ledger.oldest = count, newest, oldest
            scope.written_to, scope.dirty_from, scope.unsure = written_to, dirty_from, bool(unsure)
            scope.revision += 1
            scope.epoch = epoch

    # ---- state -----------------------------------------------------------------------------------------------------

    def _tell(self, told: Told, elsewhere: Flags, epoch: int) -> list[Change]:
        """Records for the changelog: small deltas are written by the kernel, all others one by one."""
        scopes, groups = told.scopes, told.groups
        known = np.fromiter([scope.written_users for scope in scopes], np.int64, len(scopes))
        sizes = np.empty(len(scopes), np.int64)
        rows = self._directory.rows
        kernels.measure_deltas(
            told.order, groups, told.facts, told.pings.spans, rows[told.numbers, COUNT] - known, sizes
        )
        fits = [
            not other and self._packer.bears(scope, epoch, size)
            for scope, size, other in zip(scopes, sizes.tolist(), elsewhere.tolist(), strict=True)
        ]
        chosen = np.flatnonzero(fits)
        ends = np.cumsum(sizes[chosen])
        out = np.empty(int(ends[-1]) if len(ends) else 0, np.uint8)
        row_ends = np.cumsum(told.facts[:, 0])
        bases = np.array([scope.base or (0, 0) for scope in scopes], np.int64)
        kernels.write_deltas(
            rows, told.order, groups, told.numbers, told.facts, chosen, bases, known,
            np.frombuffer(told.pings.text, np.uint8), told.pings.spans, told.pings.moments, told.offsets, self._partition,
            told.pings.entry_from, told.pings.entry_to, told.entries.days, told.entries.columns, told.entries.new_counts,
            told.entries.new_rows, row_ends - told.facts[:, 0], out, ends - sizes[chosen],
        )  # fmt: skip
        data = out.tobytes()
        changes: list[Change] = []
        for place, end, size in zip(chosen.tolist(), ends.tolist(), sizes[chosen].tolist(), strict=True):
            changes.append(self._packer.delta(scopes[place], epoch, data[end - size : end]))
        for place in np.flatnonzero(~np.array(fits, np.bool_)).tolist():
            scope = scopes[place]
            scope.final_before = max(scope.final_before, int(told.final_before[place]))
            if sizes[place] <= SMALL_DELTA and not elsewhere[place]:
                changes += self._packer.base(scope, epoch)
            else:
                new_rows = told.entries.new_rows[int(row_ends[place] - told.facts[place, 0]) : int(row_ends[place])]
                changes += self._packer.changes(scope, epoch, told.entries, told.new_of(place), new_rows, [])
            scope.forgot = False
        return changes


def _taken_out(text: bytes, spans: Numbers) -> tuple[bytes, Numbers]:
    """The texts of these spans side by side, and where they are there: rows wait for the state and for ClickHouse, and would keep the
    messages meanwhile."""
    starts, ends = (np.ascontiguousarray(spans[:, :, side]).ravel() for side in (0, 1))
    offsets, out = np.empty(len(starts) + 1, np.int32), np.empty(int((ends - starts).sum()), np.uint8)
    kernels.gather(np.frombuffer(text, np.uint8), starts, ends, offsets, out)
    there = np.stack([offsets[:-1], offsets[1:]], axis=1).astype(np.int64).reshape(spans.shape)
    return out.tobytes(), there


@dataclass(slots=True)
class Told:
    """What a flush tells the state: messages in `order` of scopes, in `groups`; see `kernels.summarise` for `facts`."""

    pings: PlainPings
    entries: Entries
    order: Numbers
    groups: Numbers
    scopes: list[Scope]
    numbers: Numbers
    facts: Numbers
    offsets: Numbers
    final_before: Numbers

    def new_of(self, group: int) -> Numbers:
        """The entries of a group in which something was new."""
        messages = self.order[self.groups[group] : self.groups[group + 1]]
        some = [np.arange(self.pings.entry_from[m], self.pings.entry_to[m]) for m in messages.tolist()]
        entries = np.concatenate(some)
        found: Numbers = entries[self.entries.new_counts[entries] > 0]
        return found
