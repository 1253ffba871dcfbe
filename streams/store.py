"""Faust's in-memory table store, with versions: of two values of one key the newer stands, in whatever order they come.

Registered by entry point under the scheme `pingstream`. It holds what the changelog holds, durable values only: recovered
ones, and those that the pipeline puts here once they are acknowledged. Books are read from it. Nothing is ever deleted, as
a delete has no version.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

from faust.stores import memory
from faust.types import EventT

from streams.ledger.state import EPOCH, VERSION


class Store(memory.Store):  # type: ignore[misc]
    """Recovered values by partition."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._partitions: dict[int, dict[bytes, bytes]] = defaultdict(dict)
        self.overtaken: dict[int, dict[bytes, bytes]] = defaultdict(dict)
        """Values that an older owner wrote over after its time: to be written again, or compaction would keep the old."""
        self.late: dict[int, set[bytes]] = defaultdict(set)
        """Keys whose values an older owner wrote after its time, where nothing newer stood: they stand, but any owner between
        it and us may still write over them, if it was paused as well."""
        self._epochs: dict[int, bytes] = {}
        """The highest epoch in what was recovered."""
        self.ends: dict[int, int] = {}
        """Offset behind the last record that was recovered, of each partition that has one."""
        self.recovered = 0
        """Records that were recovered since the partitions were taken over last."""
        self.recovering_since: float | None = None
        """When the first of them came, by the monotonic clock."""

    def _clear(self) -> None:
        super()._clear()
        self._partitions.clear()
        self.overtaken.clear()
        self.late.clear()
        self._epochs.clear()
        self.ends.clear()

    def apply_changelog_batch(
        self, batch: Iterable[EventT], to_key: Callable[[Any], Any], to_value: Callable[[Any], Any]
    ) -> None:
        """Takes recovered records, see `streams.transport`; one that is older than what is there stays out."""
        if self.recovering_since is None:
            self.recovering_since = time.monotonic()
        for event in batch:
            message = event.message
            self.recovered += len(message.value)
            self.ends[message.partition] = message.offset + 1
            self._recover(message.partition, message.value)

    def _recover(self, partition: int, records: Iterable[Any]) -> None:
        values, overtaken, late = self._partitions[partition], self.overtaken[partition], self.late[partition]
        newest = self._epochs.get(partition, b"")
        for record in records:
            key, value = record.key, record.value
            if value is None:
                continue
            known = values.get(key)
            if known is not None and value[VERSION] < known[VERSION]:
                overtaken[key] = known
                continue
            values[key] = value
            overtaken.pop(key, None)
            epoch = value[EPOCH]
            if epoch < newest:
                late.add(key)
            else:
                late.discard(key)
                newest = epoch
        self._epochs[partition] = newest

    def end_recovery(self) -> tuple[int, float]:
        """Records that were recovered, and seconds since the first of them; the count begins anew."""
        records, since = self.recovered, self.recovering_since
        self.recovered, self.recovering_since = 0, None
        return records, time.monotonic() - since if since is not None else 0.0

    def of_partition(self, partition: int) -> dict[bytes, bytes]:
        """The values of a partition, live: `put` changes them."""
        return self._partitions[partition]

    def put(self, partition: int, key: bytes, value: bytes) -> None:
        """Takes a value that the changelog has acknowledged."""
        values = self._partitions[partition]
        known = values.get(key)
        if known is None or known[VERSION] <= value[VERSION]:
            values[key] = value

    @property
    def nbytes(self) -> int:
        """Bytes of all values."""
        return sum(len(value) for values in self._partitions.values() for value in values.values())

    def forget(self, partition: int) -> None:
        """Drops what is known of a partition that is another worker's now."""
        self._partitions.pop(partition, None)
        self.overtaken.pop(partition, None)
        self.late.pop(partition, None)
        self._epochs.pop(partition, None)
        self.ends.pop(partition, None)

    async def on_recovery_completed(self, active_tps: set[Any], standby_tps: set[Any]) -> None:
        """Drops partitions that are not ours any more. The app's other tables have others."""
        topic = self.table.changelog_topic.get_topic_name()
        mine = {tp.partition for tp in active_tps if tp.topic == topic}
        for partition in [p for p in self._partitions if p not in mine]:
            self.forget(partition)
