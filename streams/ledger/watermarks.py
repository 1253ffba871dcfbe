"""How far the source partitions are, and so which days nobody can tell anything about any more.

A message may lie 36 days behind the newest one ahead of it in its partition, its entries 36 days before that, and a figure
reaches 27 days further back, and one more to be seen falling to 0: 100 days behind the partition that is furthest behind, a
day can leave the ledgers. Each book tells the others how far its own source partition is, and how far everything is that it
has passed on: facts that come from a source partition by way of another book are behind that book's word.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from streams.ledger.judgement import LATE_DAYS
from streams.ledger.kernels import WINDOW

KEPT_DAYS = WINDOW + 2 * LATE_DAYS
SILENT_DAYS = 36
MISSED_DAYS = 7
"""A longer break between two owners is no silence of anybody; a shorter one is the rhythm of a worker that drains now and then."""

NO_DAY = -(2**31)


class Heard(NamedTuple):
    """A book's word, as days: of the newest received time in its source partition; below which it passes nothing on; the
    as-of day on which the first of them last rose."""

    partition: int
    source: int
    low: int
    since: int


class Watermarks:
    """The watermarks that one book knows of, its own among them.

    A source partition that stays where it is for 36 days of the as-of clock, while another moves on by 36 days of received
    time, counts as being where the others are: nothing is sent to it. Both are asked for, as history that is loaded in an
    hour may come one partition after the other.
    """

    def __init__(self, partition: int, partitions: int, heard: Iterable[Heard] = ()) -> None:
        self._partition = partition
        self._heard = {p: Heard(p, NO_DAY, NO_DAY, NO_DAY) for p in range(partitions)}
        self._heard.update((one.partition, one) for one in heard)
        self._told: tuple[int, int] = NO_DAY, NO_DAY

    def begin(self, as_of: int) -> None:
        """An owner begins, on an as-of day: partitions that were never heard of are silent from now on. Days on which nobody
        worked are nobody's silence: what came in then is still to be read."""
        away = as_of - max((one.since for one in self._heard.values()), default=as_of)
        if MISSED_DAYS < away < as_of - NO_DAY:
            for one in self._heard.values():
                if one.since != NO_DAY:
                    self._heard[one.partition] = one._replace(since=one.since + away)
        for one in self._heard.values():
            if one.since == NO_DAY:
                self._heard[one.partition] = one._replace(since=as_of)

    def hear(self, partition: int, source: int, low: int, as_of: int) -> None:
        """Takes a book's word, on an as-of day. Days never fall."""
        known = self._heard[partition]
        since = as_of if source > known.source else known.since
        self._heard[partition] = Heard(partition, max(source, known.source), max(low, known.low), since)

    def move(self, source: int, as_of: int) -> tuple[int, int] | None:
        """Our own source partition is on day `source`. Returns our word, (source, low), when it is new: for every book, this
        one too, as what it sends to itself is on its way as well."""
        self.hear(self._partition, source, NO_DAY, as_of)
        word = self._heard[self._partition].source, self._low(as_of)
        if word == self._told:
            return None
        self._told = word
        return word

    def _low(self, as_of: int) -> int:
        newest = max(one.source for one in self._heard.values())
        moving = [
            one.source
            for one in self._heard.values()
            if not (as_of - one.since >= SILENT_DAYS and newest - one.source >= SILENT_DAYS)
        ]
        return min(moving)

    @property
    def floor(self) -> int:
        """No fact of a day before this one can come any more, and no figure that can still change reaches back to it."""
        low = min(one.low for one in self._heard.values())
        return low - KEPT_DAYS if low > NO_DAY else NO_DAY

    @property
    def heard(self) -> list[Heard]:
        """What is known, to be kept in state."""
        return list(self._heard.values())
