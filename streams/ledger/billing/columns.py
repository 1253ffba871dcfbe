"""Columns: what many rows have, and the few operations on them that the ledger of accounts is made of.

A key is a number of 64 bits that sorts as a pair (owner, day) does, the owner being an account or a subscription of a batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Ints: TypeAlias = npt.NDArray[np.int64]
Bools: TypeAlias = npt.NDArray[np.bool_]

DAY_BITS = 24
"""Days since 1970 fit in: the year 9999 is day 2,932,896."""


@dataclass(frozen=True, slots=True)
class Texts:
    """Strings side by side: the UTF-8 of all, uint8, and where each begins, int32, with the end of the last."""

    data: npt.NDArray[np.uint8]
    offsets: npt.NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def first(self, count: int) -> Texts:
        """The first `count` of them."""
        offsets = self.offsets[: count + 1]
        return Texts(self.data[: offsets[-1]], offsets)


@dataclass(frozen=True, slots=True)
class Strings:
    """Strings by number: an element is names[codes[i]]."""

    names: Sequence[str] | Texts
    codes: Ints


@dataclass(frozen=True, slots=True)
class Lists:
    """Elements that are lists: their items one after the other, and how many each has."""

    items: Ints
    lengths: Ints


Column: TypeAlias = npt.NDArray[Any] | Sequence[Any] | Strings | Texts | Lists
"""Elements of a column, one after the other."""


def ints(values: Sequence[int]) -> Ints:
    """A column of numbers."""
    return np.array(values, np.int64)


def keys(owners: Ints, days: Ints) -> Ints:
    """A key for each pair."""
    return owners << DAY_BITS | days


def owners_of(some: Ints) -> Ints:
    """The owners of keys."""
    return some >> DAY_BITS


def days_of(some: Ints) -> Ints:
    """The days of keys."""
    return some & ((1 << DAY_BITS) - 1)


def last_of_each(some: Ints) -> Ints:
    """Places of the last of equal neighbours."""
    if not len(some):
        return np.empty(0, np.int64)
    return np.flatnonzero(np.append(some[1:] != some[:-1], True))


def first_of_each(some: Ints) -> Ints:
    """Places of the first of equal neighbours."""
    if not len(some):
        return np.empty(0, np.int64)
    return np.flatnonzero(np.append(True, some[1:] != some[:-1]))


def different(*some: Ints) -> Ints:
    """The different ones of several sorted columns, sorted. Runs that are sorted are merged; numpy's own way hashes first."""
    every = np.sort(np.concatenate(some), kind="stable")
    return every[first_of_each(every)]


def in_force(series: Ints, asked: Ints) -> Ints:
    """For each key asked the place of the newest of the sorted `series` with its owner and its day or an earlier one; -1 is
    none."""
    found = np.searchsorted(series, asked, "right") - 1
    if not len(series):
        return found
    return np.where((found >= 0) & (owners_of(series[found]) == owners_of(asked)), found, -1)


def pick(values: Ints, places: Ints, otherwise: int = 0) -> Ints:
    """values[places], `otherwise` where the place is -1."""
    if not len(values):
        return np.full(len(places), otherwise, np.int64)
    return np.where(places >= 0, values[places], otherwise)


def before(values: Ints, owners: Ints, otherwise: int = 0) -> Ints:
    """The value of the element before, if it has the same owner; owners stand together."""
    found = np.full(len(values), otherwise, np.int64)
    same = owners[1:] == owners[:-1]
    found[1:][same] = values[:-1][same]
    return found


def after(values: Ints, owners: Ints, otherwise: int) -> Ints:
    """The value of the element behind, if it has the same owner."""
    return before(values[::-1], owners[::-1], otherwise)[::-1]


def running(values: Ints, owners: Ints) -> Ints:
    """Sums of the values up to and with each element, for each owner by itself."""
    sums = np.cumsum(values)
    starts = first_of_each(owners)
    lengths = np.diff(np.append(starts, len(values)))
    return sums - np.repeat(sums[starts] - values[starts], lengths) if len(values) else sums


def ranges(starts: Ints, lengths: Ints) -> Ints:
    """start, start + 1 … of each pair, `length` of them, one after the other."""
    ends = np.cumsum(lengths)
    return np.arange(ends[-1] if len(ends) else 0) + np.repeat(starts - ends + lengths, lengths)
