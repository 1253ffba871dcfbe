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

FAR = 2**31 - 1

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

    __slots__ = ("dau", "length", "mau", "name", "sessions", "wau")

    def __init__(self, room: int = 4096) -> None:
        self.name = np.empty(room, np.uint64)
        self.dau = np.empty(room, np.uint32)
        self.wau = np.empty(room, np.uint32)
        self.mau = np.empty(room, np.uint32)
        self.sessions = np.empty(room, np.int64)
        self.length = 0

    def reserve(self, figures: int) -> None:
        """Makes room for `figures` more figures."""
        room = len(self.name)
        if self.length + figures > room:
            room = max(2 * room, self.length + figures)
            for column in ("name", "dau", "wau", "mau", "sessions"):
                old = getattr(self, column)
                grown = np.empty(room, old.dtype)
                grown[: self.length] = old[: self.length]
                setattr(self, column, grown)


class UsageLedger:
    """The ledger of one scope. Days are numbers: days since 1970-01-01."""

    __slots__ = (
        "columns", "count", "features", "first_pane", "floor", "masks", "names", "newest", "oldest",
        "sessions", "slots", "stage_names", "stage_of", "stages", "told_first", "told_last", "users",
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
        """As many panes and features as the masks have, -1 unknown; no panes while no number is known."""
        self.oldest = FAR
        self.newest = -1
        """Newest day with a user active; -1 while there is none."""
        self.told_first = FAR
        self.told_last = -1
        """First and last day with a number of sessions."""
        self.floor = -FAR
        """Days before it have left the ledger and may not be folded."""

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

    def add_columns(self, features: list[tuple[str, str]], names: Names) -> None:
        """Makes the columns of features that are new, all at once."""
        for stage, feature in features:
            self.columns[stage, feature] = len(self.features)
            self.features.append((stage, feature))
            self.stages.setdefault(stage, len(self.stages))
        new_stages = list(self.stages)[len(self.stage_names) :]
        self.stage_names = np.concatenate(
            [self.stage_names, np.array([names.number(stage, "") for stage in new_stages], np.uint64)]
        )
        self.stage_of = np.concatenate(
            [self.stage_of, np.array([self.stages[stage] for stage, _ in features], np.int64)]
        )
        self.names = np.concatenate([self.names, np.array([names.number(*name) for name in features], np.uint64)])
        if len(self.features) > self.masks.shape[1]:
            self._resize(features=max(len(self.features), self.masks.shape[1] + max(8, self.masks.shape[1] // 2)))

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
            self.make_room(self.count + max(8, self.count // 2))
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
        self.make_room(self.count + len(users))
        self.users[self.count : self.count + len(users)] = users
        self.count += len(users)
        self._index()

    def raise_sessions(self, day: int, column: int, number: int) -> bool:
        """Over the pings of a scope the largest number stands. True when it was raised."""
        self.open_days(day, day)
        if not self.sessions.shape[0]:
            self.sessions = np.full((self.masks.shape[0], PANE, self.masks.shape[1]), -1, np.int64)
        cell = (day // PANE) - self.first_pane, day % PANE, column
        if number <= self.sessions[cell]:
            return False
        self.sessions[cell] = number
        self.told_first, self.told_last = min(self.told_first, day), max(self.told_last, day)
        return True

    def open_days(self, first: int, last: int) -> None:
        """Makes panes for the days first..last."""
        low, high = first // PANE, last // PANE
        panes = self.masks.shape[0]
        if not panes:
            self.first_pane = low
            self.masks = np.zeros((high - low + 1, *self.masks.shape[1:]), np.uint64)
            return
        if self.first_pane <= low and high < self.first_pane + panes:
            return
        bottom = min(low, self.first_pane)
        top = max(high + 1, self.first_pane + panes)
        at = self.first_pane - bottom
        masks = np.zeros((top - bottom, *self.masks.shape[1:]), np.uint64)
        masks[at : at + panes] = self.masks
        self.masks = masks
        if self.sessions.shape[0]:
            sessions = np.full((top - bottom, *self.sessions.shape[1:]), -1, np.int64)
            sessions[at : at + panes] = self.sessions
            self.sessions = sessions
        self.first_pane = bottom

    def forget_before(self, day: int) -> bool:
        """Lets the days before `day` go, and the users and features that were on no other. False when there is nothing to
        forget. Figures are whole from 28 days behind `day` on: whether one falls to 0 is seen from the window before."""
        if day <= max(self.floor, self.first_day):
            return False
        pane = day // PANE
        gone = min(pane - self.first_pane, self.masks.shape[0])
        known = self._known_sessions()[max(gone, 0) :]
        masks = self.masks[max(gone, 0) :, : len(self.features), : self.count]
        if gone >= 0 and len(masks):
            masks[0] &= ~np.uint64(0) << np.uint64(day % PANE)
            known[0, : day % PANE] = -1
        users = masks.any(axis=(0, 1))
        columns = np.flatnonzero(masks.any(axis=(0, 2)) | (known >= 0).any(axis=(0, 1)))
        self._restart([self.features[column] for column in columns], self.names[columns])
        self.masks = np.ascontiguousarray(masks[:, columns][:, :, users])
        self.users = self.users[: self.count][users]
        self.count = len(self.users)
        self.first_pane += max(gone, 0)
        self.floor = day
        self.oldest, self.newest = (max(self.oldest, self.floor), self.newest) if self.count else (FAR, -1)
        told = np.flatnonzero((known >= 0).any(axis=2)) + self.first_pane * PANE
        self.told_first, self.told_last = (int(told[0]), int(told[-1])) if len(told) else (FAR, -1)
        self.sessions = np.ascontiguousarray(known[:, :, columns]) if len(told) else np.empty((0, PANE, 0), np.int64)
        self._resize(features=max(8, len(columns)), users=_room(self.count))
        self._index()
        return True

    def has_pane_before(self, day: int) -> bool:
        """Whether a whole pane lies before a day."""
        return bool(self.masks.shape[0]) and self.first_pane < day // PANE

    def _known_sessions(self) -> Days:
        """Sessions of every pane and feature, -1 where none are known."""
        if self.sessions.shape[0]:
            return self.sessions[:, :, : len(self.features)]
        return np.full((self.masks.shape[0], PANE, len(self.features)), -1, np.int64)

    def _restart(self, features: list[tuple[str, str]], names: Ids) -> None:
        """Numbers the features anew."""
        stages = dict.fromkeys(stage for stage, _ in features)
        self.stage_names = np.array([self.stage_names[self.stages[stage]] for stage in stages], np.uint64)
        self.stages = {stage: number for number, stage in enumerate(stages)}
        self.stage_of = np.array([self.stages[stage] for stage, _ in features], np.int64)
        self.names = names
        self.features = features
        self.columns = {feature: column for column, feature in enumerate(features)}

    def count_days(self, first: int, last: int, figures: Figures) -> tuple[Days, Days]:
        """Appends the figures of the days first..last.

        Returns:
            How many elements each of the days has, and how many of them are figures; those behind them are numbers of
            sessions without a figure.
        """
        days = last - first + 1
        figures.reserve(days * (1 + len(self.stages) + len(self.features)))
        lengths, counted = np.empty(days, np.int64), np.empty(days, np.int64)
        figures.length = kernels.count_figures(
            self.masks, self.first_pane, self.count, self.stage_of, len(self.stages), self.sessions, first, last,
            self.names, self.stage_names, figures.name, figures.dau, figures.wau, figures.mau, figures.sessions,
            lengths, counted, figures.length,
        )  # fmt: skip
        return lengths, counted

    @property
    def reach(self) -> int:
        """The newest day with a fact; -1 while there is none."""
        return max(self.newest, self.told_last)

    @property
    def first_day(self) -> int:
        """The first day that can have figures or sessions."""
        return min(self.oldest, self.told_first)

    @property
    def last_day(self) -> int:
        """The last day that can have figures or sessions: that on which the newest day has left the window."""
        return max(self.newest + WINDOW, self.told_last) if self.newest >= 0 else self.told_last

    def make_room(self, users: int) -> None:
        """Makes room for so many users."""
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
        if features and self.sessions.shape[0]:
            missing = features - self.sessions.shape[2]
            self.sessions = np.pad(self.sessions, ((0, 0), (0, 0), (0, missing)), constant_values=-1)
        if users:
            grown = np.empty(users, np.uint64)
            grown[: self.count] = self.users[: self.count]
            self.users = grown


def _room(users: int) -> int:
    """Rows to make for `users`: whole cache lines."""
    return max(8, -(-users // 8) * 8)
