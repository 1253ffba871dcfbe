"""How far source partitions are delivered and committed: what a balance of messages and the progress of commits are read from."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from faust.types import TP


class Batch(list[Any]):
    """Records of one fetch of one partition, in a row.

    Attributes:
        ahead: how many records of the partition were delivered before them in this generation. Whoever gets them all has
            got as many: a batch that is lost on the way shows with the next one.
    """

    def __init__(self, records: Iterable[Any], ahead: int) -> None:
        super().__init__(records)
        self.ahead = ahead


@dataclass
class _Partition:
    """`read_to` and `committed`: the offset after the last one that is. `still_since`: since when some are read and no commit
    has come, None when all are committed."""

    read_to: int
    committed: int
    delivered: int
    still_since: float | None = None


class Delivery:
    """The source partitions of one generation of the consumer group.

    Args:
        clock: seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._generation: int | None = None
        self._partitions: dict[TP, _Partition] = {}

    def begin(self, generation: int, positions: Mapping[TP, int]) -> None:
        """Partitions are delivered from these offsets on, up to which they are committed. Within a generation, anew."""
        known = self._partitions if generation == self._generation else {}
        self._generation = generation
        self._partitions = {
            tp: _Partition(offset, offset, known[tp].delivered if tp in known else 0)
            for tp, offset in positions.items()
        }

    def deliver(self, tp: TP, records: list[Any]) -> Batch:
        """Counts records that are delivered now, and says how many were before them."""
        partition = self._partitions[tp]
        batch = Batch(records, partition.delivered)
        partition.delivered += len(records)
        partition.read_to = records[-1].offset + 1
        if partition.still_since is None:
            partition.still_since = self._clock()
        return batch

    def commit(self, offsets: Mapping[TP, int]) -> None:
        """The broker has taken these offsets as the group's."""
        for tp, offset in offsets.items():
            partition = self._partitions.get(tp)
            if partition is not None and offset > partition.committed:
                partition.committed = offset
                partition.still_since = self._clock() if offset < partition.read_to else None

    def uncommitted(self, topic: str) -> tuple[int, float]:
        """How many records of a topic are read and not committed, in offsets; and for how long no commit has moved a partition of
        which there are some, the longest, in seconds."""
        some = [partition for tp, partition in self._partitions.items() if tp.topic == topic]
        still = [partition.still_since for partition in some if partition.still_since is not None]
        return (
            sum(partition.read_to - partition.committed for partition in some),
            self._clock() - min(still) if still else 0.0,
        )
