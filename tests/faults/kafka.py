"""What tests ask of Kafka, and do to it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.admin.new_partitions import NewPartitions
from aiokafka.admin.records_to_delete import RecordsToDelete
from aiokafka.errors import (
    GroupCoordinatorNotAvailableError,
    KafkaConnectionError,
    NodeNotReadyError,
    NotCoordinatorForGroupError,
)
from aiokafka.protocol.admin import DeleteGroupsRequest
from aiokafka.structs import TopicPartition

from schemas.settings import Settings
from sinks.topics import GROUP, SOURCES, TopicSpec, changelog_topic, ensure_topics, internal_topic

USAGE_CHANGELOG, BILLING_CHANGELOG = map(changelog_topic, SOURCES)
INTERNAL = tuple(map(internal_topic, SOURCES))
READ = (*SOURCES, *INTERNAL)
"""The topics that a worker reads and commits."""


ATTEMPTS = 20


class Kafka:
    """One cluster, seen from outside. Every call makes its own connection: nothing is kept over a broker's end."""

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap

    def partitions(self, *topics: str) -> list[TopicPartition]:
        """All partitions of topics."""
        return asyncio.run(self._partitions(topics))

    def ends(self, *topics: str) -> dict[TopicPartition, int]:
        """End offsets of all partitions of topics."""
        return asyncio.run(self._offsets(topics, "end_offsets"))

    def beginnings(self, *topics: str) -> dict[TopicPartition, int]:
        """First offsets that are still there."""
        return asyncio.run(self._offsets(topics, "beginning_offsets"))

    def committed(self) -> dict[TopicPartition, int]:
        """The worker group's committed offsets; none while it has no coordinator, as at first."""
        try:
            return asyncio.run(self._committed())
        except (GroupCoordinatorNotAvailableError, NotCoordinatorForGroupError):
            return {}

    def behind(self) -> dict[TopicPartition, tuple[int, int]]:
        """(committed, end) of the partitions whose committed offset is not their end."""
        ends, committed = self.ends(*READ), self.committed()
        return {
            tp: (committed.get(tp, 0), end)
            for tp, end in ends.items()
            if committed.get(tp, 0) != end and (end or tp in committed)
        }

    def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Sets the group's committed offsets; no member may be there."""
        asyncio.run(self._commit(offsets))

    def delete_before(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Deletes the records before these offsets, as retention would."""
        asyncio.run(
            self._admin(lambda admin: admin.delete_records({tp: RecordsToDelete(o) for tp, o in offsets.items()}))
        )

    def add_partitions(self, topic: str, count: int) -> None:
        """Raises a topic's number of partitions to `count`."""
        asyncio.run(self._admin(lambda admin: admin.create_partitions({topic: NewPartitions(count)})))

    def configure(self, topic: str, config: Mapping[str, str]) -> None:
        """Sets a topic's configuration."""
        resource = ConfigResource(ConfigResourceType.TOPIC, topic, configs=dict(config))
        asyncio.run(self._admin(lambda admin: admin.alter_configs([resource])))

    def leader(self, partition: TopicPartition) -> int:
        """Node id of a partition's leader."""
        found = asyncio.run(self._admin(lambda admin: admin.describe_topics([partition.topic])))
        return int(next(p["leader"] for p in found[0]["partitions"] if p["partition"] == partition.partition))

    def coordinator(self) -> int:
        """Node id of the worker group's coordinator."""
        return int(asyncio.run(self._admin(lambda admin: admin.find_coordinator(GROUP))))

    def delete_group(self) -> None:
        """Deletes the worker group with its offsets; no member may be there."""
        asyncio.run(_delete_group(self.bootstrap))

    def delete_topics(self, topics: Iterable[str]) -> None:
        """Deletes topics with all they hold."""
        asyncio.run(self._admin(lambda admin: admin.delete_topics(list(topics))))

    def make_topics(self, topics: Iterable[TopicSpec]) -> None:
        """Makes topics that are missing, and those that Pingstream needs."""
        settings = Settings(_env_file=None, kafka=self.bootstrap)  # type: ignore[call-arg]
        asyncio.run(ensure_topics(settings, topics))

    async def _admin(self, act: Any) -> Any:
        for attempt in range(ATTEMPTS):
            admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap)
            try:
                await admin.start()
                for broker in admin._client.cluster.brokers():
                    await admin._client.ready(broker.nodeId)
                return await act(admin)
            except (KafkaConnectionError, NodeNotReadyError):  # of several brokers it may ask one that is dead
                if attempt == ATTEMPTS - 1:
                    raise
                await asyncio.sleep(0.5)
            finally:
                await admin.close()
        raise AssertionError

    async def _partitions(self, topics: Iterable[str]) -> list[TopicPartition]:
        found = await self._admin(lambda admin: admin.describe_topics())
        counts = {topic["topic"]: len(topic["partitions"]) for topic in found}
        return [TopicPartition(topic, number) for topic in topics for number in range(counts.get(topic, 0))]

    async def _offsets(self, topics: Iterable[str], which: str) -> dict[TopicPartition, int]:
        partitions = await self._partitions(topics)
        if not partitions:
            return {}
        consumer = AIOKafkaConsumer(bootstrap_servers=self.bootstrap)
        await consumer.start()
        try:
            found: dict[TopicPartition, int] = await getattr(consumer, which)(partitions)
            return found
        finally:
            await consumer.stop()

    async def _committed(self) -> dict[TopicPartition, int]:
        found = await self._admin(lambda admin: admin.list_consumer_group_offsets(GROUP))
        return {tp: place.offset for tp, place in found.items() if place.offset >= 0}

    async def _commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        consumer = AIOKafkaConsumer(bootstrap_servers=self.bootstrap, group_id=GROUP, enable_auto_commit=False)
        await consumer.start()
        try:
            consumer.assign(list(offsets))
            await consumer.commit(dict(offsets))
        finally:
            await consumer.stop()


async def _delete_group(bootstrap: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        coordinator = await admin.find_coordinator(GROUP)
        for _ in range(30):  # a member that ended at once is there until its session is over
            answer = await admin._send_request(DeleteGroupsRequest([GROUP]), coordinator)
            if all(not code for _, code in answer.results):
                return
            await asyncio.sleep(0.5)
        raise AssertionError(answer)
    finally:
        await admin.close()
