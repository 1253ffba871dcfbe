"""One scope's whole state: its ledger, which pings it has seen, how far its rows are written."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterator
from typing import NamedTuple

from streams.ledger.reading import Told
from streams.ledger.records import DAY_US, PingKey, ScopeKey
from streams.ledger.usage import UsageLedger

REMEMBERED_US = 400 * DAY_US
"""Identities are remembered for 400 days of `recorded_at`, behind the newest of the scope."""

NEVER = -(2**31)

LOADED = -1
"""Number of the flush of what was read back from state."""


READ_HERE = -1
"""Delivery of a message that was read from the source topic."""

Place = tuple[int, int, int]
"""Where a ping's message came from: source partition and offset, and the internal topic's offset or READ_HERE."""


class _Recent(NamedTuple):
    """Places of pings of one source partition: those of the newest flush, and older ones that have not come again. A ping has
    more than one when it was put back from the dead letters."""

    flush: int
    now: dict[tuple[PingKey, int], tuple[Place, ...]]
    before: dict[tuple[PingKey, int], tuple[Place, ...]]


class _Latest(NamedTuple):
    """The pings of the newest flush, of one source partition, read there."""

    key: PingKey
    partition: int
    flush: int
    times: list[int]
    offsets: list[int]


class PingLog:
    """Which pings are known, by identity; of the newest ones, where their messages stood in Kafka.

    The place tells a message that comes again after a crash, whose rows may not have been written, from one that was
    sent twice, and from one that was forwarded twice. Messages of one source partition come again in their order, so a new
    one of it in a later flush says that those before it are done with.
    """

    __slots__ = ("_latest", "_recent", "_times")

    def __init__(self) -> None:
        self._times: dict[PingKey, array[int]] = {}
        self._recent: dict[int, _Recent] = {}
        self._latest: _Latest | None = None
        """What is recent, where that is all of it: taken apart when it is asked for."""

    def __contains__(self, ping: tuple[PingKey, int]) -> bool:
        times = self._times.get(ping[0])
        if times is None:
            return False
        at = bisect_left(times, ping[1])
        return at < len(times) and times[at] == ping[1]

    def add(self, key: PingKey, recorded_at: int, place: Place, flush: int) -> None:
        """Remembers a ping; `flush`: the number of the flush."""
        times = self._times.get(key)
        if times is None:
            times = self._times[key] = array("q")
        if not times or recorded_at > times[-1]:
            times.append(recorded_at)
            while times[0] < recorded_at - REMEMBERED_US:
                del times[0]
        else:
            at = bisect_left(times, recorded_at)
            if times[at] != recorded_at:
                times.insert(at, recorded_at)
        self._take_apart()
        recent = self._recent.get(place[0])
        if recent is None or recent.flush != flush:
            recent = self._recent[place[0]] = _Recent(flush, {}, {})
        recent.before.clear()
        recent.now[key, recorded_at] = (*recent.now.get((key, recorded_at), ()), place)

    def follow(self, key: PingKey, partition: int, flush: int, times: list[int], offsets: list[int]) -> None:
        """Remembers the pings of a flush that were read here, all there are of the scope in it: each newer than those before it.

        Call it only where `is_recent_elsewhere` says no.
        """
        known = self._times.get(key)
        if known is None:
            known = self._times[key] = array("q")
        known.extend(times)
        while known[0] < times[-1] - REMEMBERED_US:
            del known[0]
        self._recent.clear()
        self._latest = _Latest(key, partition, flush, times, offsets)

    def is_recent_elsewhere(self, partition: int) -> bool:
        """Whether pings of another source partition are recent."""
        if self._latest is not None:
            return self._latest.partition != partition
        return bool(self._recent) and self._recent.keys() != {partition}

    @property
    def newest(self) -> int:
        """The newest `recorded_at`; -1 without any."""
        return max((times[-1] for times in self._times.values() if times), default=-1)

    def _take_apart(self) -> None:
        if self._latest is None:
            return
        key, partition, flush, times, offsets = self._latest
        self._latest = None
        self._recent[partition] = _Recent(
            flush,
            {(key, at): ((partition, offset, READ_HERE),) for at, offset in zip(times, offsets, strict=True)},
            {},
        )

    def add_again(self, key: PingKey, recorded_at: int, place: Place, flush: int) -> None:
        """A message came again, in this flush, or was put back: until its rows are accepted it is as recent as a new one. It may
        have come before without our knowing, so it does not say that others are done with."""
        self._take_apart()
        recent = self._recent.get(place[0])
        if recent is None:
            recent = self._recent[place[0]] = _Recent(flush, {}, {})
        elif recent.flush != flush:
            before = recent.before
            for other, places in recent.now.items():
                before[other] = (*before.get(other, ()), *places)
            recent = self._recent[place[0]] = _Recent(flush, {}, before)
        ping = key, recorded_at
        recent.before[ping] = tuple(other for other in recent.before.get(ping, ()) if other != place)
        recent.now[ping] = (*(other for other in recent.now.get(ping, ()) if other != place), place)

    def places(self, key: PingKey, recorded_at: int, partition: int) -> tuple[Place, ...]:
        """Where a known ping came from, if that was lately and from this source partition."""
        self._take_apart()
        recent = self._recent.get(partition)
        if recent is None:
            return ()
        ping = key, recorded_at
        return recent.now.get(ping, ()) + recent.before.get(ping, ())

    @property
    def recent(self) -> list[tuple[PingKey, int, Place]]:
        """(key, recorded_at, place) of the newest pings."""
        if self._latest is not None:
            key, partition, _, times, offsets = self._latest
            return [(key, at, (partition, offset, READ_HERE)) for at, offset in zip(times, offsets, strict=True)]
        return [
            (key, recorded_at, place)
            for recent in self._recent.values()
            for (key, recorded_at), places in (*recent.before.items(), *recent.now.items())
            for place in places
        ]

    def load_recent(self, recent: list[tuple[PingKey, int, Place]]) -> None:
        """Takes what `recent` gave, instead of what was there."""
        self._latest = None
        self._recent.clear()
        for key, recorded_at, place in recent:
            self.add(key, recorded_at, place, LOADED)

    def items(self) -> Iterator[tuple[PingKey, bytes]]:
        """Every key with its times as native 64-bit numbers."""
        for key, times in self._times.items():
            yield key, times.tobytes()

    def load(self, key: PingKey, times: bytes) -> None:
        """Takes what `items` gave."""
        self._times[key] = array("q")
        self._times[key].frombytes(times)


class Scope:
    """State of one scope, the unit of the changelog.

    Attributes:
        epoch, revision: version of its state, and of its rows: the owner's epoch at the last change, and a number that rises with
            every change.
        written_to: last day whose row is written, as of the last change.
        dirty_from: first day whose row the last flush wrote.
        unsure: read back from state: whether the rows of its last flush were accepted is not known, so the next flush
            that touches the scope writes them again.
        final_before: days before it may leave the ledger: nothing more can come of them, and their rows are written.
        forgot: days have left the ledger since the last change was written; the next one is a base.
        told: compact entries of the last ping; not durable, only a short cut.
        base: (epoch, revision) of the state's base in the changelog, None while there is none.
        deltas: bytes of each delta written on top of the base.
        number, stale: in the book's directory, -1 while it has none; whether something has changed that stands there.
    """

    __slots__ = (
        "base", "base_bytes", "deltas", "digest", "dirty_from", "epoch", "final_before", "forgot", "key", "ledger",
        "number", "parity", "parts", "pings", "revision", "stale", "told", "unsure", "written_features", "written_to", "written_users",
    )  # fmt: skip

    def __init__(self, key: ScopeKey, digest: bytes) -> None:
        self.key = key
        self.digest = digest
        self.ledger = UsageLedger()
        self.pings = PingLog()
        self.told: Told | None = None
        self.epoch = 0
        self.revision = 0
        self.written_to = NEVER
        self.dirty_from = NEVER
        self.unsure = False
        self.forgot = False
        self.final_before = NEVER
        self.base: tuple[int, int] | None = None
        self.base_bytes = 0
        self.parts = 0
        self.parity = 0
        self.deltas: list[int] = []
        self.written_users = 0
        self.written_features = 0
        self.number = -1
        self.stale = True
