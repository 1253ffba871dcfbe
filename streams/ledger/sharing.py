"""GitLab.com by user: one scope that no partition can hold is cut into shards that share no user, so their counts add up.

Only facts that are applied and new go on: what a group's ledger has not known before, and the entries of GitLab.com's own
pings that the last one did not tell in the same words.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from streams.ledger.forwarding import Forward, ForwardedEntry, Share, encode

SHARE_USERS = 40_000
"""Users in one record, 8 bytes each."""

Ids = npt.NDArray[np.uint64]


def shard_of(ids: Ids, partitions: int) -> npt.NDArray[np.int64]:
    """The shard of each pseudonym, by its upper half; ledgers index by the lower one."""
    return ((ids >> np.uint64(32)) * np.uint64(partitions) >> np.uint64(32)).astype(np.int64)


class Shares:
    """Activity of a flush that is to be spread over the shards."""

    def __init__(self) -> None:
        self._cells: dict[tuple[int, str, str], int] = {}
        self._of: list[npt.NDArray[np.int64]] = []
        self._ids: list[Ids] = []

    def add(self, cells: Sequence[tuple[int, str, str]], lengths: npt.NDArray[np.int64], ids: Ids) -> None:
        """Takes users of (day, stage, feature) `cells`: the first `lengths[0]` of `ids`, and so on."""
        numbers = [self._cells.setdefault(cell, len(self._cells)) for cell in cells]
        self._of.append(np.repeat(np.array(numbers, np.int64), lengths))
        self._ids.append(ids)

    def forwards(self, partitions: int, timestamp: int) -> Iterator[Forward]:
        """Records for the internal topic, one or more for each shard that has something to know."""
        if not self._ids:
            return
        ids, of = np.concatenate(self._ids), np.concatenate(self._of)
        shards = shard_of(ids, partitions)
        order = np.lexsort((ids, of, shards))
        ids, of, shards = ids[order], of[order], shards[order]
        first = np.ones(len(ids), np.bool_)
        first[1:] = (ids[1:] != ids[:-1]) | (of[1:] != of[:-1]) | (shards[1:] != shards[:-1])
        ids, of, shards = ids[first], of[first], shards[first]
        cells = list(self._cells)
        for shard in range(partitions):
            lo, hi = np.searchsorted(shards, [shard, shard + 1]).tolist()
            for at in range(lo, hi, SHARE_USERS):
                end = min(at + SHARE_USERS, hi)
                yield Forward(b"", encode(Share(_entries(cells, of[at:end], ids[at:end]))), timestamp, shard)


def _entries(cells: list[tuple[int, str, str]], of: npt.NDArray[np.int64], ids: Ids) -> list[ForwardedEntry]:
    numbers, starts = np.unique(of, return_index=True)
    ends = [*starts[1:].tolist(), len(of)]
    entries = []
    for number, start, end in zip(numbers.tolist(), starts.tolist(), ends, strict=True):
        day, stage, feature = cells[number]
        entries.append(ForwardedEntry(day, stage, feature, None, ids[start:end].tobytes()))
    return entries
