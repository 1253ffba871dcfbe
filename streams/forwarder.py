"""What goes from one book to another: messages under a wrong key, GitLab.com's activity by user, watermarks."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import numpy as np
from aiokafka import AIOKafkaProducer

from sinks.message_limits import MessageLimits
from streams.ledger.forwarding import Forward
from streams.ledger.kernels import murmur2


def partition_of(key: bytes, partitions: int) -> int:
    """Kafka's default partition of a key: murmur2, as the Java client, aiokafka and librdkafka's `murmur2` have it."""
    return (int(murmur2(np.frombuffer(key, np.uint8))) & 0x7FFFFFFF) % partitions


class Forwarder:
    """The internal topic."""

    def __init__(self, producer: AIOKafkaProducer, limits: MessageLimits, topic: str, partitions: int) -> None:
        self._producer = producer
        self._limits = limits
        self._topic = topic
        self._partitions = partitions
        self.ends: dict[int, int] = {}
        """Offsets behind what was sent to each partition."""

    async def send(self, forwards: Iterable[Forward]) -> None:
        """Sends in this order to each partition; returns once all are acknowledged. Original timestamps are kept."""
        waiting: list[Any] = []
        for forward in forwards:
            await self._limits.make_room(self._topic, len(forward.key) + len(forward.value))
            waiting.append(
                await self._producer.send(
                    self._topic,
                    value=forward.value,
                    key=forward.key,
                    partition=partition_of(forward.key, self._partitions)
                    if forward.partition is None
                    else forward.partition,
                    timestamp_ms=forward.timestamp,
                )
            )
        for sent in await asyncio.gather(*waiting):
            self.ends[sent.partition] = max(self.ends.get(sent.partition, 0), sent.offset + 1)
