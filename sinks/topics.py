"""The topics of the contract, and how they come to be."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import (
    InvalidConfigurationError,
    InvalidReplicationFactorError,
    KafkaError,
    NoError,
    TopicAlreadyExistsError,
    TopicAuthorizationFailedError,
    for_code,
)

from schemas.settings import Settings
from sinks.kafka_client import client_config

USAGE_PINGS: Final = "usage-pings"
BILLING_EVENTS: Final = "billing-events"
SOURCES: Final = (USAGE_PINGS, BILLING_EVENTS)

GROUP: Final = "pingstream"
"""The consumer group of all workers; names of state begin with it."""

TABLES: Final = {USAGE_PINGS: "usage", BILLING_EVENTS: "billing"}
"""The table of the state that a source topic makes."""

AHEAD_MS: Final = 2 * 86_400_000
"""Record timestamps are taken up to this far ahead of the broker's clock. Kafka's own default is an hour."""

ANY_PAST_MS: Final = 2**63 - 1
"""Record timestamps of any age are taken: history carries old ones."""

START_OVER: Final = (
    "to start over, stop the workers, delete the consumer group pingstream, the changelogs and the topics that end in .rekeyed, "
    "drop the database, and start a worker: everything is read again"
)
"""What to do when there is no way on with the state. The source topics hold everything."""

READY_SECONDS: Final = 30.0
"""How long a new topic may take until each of its partitions has a leader."""


class TopicError(Exception):
    """Topics cannot be made or used as they are. The text is one sentence that says what to do."""


@dataclass(frozen=True)
class TopicSpec:
    """A topic to make if it is missing. Without `partitions` it gets the setting's number; `config` wins over ours."""

    name: str
    partitions: int | None = None
    config: Mapping[str, str] = field(default_factory=dict)


def dead_letter_topic(topic: str) -> str:
    """Where the dead letters of a source topic go."""
    return f"{topic}.dlq"


def internal_topic(topic: str) -> str:
    """Where messages of a source topic go whose key is missing or wrong, on the way to their home; of pings also GitLab.com's
    activity, by user."""
    return f"{topic}.rekeyed"


def changelog_topic(topic: str) -> str:
    """The changelog of the table that a source topic makes, as Faust names it."""
    return f"{GROUP}-{TABLES[topic]}-changelog"


def topic_config(settings: Settings) -> dict[str, str]:
    """Configuration of every topic that Pingstream makes, by Kafka's names."""
    return {
        "cleanup.policy": "delete",
        "retention.ms": str(settings.retention),
        "max.message.bytes": str(settings.max_message_bytes),
        "message.timestamp.type": "CreateTime",
        "message.timestamp.before.max.ms": str(ANY_PAST_MS),
        "message.timestamp.after.max.ms": str(AHEAD_MS),
    }


async def ensure_topics(
    settings: Settings, extra: Iterable[TopicSpec] = (), *, same_partitions: Collection[str] = ()
) -> dict[str, int]:
    """Makes the topics that are missing: the two sources, their dead letters, and `extra`.

    What exists is left as it is. Several processes may do this at once.

    Args:
        settings: how many partitions and replicas, and the topics' limits.
        extra: more topics, as internal ones.
        same_partitions: names of topics that must have as many partitions as each other.

    Returns:
        The number of partitions of each of these topics, by name. Each partition has a leader.

    Raises:
        TopicError: a topic cannot be made, is not ready in time, or partition counts differ where they may not.
    """
    wanted = [TopicSpec(name) for source in SOURCES for name in (source, dead_letter_topic(source))] + list(extra)
    names = [topic.name for topic in wanted]
    admin = AIOKafkaAdminClient(**client_config(settings), client_id="pingstream")
    try:
        await admin.start()
        present = await _partition_counts(admin)
        missing = [topic for topic in wanted if topic.name not in present]
        if missing:
            await _create(admin, settings, missing)
        counts = await _wait_until_ready(admin, names)
    except KafkaError as exc:
        raise TopicError(f"the topics on {settings.kafka} cannot be looked up or made: {exc!r}") from exc
    finally:
        await admin.close()
    if len({counts[name] for name in same_partitions}) > 1:
        found = ", ".join(f"{name} has {counts[name]}" for name in same_partitions)
        raise TopicError(
            f"these topics must have as many partitions as each other: {found}; scopes and accounts live where the hash of their "
            f"key puts them, so partitions cannot be added while there is state; {START_OVER}"
        )
    return counts


async def _create(admin: AIOKafkaAdminClient, settings: Settings, missing: list[TopicSpec]) -> None:
    common = topic_config(settings)
    response = await admin.create_topics(
        [
            NewTopic(
                topic.name,
                topic.partitions or settings.partitions,
                settings.replication,
                topic_configs={**common, **topic.config},
            )
            for topic in missing
        ]
    )
    for name, code, message in response.topic_errors:
        error = for_code(code)
        if error is NoError or error is TopicAlreadyExistsError:  # somebody else made it in the meantime
            continue
        raise TopicError(f"the topic {name} cannot be made: {message or error.description}{_advice(error, settings)}")


def _advice(error: type[Exception], settings: Settings) -> str:
    if error is InvalidReplicationFactorError:
        return f"; set PINGSTREAM_REPLICATION (now {settings.replication}) to at most the number of brokers"
    if error is InvalidConfigurationError:
        return "; the cluster must be Kafka 3.6 or newer, and allow these topic settings"
    if error is TopicAuthorizationFailedError:
        return "; allow this user to create topics, or have it made beforehand"
    return ""


async def _partition_counts(admin: AIOKafkaAdminClient) -> dict[str, int]:
    """Partitions of every topic of the cluster; 0 where one of them has no leader yet.

    All topics are asked for, never some by name: to be asked for a missing one makes a broker with
    `auto.create.topics.enable` create it with its own defaults.
    """
    counts: dict[str, int] = {}
    topics: list[dict[str, Any]] = await admin.describe_topics()
    for topic in topics:
        ready = not topic["error_code"] and all(partition["leader"] >= 0 for partition in topic["partitions"])
        counts[topic["topic"]] = len(topic["partitions"]) if ready else 0
    return counts


async def _wait_until_ready(admin: AIOKafkaAdminClient, names: list[str]) -> dict[str, int]:
    deadline, pause = asyncio.get_running_loop().time() + READY_SECONDS, 0.01
    while True:
        counts = await _partition_counts(admin)
        waiting = [name for name in names if not counts.get(name)]
        if not waiting:
            return {name: counts[name] for name in names}
        if asyncio.get_running_loop().time() > deadline:
            raise TopicError(
                f"after {READY_SECONDS:.0f} s {', '.join(waiting)} still has partitions without a leader; "
                "look at the brokers' logs"
            )
        await asyncio.sleep(pause)
        pause = min(2 * pause, 0.5)
