"""Who used what on which day, of one scope: the exact ledger behind dau, wau and mau.

A user is a row, a feature a column; each cell is a run of 64-bit words, one a pane of 64 days, a bit a day. Folding sets
bits: it is idempotent, commutative and associative, so the same facts in any order, any number of times, cut into any
batches, give the same ledger. A figure is a count of rows whose bits of the window are not all 0.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from streams.ledger import kernels
from streams.ledger.kernels import FULL, PANE, WINDOW
from streams.ledger.names import Names

Days = npt.NDArray[np.int64]
Ids = npt.NDArray[np.uint64]
Rows = npt.NDArray[np.int32]


@dataclass
class Entries:
    """Activity entries as columns, one element an entry; entry e's users are ids[starts[e] : starts[e] + lengths[e]].

    `new_rows` and `new_counts` receive what folding found to be new, in the order it was folded.
    """

    days: Days
    columns: Days
    starts: Days
    lengths: Days
    ids: Ids
    new_rows: Rows = field(init=False)
    new_counts: Days = field(init=False)
    new_total: int = 0

    def __post_init__(self) -> None:
        self.new_rows = np.empty(int(self.lengths.sum()), np.int32)
        self.new_counts = np.zeros(len(self.days), np.int64)


class Figures:
    """Figures as columns, room for them taken ahead; the figures of one row of `usage_day` lie side by side."""

    __slots__ = ("dau", "length", "mau", "name", "rows", "sessions", "wau")

    def __init__(self, room: int = 4096) -> None:
        self.name = np.empty(room, np.uint64)
        self.dau = np.empty(room, np.uint32)
        self.wau = np.empty(room, np.uint32)
        self.mau = np.empty(room, np.uint32)
        self.sessions = np.empty(room, np.int64)
        self.rows = np.empty(64, np.int64)
        self.length = 0

    def reserve(self, figures: int, rows: int) -> None:
        """Makes room for `figures` more figures and for `rows` row lengths of the next count."""
        room = len(self.name)
        if self.length + figures > room:
            room = max(2 * room, self.length + figures)
            for column in ("name", "dau", "wau", "mau", "sessions"):
                old = getattr(self, column)
                grown = np.empty(room, old.dtype)
                grown[: self.length] = old[: self.length]
                setattr(self, column, grown)
        if rows > len(self.rows):
            self.rows = np.empty(2 * rows, np.int64)


class UsageLedger:
    """The ledger of one scope. Days are numbers: days since 1970-01-01."""

    __slots__ = (
        "columns", "count", "features", "first_pane", "masks", "names", "newest", "oldest",
        "sessions", "slots", "stage_names", "stage_of", "stages", "users",
    )  # fmt: skip

    def __init__(self) -> None:
        self.users = np.empty(8, np.uint64)
        self.count = 0
        self.slots = np.full(16, -1, np.int32)
        self.masks = np.zeros((0, 8, 8), np.uint64)
        self.first_pane = 0
        self.features: list[tuple[str, str]] = []
        self.columns: dict[tuple[str, str], int] = {}
        self.stages: dict[str, int] = {}
        self.stage_of = np.empty(0, np.int64)
        self.names = np.empty(0, np.uint64)
        self.stage_names = np.empty(0, np.uint64)
        self.sessions = np.empty((0, PANE, 0), np.int64)
        self.oldest = 2**31 - 1
        self.newest = -1
        """Newest day with a user active; -1 while there is none."""

    def column(self, stage: str, feature: str, names: Names) -> int:
        """The column of a feature, made when it is new."""
        column = self.columns.get((stage, feature))
        if column is None:
            column = self.columns[stage, feature] = len(self.features)
            self.features.append((stage, feature))
            if stage not in self.stages:
                self.stages[stage] = len(self.stages)
                self.stage_names = np.append(self.stage_names, np.uint64(names.number(stage, "")))
            self.stage_of = np.append(self.stage_of, self.stages[stage])
            self.names = np.append(self.names, np.uint64(names.number(stage, feature)))
            if column >= self.masks.shape[1]:
                self._resize(features=column + max(8, column // 2))
        return column

    def fold(self, entries: Entries, lo: int, hi: int) -> None:
        """Folds entries lo..hi. What was new is appended to `entries.new_rows`, its number to `new_counts`."""
        days = entries.days[lo:hi]
        self.open_days(int(days.min()), int(days.max()))
        entry, at = lo, 0
        while True:
            state, self.count, entry, at, entries.new_total = kernels.fold_entries(
                self.users, self.count, self.slots, self.masks, self.first_pane,
                entries.days, entries.columns, entries.starts, entries.lengths, entry, hi, at,
                entries.ids, entries.new_rows, entries.new_counts, entries.new_total,
            )  # fmt: skip
            if state != FULL:
                break
            self._make_room(self.count + max(8, self.count // 2))
        active = days[entries.lengths[lo:hi] > 0]
        if len(active):
            self.newest = max(self.newest, int(active.max()))
            self.oldest = min(self.oldest, int(active.min()))

    def fold_rows(self, days: Days, columns: Days, lengths: Days, rows: Rows) -> None:
        """Folds activity given by row numbers: what `fold` found new, read back from state."""
        if not len(rows):
            return
        self.open_days(int(days.min()), int(days.max()))
        kernels.set_rows(self.masks, self.first_pane, days, columns, lengths, rows)
        active = days[lengths > 0]
        self.newest = max(self.newest, int(active.max()))
        self.oldest = min(self.oldest, int(active.min()))

    def append_users(self, users: Ids) -> None:
        """Adds users that are new, in the order of their rows: read back from state."""
        self._make_room(self.count + len(users))
        self.users[self.count : self.count + len(users)] = users
        self.count += len(users)
        self._index()

    def raise_sessions(self, day: int, column: int, number: int) -> bool:
        """Over the pings of a scope the largest number stands. True when it was raised."""
        self.open_days(day, day)
        panes, _, features = self.sessions.shape
        if panes != self.masks.shape[0] or features < len(self.features):
            grown = np.full((self.masks.shape[0], PANE, max(self.masks.shape[1], len(self.features))), -1, np.int64)
            if panes:
                grown[:panes, :, :features] = self.sessions
            self.sessions = grown
        cell = (day // PANE) - self.first_pane, day % PANE, column
        if number <= self.sessions[cell]:
            return False
        self.sessions[cell] = number
        return True

    def open_days(self, first: int, last: int) -> None:
        """Makes panes for the days first..last."""
        low, high = first // PANE, last // PANE
        panes = self.masks.shape[0]
        if not panes:
            self.first_pane = low
        elif self.first_pane <= low and high < self.first_pane + panes:
            return
        bottom = min(low, self.first_pane)
        top = max(high + 1, self.first_pane + panes)
        before, after = self.first_pane - bottom, top - self.first_pane - panes
        self.masks = np.pad(self.masks, ((before, after), (0, 0), (0, 0)))
        if self.sessions.shape[0]:
            self.sessions = np.pad(self.sessions, ((before, after), (0, 0), (0, 0)), constant_values=-1)
        self.first_pane = bottom

    def count_days(self, first: int, last: int, figures: Figures) -> Days:
        """Appends the figures of the days first..last.

        Returns:
            How many figures each of the days has.
        """
        days = last - first + 1
        figures.reserve(days * (1 + len(self.stages) + len(self.features)), days)
        figures.length = kernels.count_figures(
            self.masks, self.first_pane, self.count, self.stage_of, len(self.stages), self.sessions, first, last,
            self.names, self.stage_names, figures.name, figures.dau, figures.wau, figures.mau, figures.sessions,
            figures.rows, figures.length,
        )  # fmt: skip
        return figures.rows[:days].copy()

    @property
    def last_day(self) -> int:
        """The last day that can have figures: the one on which the newest day has left the window."""
        return self.newest + WINDOW

    def _make_room(self, users: int) -> None:
        if users > len(self.users):
            self._resize(users=_room(users))
        if 2 * users > len(self.slots):
            self._index()

    def _index(self) -> None:
        size = 16
        while size < 2 * len(self.users):
            size *= 2
        self.slots = np.full(size, -1, np.int32)
        kernels.index_users(self.users, self.count, self.slots)

    def _resize(self, features: int = 0, users: int = 0) -> None:
        panes, old_features, old_users = self.masks.shape
        masks = np.zeros((panes, features or old_features, users or old_users), np.uint64)
        masks[:, :old_features, :old_users] = self.masks
        self.masks = masks
        if users:
            grown = np.empty(users, np.uint64)
            grown[: self.count] = self.users[: self.count]
            self.users = grown


def _room(users: int) -> int:
    """Rows to make for `users`: whole cache lines."""
    return max(8, -(-users // 8) * 8)
