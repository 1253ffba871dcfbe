"""Dead letters as they stand in their topics, and the notes beside them that tell which were put back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeAlias

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from deploy.cli.errors import Failure, WrongUse
from schemas.dead_letters import (
    HEADER_ATTEMPT,
    HEADER_ERROR,
    HEADER_OFFSET,
    HEADER_PARTITION,
    HEADER_REASON,
    HEADER_REPLAY,
    HEADER_REPLAY_OFFSET,
    HEADER_REPLAY_PARTITION,
    HEADER_TIMESTAMP,
    HEADER_TOPIC,
    Replay,
)
from schemas.settings import Settings
from sinks.kafka_client import BrokerRefused, BrokerUnavailable, client_config, wait_for_broker
from sinks.topics import dead_letter_topic

PATIENCE_SECONDS: Final = 5.0
STALL_SECONDS: Final = 30.0
FETCH_BYTES: Final = 4 * 1024 * 1024

KafkaRecord: TypeAlias = "ConsumerRecord[bytes | None, bytes | None]"


class Place(NamedTuple):
    """Where the message of a letter stands: what names the letter."""

    topic: str
    partition: int
    offset: int


class Letter(NamedTuple):
    """A letter as it was read. `timestamp`: the message's received time, milliseconds since 1970."""

    place: Place
    reason: str
    error: str
    timestamp: int
    attempt: int
    record: KafkaRecord


class Note(NamedTuple):
    """What a replay says about the letter of `place`, in the letter's own partition and behind it.

    partition, offset: of the source topic: where the message was put back (`sent`), or from where on it will stand (`begun`).
    """

    place: Place
    stage: Replay
    partition: int
    offset: int


@dataclass(frozen=True)
class Mail:
    """A broker's topics, to be read.

    Attributes:
        consumer: reads one partition at a time.
        clerk: asks for offsets; behind the consumer's own fetches a question would wait for each of them.
    """

    consumer: AIOKafkaConsumer
    clerk: AIOKafkaConsumer
    partitions: dict[str, list[TopicPartition]]
    """Partitions of every topic, by its name."""
    say: Callable[[str], None]

    async def read(self, topics: Collection[str]) -> AsyncIterator[Letter | Note]:
        """Every letter about messages of these topics, and every note, oldest first in each partition."""
        strangers = 0
        for topic in topics:
            for partition in self.partitions.get(dead_letter_topic(topic), ()):
                async for record in self.records(partition):
                    found = _letter(record) or _note(record)
                    if found is None or found.place.topic != topic:
                        strangers += 1
                    else:
                        yield found
        if strangers:
            self.say(f"{strangers:,} records there are no letters: they lack the headers of one")

    async def records(self, partition: TopicPartition, start: int | None = None) -> AsyncIterator[KafkaRecord]:
        """The records that a partition has now, from `start` or from its first one on.

        Raises:
            Failure: the broker gives nothing any more.
        """
        first = (await self.clerk.beginning_offsets([partition]))[partition]
        end = (await self.clerk.end_offsets([partition]))[partition]
        start = max(first, start or 0)
        if start >= end:
            return
        self.consumer.assign([partition])
        self.consumer.seek(partition, start)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + STALL_SECONDS
        while await self.consumer.position(partition) < end:
            batch = await self.consumer.getmany(partition, timeout_ms=500)
            for record in batch.get(partition, ()):
                if record.offset < end:
                    yield record
            if batch:
                deadline = loop.time() + STALL_SECONDS
            elif loop.time() > deadline:
                raise Failure(
                    f"{partition.topic} cannot be read: its partition {partition.partition} gave nothing for "
                    f"{STALL_SECONDS:.0f} s; look at the broker's log"
                )


@asynccontextmanager
async def opened(settings: Settings, say: Callable[[str], None]) -> AsyncIterator[Mail]:
    """The topics of a broker, to be read.

    Raises:
        Failure: no broker, or it stops answering.
        WrongUse: the broker refuses us.
    """
    try:
        await wait_for_broker(settings, patience=PATIENCE_SECONDS, say=say)
    except BrokerRefused as exc:
        raise WrongUse(str(exc)) from None
    except BrokerUnavailable as exc:
        raise Failure(str(exc)) from None
    admin = AIOKafkaAdminClient(**client_config(settings), client_id="pingstream")
    consumer, clerk = (
        AIOKafkaConsumer(
            **client_config(settings),
            client_id="pingstream",
            enable_auto_commit=False,
            max_partition_fetch_bytes=FETCH_BYTES,
        )
        for _ in range(2)
    )
    try:
        await admin.start()
        await consumer.start()
        await clerk.start()
        yield Mail(consumer, clerk, await _partitions(admin), say)
    except KafkaError as exc:
        raise Failure(f"the dead letters on {settings.kafka} cannot be read: {exc!r}") from None
    finally:
        await consumer.stop()
        await clerk.stop()
        await admin.close()


async def _partitions(admin: AIOKafkaAdminClient) -> dict[str, list[TopicPartition]]:
    # All topics are asked for, none by name: to be asked for a missing one can make a broker create it.
    topics: list[dict[str, Any]] = await admin.describe_topics()
    return {
        topic["topic"]: [
            TopicPartition(topic["topic"], number) for number in sorted(one["partition"] for one in topic["partitions"])
        ]
        for topic in topics
    }


def place_headers(place: Place) -> list[tuple[str, bytes]]:
    """The headers that name a letter."""
    return [
        (HEADER_TOPIC, place.topic.encode()),
        (HEADER_PARTITION, b"%d" % place.partition),
        (HEADER_OFFSET, b"%d" % place.offset),
    ]


def note_headers(note: Note) -> list[tuple[str, bytes]]:
    """The headers of a note; it has neither key nor value."""
    return [
        *place_headers(note.place),
        (HEADER_REPLAY, note.stage.encode()),
        (HEADER_REPLAY_PARTITION, b"%d" % note.partition),
        (HEADER_REPLAY_OFFSET, b"%d" % note.offset),
    ]


def place_of(headers: Iterable[tuple[str, bytes]]) -> Place | None:
    """The letter that a record's headers name, None where they name none."""
    found = _texts(headers)
    try:
        return _place(found)
    except (KeyError, ValueError):
        return None


def _place(headers: dict[str, str]) -> Place:
    return Place(headers[HEADER_TOPIC], int(headers[HEADER_PARTITION]), int(headers[HEADER_OFFSET]))


def _letter(record: KafkaRecord) -> Letter | None:
    """The letter in a record, None where it lacks a header or holds nonsense."""
    headers = _texts(record.headers)
    try:
        return Letter(
            _place(headers),
            headers[HEADER_REASON],
            headers[HEADER_ERROR],
            int(headers[HEADER_TIMESTAMP]),
            int(headers[HEADER_ATTEMPT]),
            record,
        )
    except (KeyError, ValueError):
        return None


def _note(record: KafkaRecord) -> Note | None:
    headers = _texts(record.headers)
    try:
        return Note(
            _place(headers),
            Replay(headers[HEADER_REPLAY]),
            int(headers[HEADER_REPLAY_PARTITION]),
            int(headers[HEADER_REPLAY_OFFSET]),
        )
    except (KeyError, ValueError):
        return None


def _texts(headers: Iterable[tuple[str, bytes]]) -> dict[str, str]:
    return {name: content.decode(errors="replace") for name, content in headers}
