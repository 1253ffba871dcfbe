"""`pingstream dlq`: dead letters, read from their topics."""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
from collections.abc import AsyncIterator, Collection
from typing import Any, Final, NamedTuple

import click
import msgspec
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from deploy.cli.errors import Failure, WrongUse
from deploy.cli.options import with_settings
from deploy.cli.question import Answer
from deploy.cli.tables import FORMATS, Format, write
from schemas.dead_letters import (
    HEADER_ATTEMPT,
    HEADER_ERROR,
    HEADER_OFFSET,
    HEADER_PARTITION,
    HEADER_REASON,
    HEADER_TIMESTAMP,
    HEADER_TOPIC,
    Reason,
)
from schemas.settings import Settings
from sinks.kafka_client import BrokerRefused, BrokerUnavailable, client_config, wait_for_broker
from sinks.topics import SOURCES, dead_letter_topic

PATIENCE_SECONDS: Final = 5.0
STALL_SECONDS: Final = 30.0
FETCH_BYTES: Final = 4 * 1024 * 1024

COLUMNS: Final = {
    "topic": "String",
    "partition": "UInt32",
    "offset": "UInt64",
    "reason": "String",
    "received_at": "DateTime64(3, 'UTC')",
    "bytes": "UInt64",
    "attempt": "UInt32",
    "error": "String",
}
"""Of `dlq list`, with ClickHouse's types: what is shared with the table `dead_letter` is named as there."""


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
    record: ConsumerRecord[bytes | None, bytes | None]


@click.group("dlq", short_help="Dead letters: list them, show one.")
def command() -> None:
    """Dead letters: messages that could not be taken, or from which entries were taken out.

    They stand in the topics usage-pings.dlq and billing-events.dlq with their original bytes (personal fields nulled) and
    the reason in headers. A letter is named by the place of its message: source topic, partition and offset.

    \b
    Examples:
      pingstream dlq list --reason invalid
      pingstream dlq show usage-pings 2 1205
    """


@command.command("list", short_help="List dead letters, the newest last.")
@click.option("--topic", type=click.Choice(SOURCES), default=None, help="Only letters about messages of this topic.")
@click.option("--reason", type=click.Choice([str(reason) for reason in Reason]), default=None, help="Only this reason.")
@click.option("--limit", type=click.IntRange(1), default=None, help="At most so many, the newest.")
@click.option(
    "--format", "output_format", type=click.Choice(FORMATS), default="table", show_default=True, help="How rows come."
)
@with_settings
def list_letters(
    settings: Settings, topic: str | None, reason: str | None, limit: int | None, output_format: Format
) -> None:
    """List dead letters in the order in which their messages were received, without the messages themselves.

    \b
    Examples:
      pingstream dlq list
      pingstream dlq list --topic usage-pings --reason late --limit 20
      pingstream dlq list --format json
    """
    rows = asyncio.run(_rows(settings, (topic,) if topic else SOURCES, reason))
    ordered = sorted(rows.items(), key=lambda item: (item[1][1], item[0]))
    shown = ordered[-limit:] if limit is not None else ordered
    write(Answer(list(COLUMNS), list(COLUMNS.values()), [[*place, *row] for place, row in shown]), output_format)
    if len(shown) < len(ordered):
        _say(f"the newest {len(shown):,} of {len(ordered):,} letters")
    elif not ordered:
        _say(f"no letters{' of that kind' if topic or reason else ''} on {settings.kafka}")


@command.command("show", short_help="Show one dead letter with its message.")
@click.argument("topic", type=click.Choice(SOURCES))
@click.argument("partition", type=click.IntRange(0))
@click.argument("offset", type=click.IntRange(0))
@click.option("--raw", is_flag=True, help="Only the message, byte for byte.")
@with_settings
def show_letter(settings: Settings, topic: str, partition: int, offset: int, raw: bool) -> None:
    """Show the letter about the message at OFFSET of PARTITION of TOPIC: its headers, its key, and the message.

    A message that is JSON is indented; of anything else, what is not printable is escaped.

    \b
    Examples:
      pingstream dlq show usage-pings 2 1205
      pingstream dlq show usage-pings 2 1205 --raw > message.json
    """
    place = Place(topic, partition, offset)
    letter = asyncio.run(_find(settings, place))
    if letter is None:
        raise WrongUse(
            f"{dead_letter_topic(topic)} on {settings.kafka} holds no letter about partition {partition}, offset {offset} "
            f"of {topic}; `pingstream dlq list` shows what is there"
        )
    value = letter.record.value
    if raw:
        out = click.get_binary_stream("stdout")
        out.write(value or b"")
        out.flush()
        return
    for name, content in letter.record.headers:
        click.echo(f"{_visible(name)}: {_visible(content.decode(errors='backslashreplace'))}")
    key = letter.record.key
    click.echo("key: " + ("(none)" if key is None else _visible(key.decode(errors="backslashreplace"))))
    click.echo(f"message: {'(none)' if value is None else f'{len(value):,} bytes'}\n")
    if value:
        click.echo(_readable(value))


async def _rows(settings: Settings, topics: Collection[str], reason: str | None) -> dict[Place, list[Any]]:
    """Columns after the place of every letter, the newest copy of each: a crash may have written one twice."""
    rows: dict[Place, list[Any]] = {}
    async for letter in _letters(settings, topics):
        received = dt.datetime.fromtimestamp(letter.timestamp / 1000, dt.UTC)
        text = received.strftime("%Y-%m-%d %H:%M:%S.") + f"{letter.timestamp % 1000:03d}"
        size = len(letter.record.value or b"")
        rows[letter.place] = [letter.reason, text, size, letter.attempt, letter.error]
    return {place: row for place, row in rows.items() if reason is None or row[0] == reason}


async def _find(settings: Settings, place: Place) -> Letter | None:
    found = None
    async for letter in _letters(settings, (place.topic,)):
        if letter.place == place:
            found = letter
    return found


async def _letters(settings: Settings, topics: Collection[str]) -> AsyncIterator[Letter]:
    """Every letter about messages of these topics that is there now, oldest first in each partition.

    Raises:
        Failure: no broker, or it stops answering.
        WrongUse: the broker refuses us.
    """
    try:
        await wait_for_broker(settings, patience=PATIENCE_SECONDS, say=_say)
    except BrokerRefused as exc:
        raise WrongUse(str(exc)) from None
    except BrokerUnavailable as exc:
        raise Failure(str(exc)) from None
    logging.getLogger("aiokafka").addHandler(logging.NullHandler())  # what it logs is raised here, or mended
    admin = AIOKafkaAdminClient(**client_config(settings), client_id="pingstream")
    consumer = AIOKafkaConsumer(
        **client_config(settings),
        client_id="pingstream",
        enable_auto_commit=False,
        max_partition_fetch_bytes=FETCH_BYTES,
    )
    strangers = 0
    try:
        await admin.start()
        await consumer.start()
        async for record in _records(admin, consumer, topics):
            letter = _letter(record)
            if letter is None:
                strangers += 1
            else:
                yield letter
    except KafkaError as exc:
        raise Failure(f"the dead letters on {settings.kafka} cannot be read: {exc!r}") from None
    finally:
        await consumer.stop()
        await admin.close()
    if strangers:
        _say(f"{strangers:,} records there are no letters: they lack the headers of one")


async def _records(
    admin: AIOKafkaAdminClient, consumer: AIOKafkaConsumer, topics: Collection[str]
) -> AsyncIterator[ConsumerRecord[bytes | None, bytes | None]]:
    # All topics are asked for, none by name: to be asked for a missing one can make a broker create it.
    present: dict[str, list[dict[str, Any]]] = {
        topic["topic"]: topic["partitions"] for topic in await admin.describe_topics()
    }
    partitions = [
        TopicPartition(name, number)
        for name in map(dead_letter_topic, topics)
        for number in sorted(partition["partition"] for partition in present.get(name, ()))
    ]
    if not partitions:
        return
    ends = await consumer.end_offsets(partitions)
    positions = await consumer.beginning_offsets(partitions)
    loop = asyncio.get_running_loop()
    for partition in partitions:
        consumer.assign([partition])
        consumer.seek(partition, positions[partition])
        deadline = loop.time() + STALL_SECONDS
        while await consumer.position(partition) < ends[partition]:
            batch = await consumer.getmany(partition, timeout_ms=500)
            for record in batch.get(partition, ()):
                if record.offset < ends[partition]:
                    yield record
            if batch:
                deadline = loop.time() + STALL_SECONDS
            elif loop.time() > deadline:
                raise Failure(
                    f"{partition.topic} cannot be read: its partition {partition.partition} gave nothing for "
                    f"{STALL_SECONDS:.0f} s; look at the broker's log"
                )


def _letter(record: ConsumerRecord[bytes | None, bytes | None]) -> Letter | None:
    """The letter in a record, None where it lacks a header or holds nonsense."""
    headers = {name: content.decode(errors="replace") for name, content in record.headers}
    try:
        return Letter(
            Place(headers[HEADER_TOPIC], int(headers[HEADER_PARTITION]), int(headers[HEADER_OFFSET])),
            headers[HEADER_REASON],
            headers[HEADER_ERROR],
            int(headers[HEADER_TIMESTAMP]),
            int(headers[HEADER_ATTEMPT]),
            record,
        )
    except (KeyError, ValueError):
        return None


def _readable(value: bytes) -> str:
    """A message for the terminal: JSON indented, its numbers and strings as they were written."""
    try:
        msgspec.json.decode(value)  # `format` below takes more than JSON
        text = msgspec.json.format(value, indent=2).decode()
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        text = value.decode(errors="backslashreplace")
    return "\n".join(_visible(line) for line in text.split("\n"))


def _visible(text: str) -> str:
    """Whatever would steer the terminal, written out."""
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)


def _say(sentence: str) -> None:
    click.echo(f"pingstream: {sentence}", err=True)
