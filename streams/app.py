"""The Faust app: one agent for the topic, one table for the state, our transport and our store."""

from __future__ import annotations

import ssl
from collections.abc import Mapping, Sequence
from typing import Any

import faust
from aiokafka.structs import TopicPartition
from yarl import URL

from schemas.settings import Settings
from streams.pipeline import Pipeline
from streams.store import Store

APP_ID = "pingstream"
TABLE = "usage"

CHANGELOG_CONFIG = {
    "segment.ms": str(3_600_000),
    "segment.bytes": str(64 * 1024 * 1024),
    "min.cleanable.dirty.ratio": "0.1",
    # Longer than any pause of a worker and than any downtime: until then recovery sees every version of a key.
    "min.compaction.lag.ms": str(3_600_000),
    "delete.retention.ms": str(30 * 86_400_000),
    "retention.ms": "-1",
    "max.message.bytes": str(2 * 1024 * 1024),
}


class StreamsApp:
    """A Faust app whose agent hands every event to `pipeline`, and what the pipeline asks of Kafka.

    Args:
        topic, internal_topic: the source topic and the one for messages under a wrong key; both exist.
        partitions: how many partitions they have; the table has as many.
    """

    def __init__(self, settings: Settings, topic: str, internal_topic: str, partitions: int) -> None:
        self.topic = topic
        self.internal_topic = internal_topic
        self.pipeline: Pipeline | None = None
        self._recovered: int | None = None
        self._drain_to: dict[TopicPartition, int] | None = None
        self.app = faust.App(
            APP_ID,
            broker=[URL(f"pingstream://{server}") for server in settings.kafka.split(",")],
            broker_credentials=_credentials(settings),
            store="pingstream://",
            datadir=settings.data_dir.absolute() / "faust",
            topic_partitions=partitions,
            topic_replication_factor=settings.replication,
            topic_disable_leader=True,
            table_standby_replicas=0,
            web_enabled=False,
            web_tables_enabled=False,
            processing_guarantee="at_least_once",
            consumer_auto_offset_reset="earliest",
            consumer_max_fetch_size=4 * 1024 * 1024,
            broker_session_timeout=10,
            broker_heartbeat_interval=2,
            broker_request_timeout=30,
            broker_commit_interval=0.5,
            broker_max_poll_records=5_000,
            stream_buffer_maxsize=8,  # batches, not messages
            producer_acks=-1,
            autodiscover=False,
        )
        source = self.app.topic(topic, internal_topic, key_type=bytes, value_type=None, value_serializer="raw")
        self.table = self.app.Table(
            TABLE,
            key_type=bytes,
            value_type=bytes,
            partitions=partitions,
            extra_topic_configs={**CHANGELOG_CONFIG, "min.insync.replicas": str(min(2, settings.replication))},
        )
        self.table.on_recover(self._on_recovered)

        @self.app.agent(source, name="usage")  # type: ignore[untyped-decorator]
        async def usage(stream: Any) -> None:
            async for event in stream.noack().events():
                assert self.pipeline is not None
                await self.pipeline.offer(event)

    @property
    def changelog_topic(self) -> str:
        """Name of the table's changelog."""
        return str(self.table.changelog_topic.get_topic_name())

    @property
    def store(self) -> Store:
        """The table's store."""
        store: Store = self.table.data
        return store

    async def _on_recovered(self) -> None:
        self._recovered = self.app.consumer_generation_id
        if self.pipeline is not None:
            self.pipeline.wake()

    def drain(self, ends: Mapping[TopicPartition, int]) -> None:
        """From now on a partition is caught up at these offsets, not at its moving end."""
        self._drain_to = dict(ends)

    # ---- what the pipeline asks --------------------------------------------------------------------------------------

    @property
    def generation(self) -> int | None:
        """Generation of the assignment that is recovered; None while there is none.

        While a rebalance begins the old assignment stands: Faust waits until what is under way is acknowledged.
        """
        return self._recovered if self._recovered == self.app.consumer_generation_id else None

    def assigned(self) -> set[TopicPartition]:
        """Partitions of the source and the internal topic that are ours."""
        return {tp for tp in self.app.consumer.assignment() if tp.topic in (self.topic, self.internal_topic)}

    def start(self, partition: TopicPartition) -> int:
        """Offset from which the partition is delivered in this generation."""
        return int(self.app.consumer.start_of(partition) or 0)

    async def beginnings(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        """First offsets that Kafka still has."""
        found: Mapping[TopicPartition, int] = await self.app.consumer.earliest_offsets(*partitions)
        return found

    async def ends(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Ends of partitions: of the log, or those to drain to."""
        found: Mapping[TopicPartition, int] = await self.app.consumer.highwaters(*partitions)
        if self._drain_to is not None:
            return {tp: self._drain_to.get(tp, found[tp]) for tp in partitions}
        return found

    async def committed(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        """The group's committed offsets, 0 where there is none."""
        consumer = self.app.consumer
        return {tp: await consumer.committed(tp) or 0 for tp in partitions}


def _credentials(settings: Settings) -> Any:
    protocol = settings.kafka_security_protocol
    if protocol == "PLAINTEXT":
        return None
    context = None
    if protocol.endswith("SSL"):
        context = ssl.create_default_context(cafile=settings.kafka_security_ca_file)
    if protocol == "SSL":
        return faust.SSLCredentials(context)
    return faust.SASLCredentials(
        mechanism=settings.kafka_security_mechanism,
        username=settings.kafka_security_username,
        password=settings.kafka_security_password.get_secret_value(),
        ssl_context=context,
    )
