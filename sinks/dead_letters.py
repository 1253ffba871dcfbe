"""Dead letters into their topics: the original bytes and why, acknowledged by all replicas before anything goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, NamedTuple

from aiokafka import AIOKafkaProducer
from aiokafka.errors import MessageSizeTooLargeError, RecordListTooLargeError

from schemas.dead_letters import (
    HEADER_ATTEMPT,
    HEADER_ERROR,
    HEADER_OFFSET,
    HEADER_PARTITION,
    HEADER_REASON,
    HEADER_REDACTED,
    HEADER_TIMESTAMP,
    HEADER_TOPIC,
)
from sinks.message_limits import MessageLimits
from sinks.topics import dead_letter_topic


class DeadLetter(NamedTuple):
    """A letter about the message at `topic`, `partition`, `offset`.

    Attributes:
        timestamp: its received time, ms since 1970.
        value: the message; without the values of the fields in `redacted`.
    """

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    reason: str
    sentence: str
    attempt: int
    redacted: tuple[str, ...] = ()


class DeadLetters:
    """Writes letters with a producer that has to be started."""

    def __init__(self, producer: AIOKafkaProducer, limits: MessageLimits) -> None:
        self._producer = producer
        self._limits = limits

    async def send(self, letters: Iterable[DeadLetter]) -> None:
        """Returns once every letter is acknowledged.

        Raises:
            aiokafka.errors.KafkaError: one was refused. Of one that its topic had no room for it has room when it comes again.
        """
        waiting: list[Any] = []
        topics: set[str] = set()
        for letter in letters:
            value = letter.value
            if value is None and letter.key is None:
                value = b""  # aiokafka sends no record without key and value, though Kafka takes one
            headers = [
                (HEADER_REASON, letter.reason),
                (HEADER_ERROR, letter.sentence),
                (HEADER_TOPIC, letter.topic),
                (HEADER_PARTITION, str(letter.partition)),
                (HEADER_OFFSET, str(letter.offset)),
                (HEADER_TIMESTAMP, str(letter.timestamp)),
                (HEADER_ATTEMPT, str(letter.attempt)),
            ]
            if letter.redacted:
                headers.append((HEADER_REDACTED, ",".join(letter.redacted)))
            size = len(value or b"") + len(letter.key or b"") + sum(len(name) + len(text) for name, text in headers)
            topics.add(dead_letter_topic(letter.topic))
            await self._limits.make_room(dead_letter_topic(letter.topic), size)
            waiting.append(
                await self._producer.send(
                    dead_letter_topic(letter.topic),
                    value=value,
                    key=letter.key,
                    timestamp_ms=letter.timestamp,
                    headers=[(name, text.encode(errors="replace")) for name, text in headers],
                )
            )
        try:
            await asyncio.gather(*waiting)
        except (MessageSizeTooLargeError, RecordListTooLargeError):
            for topic in topics:
                await self._limits.was_refused(topic)
            raise
