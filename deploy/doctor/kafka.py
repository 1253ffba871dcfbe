"""Kafka: the broker, the topics and their settings, how far the workers' group is."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import GroupCoordinatorNotAvailableError, KafkaError

from deploy.doctor.finding import Finding, ok, problem, warning
from schemas.settings import Settings
from sinks.kafka_client import BrokerUnavailable, client_config, wait_for_broker
from sinks.topics import AHEAD_MS, ANY_PAST_MS, GROUP, SOURCES, changelog_topic, dead_letter_topic, internal_topic

PART = "kafka"
PATIENCE_SECONDS = 5.0
CLOCK_SECONDS = 60


async def check_kafka(settings: Settings) -> AsyncIterator[Finding]:
    """Looks, and changes nothing: missing topics are left missing."""
    try:
        await wait_for_broker(settings, patience=PATIENCE_SECONDS)
    except BrokerUnavailable as exc:
        found, _, advice = str(exc).partition("; ")
        yield problem(PART, "broker", found, advice)
        return
    admin = AIOKafkaAdminClient(**client_config(settings), client_id="pingstream")
    consumer = AIOKafkaConsumer(**client_config(settings), client_id="pingstream", group_id=None)
    try:
        await admin.start()
        await consumer.start()
        cluster = await admin.describe_cluster()
        brokers = len(cluster["brokers"])
        yield ok(PART, "broker", f"{brokers} broker{'s' * (brokers != 1)} on {settings.kafka}")
        if settings.replication > brokers:
            yield problem(
                PART, "replication", f"topics are to have {settings.replication} replicas on {brokers} brokers",
                f"set REPLICATION to {brokers} at most",
            )  # fmt: skip
        elif brokers >= 3 > settings.replication:
            yield warning(
                PART, "replication", f"topics are made with {settings.replication} replicas on {brokers} brokers",
                "set REPLICATION to 3, or the loss of a broker's disk loses messages and state",
            )  # fmt: skip
        topics = {topic["topic"]: topic["partitions"] for topic in await admin.describe_topics()}
        async for finding in _topics(settings, admin, topics):
            yield finding
        async for finding in _group(settings, admin, consumer, topics):
            yield finding
    except KafkaError as exc:
        yield problem(PART, "broker", f"it refuses to answer: {exc!r}", "allow this user to describe topics and groups")
    finally:
        await consumer.stop()
        await admin.close()


async def _topics(
    settings: Settings, admin: AIOKafkaAdminClient, topics: Mapping[str, Sequence[Any]]
) -> AsyncIterator[Finding]:
    for source in SOURCES:
        inner = {internal_topic(source): "forwarded messages", changelog_topic(source): "state"}
        missing = [name for name in (source, dead_letter_topic(source), *inner) if name not in topics]
        if missing:
            yield ok(PART, "topics", f"not there yet, a worker makes them: {', '.join(missing)}")
        leaderless = [
            name
            for name in (source, dead_letter_topic(source), *inner)
            if name in topics and any(partition["leader"] < 0 for partition in topics[name])
        ]
        if leaderless:
            yield problem(
                PART, "topics", f"without a leader: partitions of {', '.join(leaderless)}", "look at the brokers' logs"
            )
        if source not in topics:
            continue
        count = len(topics[source])
        for name, what in inner.items():
            if name in topics and len(topics[name]) != count:
                yield problem(
                    PART, "partitions", f"{source} has {count} partitions, {name} ({what}) {len(topics[name])}",
                    "the partitions of a source in use cannot be raised: see docs/operations.md on how to move to a new topic",
                )  # fmt: skip
        for name in (source, dead_letter_topic(source), *inner):
            if name in topics:
                found = await _config(admin, name)
                wrong = list(complaints(settings, source, name, found))
                for complaint in wrong:
                    yield complaint
                if not wrong:
                    yield ok(
                        PART,
                        name,
                        f"{len(topics[name])} partitions, up to {int(found['max.message.bytes']):,} bytes a message",
                    )


def complaints(settings: Settings, source: str, name: str, config: Mapping[str, str]) -> Iterator[Finding]:
    """What is wrong with a topic's configuration.

    Args:
        source: the source topic that it belongs to.
        config: by Kafka's names.
    """
    if name == changelog_topic(source):
        if config["cleanup.policy"] != "compact":
            yield problem(
                PART, name, f"its cleanup.policy is {config['cleanup.policy']}: state is deleted with time",
                f"set cleanup.policy=compact on {name}",
            )  # fmt: skip
        return
    limit, retention = int(config["max.message.bytes"]), int(config["retention.ms"])
    if limit < settings.max_message_bytes:
        yield warning(
            PART, name, f"it takes {limit:,} bytes a message, the setting MAX_MESSAGE_BYTES is {settings.max_message_bytes:,}",
            f"set max.message.bytes={settings.max_message_bytes} on {name}, or lower the setting",
        )  # fmt: skip
    if retention != settings.retention:
        yield warning(
            PART, name, f"its retention.ms is {retention}, the setting RETENTION is {settings.retention}",
            f"set retention.ms={settings.retention} on {name}, or RETENTION={retention}",
        )  # fmt: skip
    if "compact" in config["cleanup.policy"]:
        yield problem(
            PART, name, "its cleanup.policy compacts: all but the newest message of a key are lost",
            f"set cleanup.policy=delete on {name}",
        )  # fmt: skip
    if config.get("message.timestamp.type") == "LogAppendTime":
        yield warning(
            PART, name, "the broker stamps messages itself: history that is sent today is received today, and so late",
            f"set message.timestamp.type=CreateTime on {name}",
        )  # fmt: skip
    before = int(config.get("message.timestamp.before.max.ms", ANY_PAST_MS))
    after = int(config.get("message.timestamp.after.max.ms", AHEAD_MS))
    if before < ANY_PAST_MS or after < AHEAD_MS:
        yield warning(
            PART, name, "it refuses messages with old timestamps, or of clocks that are two days ahead",
            f"set message.timestamp.before.max.ms={ANY_PAST_MS} and message.timestamp.after.max.ms={AHEAD_MS} on {name}",
        )  # fmt: skip


async def _config(admin: AIOKafkaAdminClient, topic: str) -> dict[str, str]:
    answers = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
    return {entry[0]: entry[1] for answer in answers for resource in answer.resources for entry in resource[4]}


async def _group(
    settings: Settings,
    admin: AIOKafkaAdminClient,
    consumer: AIOKafkaConsumer[Any, Any],
    topics: Mapping[str, Sequence[Any]],
) -> AsyncIterator[Finding]:
    if not any(source in topics for source in SOURCES):
        return
    try:
        committed = await admin.list_consumer_group_offsets(GROUP)
    except GroupCoordinatorNotAvailableError:  # no group has ever committed here
        committed = {}
    for source in SOURCES:
        if source not in topics:
            continue
        partitions = [TopicPartition(source, partition["partition"]) for partition in topics[source]]
        begins, ends = await consumer.beginning_offsets(partitions), await consumer.end_offsets(partitions)
        behind = lost = 0
        for tp in partitions:
            offset = committed[tp].offset if tp in committed else -1
            behind += ends[tp] - max(offset, begins[tp])
            lost += max(0, begins[tp] - offset) if offset >= 0 else 0
        if lost:
            yield problem(
                PART, "offsets", f"{lost:,} messages of {source} were deleted before they were read",
                "keep messages longer (RETENTION); kpi_freshness.gaps and the table gap say which are missing",
            )  # fmt: skip
        yield ok(PART, "offsets", f"{source}: {behind:,} messages are still to be read")
        ahead = await _newest(consumer, partitions, begins, ends) - time.time() * 1000
        if ahead > CLOCK_SECONDS * 1000:
            yield warning(
                PART, "clocks", f"the newest message of {source} is stamped {ahead / 1000:,.0f} s ahead of this machine's clock",
                "look at the clocks of this machine and of those that send (NTP)",
            )  # fmt: skip


async def _newest(
    consumer: AIOKafkaConsumer[Any, Any],
    partitions: Sequence[TopicPartition],
    begins: Mapping[TopicPartition, int],
    ends: Mapping[TopicPartition, int],
) -> float:
    """Newest timestamp among the last messages, ms since 1970; 0 without messages."""
    filled = [tp for tp in partitions if ends[tp] > begins[tp]]
    if not filled:
        # aiokafka 0.14.0: a consumer that is stopped while it leaves an assignment swallows that, and is never through.
        return 0.0
    newest = 0.0
    consumer.assign(filled)
    for tp in filled:
        consumer.seek(tp, ends[tp] - 1)
    for records in (await consumer.getmany(timeout_ms=2_000)).values():
        newest = max(newest, *(record.timestamp for record in records))
    return newest
