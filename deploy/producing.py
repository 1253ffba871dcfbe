"""Messages into topics: waits for a broker, makes sure that the topics are there, and loses nothing on the way."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Any, Final

from aiokafka import AIOKafkaProducer
from aiokafka.codec import has_lz4
from aiokafka.errors import KafkaError

from deploy.cli.errors import Failure
from deploy.message import Message
from schemas.settings import Settings
from sinks.kafka_client import BrokerUnavailable, client_config, wait_for_broker
from sinks.topics import TopicError, ensure_topics

IN_FLIGHT: Final = 2_000
"""Messages that may wait for their acknowledgement at once."""

RECORD_OVERHEAD_BYTES: Final = 256
"""What Kafka adds to a record and its batch, with room to spare."""


def careful_producer(settings: Settings, **config: Any) -> AIOKafkaProducer:
    """A producer whose messages all replicas acknowledge, each there once. `config`: more of aiokafka's arguments."""
    return AIOKafkaProducer(
        **client_config(settings),
        client_id="pingstream",
        acks="all",
        enable_idempotence=True,  # what is sent again after a lost answer is not there twice
        compression_type="lz4" if has_lz4() else None,
        **config,
    )


async def produce(
    settings: Settings,
    messages: Iterable[Message],
    *,
    rate: float = 0.0,
    sent: Callable[[int], None] = lambda number: None,
    say: Callable[[str], None] = lambda sentence: None,
) -> dict[str, int]:
    """Sends messages in their order, each once, and returns when all replicas have acknowledged all of them.

    Messages without a key are dealt to the partitions in turn, so the same messages always fill them alike.

    Args:
        settings: broker, security and topics.
        messages: what to send; taken one by one.
        rate: messages a second, 0 for as many as possible.
        sent: is told how many more were acknowledged.
        say: is told once what is being waited for, if a broker does not answer yet.

    Returns:
        How many messages went to each topic.

    Raises:
        Failure: no broker, no topic, or a message that was refused.
    """
    try:
        await wait_for_broker(settings, say=say)
        partitions = await ensure_topics(settings)
    except (BrokerUnavailable, TopicError) as exc:
        raise Failure(str(exc)) from None

    producer = careful_producer(
        settings,
        max_request_size=settings.max_message_bytes + RECORD_OVERHEAD_BYTES,
        max_batch_size=262_144,
        linger_ms=20,
    )
    totals: dict[str, int] = {}
    waiting: list[asyncio.Future[object]] = []
    begun = time.monotonic()
    acknowledged = 0

    async def settle() -> None:
        nonlocal acknowledged
        await asyncio.gather(*waiting)
        acknowledged += len(waiting)
        sent(len(waiting))
        waiting.clear()

    try:
        await producer.start()
        for number, message in enumerate(messages):
            if rate and begun + number / rate > time.monotonic():
                await settle()
                await asyncio.sleep(begun + number / rate - time.monotonic())
            turn = number % partitions[message.topic] if message.key is None else None
            waiting.append(
                await producer.send(
                    message.topic, message.value, message.key, partition=turn, timestamp_ms=message.timestamp_ms
                )
            )
            totals[message.topic] = totals.get(message.topic, 0) + 1
            if len(waiting) >= IN_FLIGHT:
                await settle()
        await settle()
    except KafkaError as exc:
        raise Failure(f"{settings.kafka} refused a message, after {acknowledged:,} that are there: {exc}") from None
    finally:
        await producer.stop()
    return totals
