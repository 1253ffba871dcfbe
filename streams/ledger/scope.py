"""One scope's whole state: its ledger, which pings it has seen, how far its rows are written."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterator

from streams.ledger.reading import Entry
from streams.ledger.records import DAY_US, PingKey, ScopeKey
from streams.ledger.usage import UsageLedger

REMEMBERED_US = 400 * DAY_US
"""Identities are remembered for 400 days of `recorded_at`, behind the newest of the scope."""

NEVER = -(2**31)


class PingLog:
    """Which pings are known, by identity; of those of the last flush, where they stood in Kafka.

    The place tells a message that comes again after a crash, whose rows may not have been written, from one that was
    sent twice.
    """

    __slots__ = ("_recent", "_times")

    def __init__(self) -> None:
        self._times: dict[PingKey, array[int]] = {}
        self._recent: dict[tuple[PingKey, int], tuple[int, int]] = {}

    def __contains__(self, ping: tuple[PingKey, int]) -> bool:
        times = self._times.get(ping[0])
        if times is None:
            return False
        at = bisect_left(times, ping[1])
        return at < len(times) and times[at] == ping[1]

    def add(self, key: PingKey, recorded_at: int, place: tuple[int, int] | None) -> None:
        """Remembers a ping; `place`: partition and offset of its message, None when it is read from older state."""
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
        if place is not None:
            self._recent[key, recorded_at] = place

    def came_from(self, key: PingKey, recorded_at: int) -> tuple[int, int] | None:
        """Place of a ping of the last flush; None for an older one."""
        return self._recent.get((key, recorded_at))

    def new_flush(self) -> None:
        """Forgets places: everything before is accepted by the sink."""
        self._recent.clear()

    @property
    def recent(self) -> list[tuple[PingKey, int, tuple[int, int]]]:
        """(key, recorded_at, place) of the pings of this flush."""
        return [(key, recorded_at, place) for (key, recorded_at), place in self._recent.items()]

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
        revision: rises with every change; with the owner's epoch it is the version of the scope's rows.
        written_to: last day whose row is written, as of the last change.
        dirty_from: first day whose row the last flush wrote: from there rows are written again after a crash.
        known: activity entries of the last ping, by the hash of their bytes; not durable, only a short cut.
        base: (epoch, revision) of the state's base in the changelog, None while there is none.
        deltas: bytes of each delta written on top of the base.
    """

    __slots__ = (
        "base", "base_bytes", "deltas", "digest", "dirty_from", "key", "known", "ledger", "parity",
        "parts", "pings", "revision", "written_features", "written_to", "written_users",
    )  # fmt: skip

    def __init__(self, key: ScopeKey, digest: bytes) -> None:
        self.key = key
        self.digest = digest
        self.ledger = UsageLedger()
        self.pings = PingLog()
        self.known: dict[int, Entry] = {}
        self.revision = 0
        self.written_to = NEVER
        self.dirty_from = NEVER
        self.base: tuple[int, int] | None = None
        self.base_bytes = 0
        self.parts = 0
        self.parity = 0
        self.deltas: list[int] = []
        self.written_users = 0
        self.written_features = 0
