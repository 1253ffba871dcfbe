"""Writes the table's changelog: whole batches by the producer, and returns when all replicas have them.

Faust's own table writes are fire-and-forget: a commit's flush gives up after 0.1 s, and a failed record is a log line.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from aiokafka import AIOKafkaProducer

from streams.ledger.records import Change


class Overtaken(Exception):
    """What was recovered is not the newest state any more. The process ends; the next one recovers it anew."""


class Changelog:
    """The changelog topic of the table, by partition."""

    def __init__(self, producer: AIOKafkaProducer, topic: str) -> None:
        self._producer = producer
        self.topic = topic
        self.bytes_written = 0

    async def begin(self, changes: Mapping[int, Sequence[Change]]) -> asyncio.Future[Any]:
        """Hands changes to the producer, each partition's in order.

        Returns:
            What to await: it is done once every change is acknowledged, with the places of the batches, and raises when one
            was refused.
        """
        waiting: list[Any] = []
        for partition, some in changes.items():
            batch = self._producer.create_batch()
            for change in some:
                if batch.append(key=change.key, value=change.value, timestamp=None) is None:
                    waiting.append(await self._send(batch, partition))
                    batch = self._producer.create_batch()
                    if batch.append(key=change.key, value=change.value, timestamp=None) is None:
                        raise ValueError(f"a value of {len(change.value):,} bytes is too large for the changelog")
                self.bytes_written += len(change.key) + len(change.value)
            if batch.record_count():
                waiting.append(await self._send(batch, partition))
        return asyncio.gather(*waiting)

    async def claim(self, changes: Mapping[int, Sequence[Change]], ends: Mapping[int, int]) -> None:
        """Writes changes that must stand right behind what is known of each partition: of two who claim the same, the first one
        has it. Returns once everything is acknowledged.

        Args:
            ends: offset behind the last record that is known, of each partition that has one.

        Raises:
            Overtaken: somebody else has written to a partition in between.
        """
        written = {partition: await self.begin({partition: some}) for partition, some in changes.items()}
        for partition, places in written.items():
            first, *_ = await places
            if first.offset != ends.get(partition, 0):
                raise Overtaken(
                    f"{self.topic}, partition {partition}: another worker has written to it since its state was recovered"
                )

    async def _send(self, batch: Any, partition: int) -> Any:
        batch.close()
        return await self._producer.send_batch(batch, self.topic, partition=partition)
