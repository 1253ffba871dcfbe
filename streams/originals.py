"""Reads a message again from its place in the source topic, for the dead letter of one that was forwarded."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from aiokafka import AIOKafkaConsumer
from aiokafka.structs import TopicPartition

from streams.ledger.records import Record

PATIENCE_SECONDS = 30.0


class Originals:
    """The source topic, by place.

    Args:
        consumer: makes a consumer without a group.
    """

    def __init__(self, topic: str, consumer: Callable[[], AIOKafkaConsumer]) -> None:
        self._topic = topic
        self._consumer = consumer

    async def read(self, places: Iterable[tuple[int, int]]) -> dict[tuple[int, int], Record]:
        """The records at (partition, offset). Those that Kafka has deleted since are not among them."""
        wanted = sorted(places)
        found: dict[tuple[int, int], Record] = {}
        if not wanted:
            return found
        consumer = self._consumer()
        await consumer.start()
        try:
            partitions = [TopicPartition(self._topic, partition) for partition in {p for p, _ in wanted}]
            consumer.assign(partitions)
            beginnings = await consumer.beginning_offsets(partitions)
            for partition, offset in wanted:
                tp = TopicPartition(self._topic, partition)
                if offset < beginnings[tp]:  # a consumer would wait there for what comes next
                    continue
                consumer.seek(tp, offset)
                record = await asyncio.wait_for(consumer.getone(tp), PATIENCE_SECONDS)
                if record.offset == offset:
                    found[partition, offset] = record
        finally:
            await consumer.stop()
        return found
