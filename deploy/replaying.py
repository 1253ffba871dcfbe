"""Dead letters back into their source topics, each once.

What was put back stands in the dead letters' own topic, as notes behind the letters:

    begun    where in the source topic the message will be, from which offset on; acknowledged before the message is sent
    sent     where it is
    not_sent the broker refused it: nothing is there

A letter with the note `sent` is done. One whose last note is `begun` was in the hands of a replay that ended in between: the
source topic is read from there on, and only what is not there is sent. Two replays at once may send a letter twice.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError, MessageSizeTooLargeError, OutOfOrderSequenceNumber, RecordListTooLargeError
from aiokafka.partitioner import murmur2

from deploy.cli.errors import Failure
from deploy.letters import KafkaRecord, Letter, Mail, Note, Place, note_headers, place_headers, place_of
from deploy.producing import careful_producer
from schemas.dead_letters import HEADER_ATTEMPT, Replay
from schemas.settings import Settings
from sinks.topics import dead_letter_topic

CHUNK_LETTERS: Final = 500
CHUNK_BYTES: Final = 16 * 1024 * 1024
"""What is on its way at once; an interrupted replay leaves no more in doubt."""

LARGEST_REQUEST: Final = 1024 * 1024 * 1024
"""Bytes of one message, so that the broker's limit alone decides."""


@dataclass(frozen=True)
class Choice:
    """Which letters are put back. Empty collections and None choose all; times are milliseconds since 1970.

    since, until: received at or after, received before.
    """

    topics: Collection[str]
    reasons: Collection[str] = ()
    since: int | None = None
    until: int | None = None
    partition: int | None = None
    offset: int | None = None

    def takes(self, letter: Letter) -> bool:
        """Whether the letter is chosen."""
        return (
            (not self.reasons or letter.reason in self.reasons)
            and (self.since is None or letter.timestamp >= self.since)
            and (self.until is None or letter.timestamp < self.until)
            and (self.partition is None or letter.place.partition == self.partition)
            and (self.offset is None or letter.place.offset == self.offset)
        )


class Copy(NamedTuple):
    """Where a letter stands in its own topic."""

    tp: TopicPartition
    offset: int
    reason: str
    attempt: int
    size: int


@dataclass
class Plan:
    """What is to be done with the chosen letters.

    Attributes:
        letters: to be put back, in the order in which they were written.
        refused: whose attempts are at the limit; done: put back before.
        in_doubt: of `letters`, where their messages are if an earlier replay sent them after all.
    """

    letters: dict[Place, Copy] = field(default_factory=dict)
    refused: dict[Place, Copy] = field(default_factory=dict)
    done: set[Place] = field(default_factory=set)
    in_doubt: dict[Place, Note] = field(default_factory=dict)

    def counts(self) -> Counter[tuple[str, str]]:
        """Letters to be put back, by source topic and reason."""
        return Counter((place.topic, copy.reason) for place, copy in self.letters.items())

    @property
    def size(self) -> int:
        """Bytes of the messages that are to be put back."""
        return sum(copy.size for copy in self.letters.values())


@dataclass
class Done:
    """What a replay did. `found`: sent by an earlier one already. `too_large`: refused by the broker."""

    sent: Counter[str] = field(default_factory=Counter)
    found: int = 0
    too_large: list[Place] = field(default_factory=list)


async def plan(mail: Mail, choice: Choice, limit: int) -> Plan:
    """Reads all letters about messages of the chosen topics and decides about the chosen ones.

    Args:
        limit: letters with so many attempts are refused.
    """
    chosen: dict[Place, Copy] = {}
    notes: dict[Place, Note] = {}
    async for found in mail.read(choice.topics):
        if isinstance(found, Note):
            notes[found.place] = found
        elif choice.takes(found):
            record = found.record
            tp = TopicPartition(record.topic, record.partition)
            # the newest copy: a crash may have written a letter twice
            chosen[found.place] = Copy(tp, record.offset, found.reason, found.attempt, len(record.value or b""))
    plan = Plan()
    for place, copy in chosen.items():
        note = notes.get(place)
        if note is not None and note.stage is Replay.SENT:
            plan.done.add(place)
        elif copy.attempt >= limit:
            plan.refused[place] = copy
        else:
            plan.letters[place] = copy
            if note is not None and note.stage is Replay.BEGUN:
                plan.in_doubt[place] = note
    return plan


async def carry_out(settings: Settings, mail: Mail, plan: Plan, advance: Callable[[int], None]) -> Done:
    """Puts the letters of a plan back.

    Args:
        advance: is told how many more letters are settled.

    Raises:
        Failure: a topic is not there, or the broker takes nothing any more.
    """
    done = Done()
    for topic in sorted({place.topic for place in plan.letters}):
        if topic not in mail.partitions:
            raise Failure(f"there is no topic {topic} on {settings.kafka} to put letters back into")
    await _find_sent(settings, mail, plan, done, advance)
    by_partition: dict[TopicPartition, dict[int, Place]] = {}
    for place, copy in plan.letters.items():
        by_partition.setdefault(copy.tp, {})[copy.offset] = place
    for tp, wanted in by_partition.items():
        chunk: list[tuple[Place, KafkaRecord]] = []
        size = 0
        async for record in mail.records(tp, min(wanted)):
            if record.offset not in wanted:
                continue
            chunk.append((wanted[record.offset], record))
            size += len(record.value or b"")
            if len(chunk) >= CHUNK_LETTERS or size >= CHUNK_BYTES:
                await _send(settings, mail, plan, chunk, done, advance)
                chunk, size = [], 0
        if chunk:
            await _send(settings, mail, plan, chunk, done, advance)
    return done


async def _find_sent(settings: Settings, mail: Mail, plan: Plan, done: Done, advance: Callable[[int], None]) -> None:
    """Looks for messages that an interrupted replay has sent; takes them out of the plan and notes them."""
    from_where: dict[TopicPartition, int] = {}
    for place, note in plan.in_doubt.items():
        tp = TopicPartition(place.topic, note.partition)
        from_where[tp] = min(from_where.get(tp, note.offset), note.offset)
    found: list[tuple[TopicPartition, Note]] = []
    for tp, start in from_where.items():
        async for record in mail.records(tp, start):
            sent = place_of(record.headers)
            if sent is not None and sent in plan.in_doubt and sent in plan.letters:
                copy = plan.letters.pop(sent)
                found.append((copy.tp, Note(sent, Replay.SENT, tp.partition, record.offset)))
    if found:
        async with _producer(settings) as producer:
            await _write_notes(producer, found)
        done.found += len(found)
        advance(len(found))


async def _send(
    settings: Settings,
    mail: Mail,
    plan: Plan,
    chunk: list[tuple[Place, KafkaRecord]],
    done: Done,
    advance: Callable[[int], None],
) -> None:
    targets = {place: _target(mail, place, record) for place, record in chunk}
    ends = await mail.clerk.end_offsets(list(set(targets.values())))
    begun = [
        (plan.letters[place].tp, Note(place, Replay.BEGUN, targets[place].partition, ends[targets[place]]))
        for place, _ in chunk
    ]
    waiting = chunk
    try:
        async with _producer(settings) as producer:
            await _write_notes(producer, begun)
        while waiting:
            # After a refusal the broker takes nothing more from an idempotent producer: the rest goes by a new one.
            async with _producer(settings) as producer:
                notes, again = await _put_back(producer, plan, waiting, targets, done)
            async with _producer(settings) as producer:
                await _write_notes(producer, notes)
            advance(len(notes))
            waiting = again
    except KafkaError as exc:
        raise Failure(
            f"{settings.kafka} took {sum(done.sent.values()):,} letters and then no more: {exc!r}; run it again, what is "
            "there already is not sent twice"
        ) from None


async def _put_back(
    producer: AIOKafkaProducer,
    plan: Plan,
    chunk: list[tuple[Place, KafkaRecord]],
    targets: dict[Place, TopicPartition],
    done: Done,
) -> tuple[list[tuple[TopicPartition, Note]], list[tuple[Place, KafkaRecord]]]:
    """Sends messages. Gives notes of those that are settled, and those that have to be sent again."""
    now = time.time_ns() // 1_000_000
    waiting = []
    for place, record in chunk:
        attempt = plan.letters[place].attempt + 1
        waiting.append(
            await producer.send(
                place.topic,
                value=record.value,
                key=record.key,
                partition=targets[place].partition,
                timestamp_ms=now,
                headers=[(HEADER_ATTEMPT, b"%d" % attempt), *place_headers(place)],
            )
        )
    notes: list[tuple[TopicPartition, Note]] = []
    again: list[tuple[Place, KafkaRecord]] = []
    refused = False
    for (place, record), result in zip(chunk, await asyncio.gather(*waiting, return_exceptions=True), strict=True):
        tp = plan.letters[place].tp
        if isinstance(result, OutOfOrderSequenceNumber):
            again.append((place, record))
        elif isinstance(result, (MessageSizeTooLargeError, RecordListTooLargeError)):
            refused = True
            done.too_large.append(place)
            notes.append((tp, Note(place, Replay.NOT_SENT, targets[place].partition, -1)))
        elif isinstance(result, BaseException):
            raise result
        else:
            done.sent[place.topic] += 1
            notes.append((tp, Note(place, Replay.SENT, result.partition, result.offset)))
    if again and not refused:
        raise OutOfOrderSequenceNumber
    return notes, again


async def _write_notes(producer: AIOKafkaProducer, notes: Iterable[tuple[TopicPartition, Note]]) -> None:
    """Notes behind their letters, acknowledged. They have an empty value: aiokafka sends no record without key and value."""
    waiting = [
        await producer.send(
            dead_letter_topic(note.place.topic), b"", partition=tp.partition, headers=note_headers(note)
        )
        for tp, note in notes
    ]
    await asyncio.gather(*waiting)


def _producer(settings: Settings) -> AIOKafkaProducer:
    return careful_producer(settings, max_request_size=LARGEST_REQUEST, linger_ms=5)


def _target(mail: Mail, place: Place, record: KafkaRecord) -> TopicPartition:
    """The partition that the message was in, so that it comes behind its original there; a topic that was made anew with
    fewer of them gets it by its key."""
    partitions = mail.partitions[place.topic]
    same = TopicPartition(place.topic, place.partition)
    if same in partitions:
        return same
    number = place.offset if record.key is None else murmur2(record.key) & 0x7FFFFFFF
    return partitions[number % len(partitions)]
