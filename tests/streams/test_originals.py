"""Messages that a letter is about, read again: those that Kafka has deleted since are left out, and nobody waits for them."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

from aiokafka.structs import TopicPartition

from streams.originals import Originals


class Log:
    """A consumer of partitions that begin at 5 and end at 8; like Kafka's, it waits for ever where there is nothing."""

    def __init__(self) -> None:
        self._at: dict[TopicPartition, int] = {}
        self.stopped = False

    async def start(self) -> None: ...

    async def stop(self) -> None:
        self.stopped = True

    def assign(self, partitions: Any) -> None: ...

    async def beginning_offsets(self, partitions: Any) -> dict[TopicPartition, int]:
        return dict.fromkeys(partitions, 5)

    def seek(self, partition: TopicPartition, offset: int) -> None:
        self._at[partition] = offset

    async def getone(self, partition: TopicPartition) -> Any:
        if not 5 <= self._at[partition] < 8:
            await asyncio.Event().wait()
        return SimpleNamespace(offset=self._at[partition])


async def test_what_is_deleted_is_left_out() -> None:
    log = Log()
    connect: Any = lambda: log  # noqa: E731
    found = await asyncio.wait_for(Originals("topic", connect).read([(0, 3), (0, 6), (1, 4), (1, 7)]), 5)
    assert {place: record.offset for place, record in found.items()} == {(0, 6): 6, (1, 7): 7}
    assert log.stopped
