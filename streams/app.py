"""The Faust app: for each source topic an agent and a table for its state; our transport and our store."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import faust
from aiokafka.structs import TopicPartition
from faust.tables import TableManager
from yarl import URL

from schemas.settings import Settings
from sinks.kafka_client import client_config
from sinks.topics import GROUP, START_OVER
from streams.ledger.state import StateError
from streams.pipeline import Pipeline
from streams.store import Store

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

RECOVERY_BATCHES = 2
"""Fetched batches of a changelog that wait to be kept. For 1 Faust goes another way."""


def changelog_config(settings: Settings) -> dict[str, str]:
    """Configuration of a changelog, by Kafka's names."""
    return {
        **CHANGELOG_CONFIG,
        "cleanup.policy": "compact",
        "min.insync.replicas": str(min(2, settings.replication)),
    }


@dataclass(frozen=True)
class Lane:
    """What one source topic needs: its own name, the internal topic's for messages under a wrong key (both exist), how many
    partitions they have; the table has as many, and is called `table`."""

    topic: str
    internal_topic: str
    partitions: int
    table: str

    @property
    def internal_partitions(self) -> list[TopicPartition]:
        """Those of the internal topic."""
        return [TopicPartition(self.internal_topic, partition) for partition in range(self.partitions)]


class Source:
    """One lane of the app: its agent hands every event to `pipeline`; and what the pipeline asks of Kafka."""

    def __init__(
        self, app: faust.App, lane: Lane, config: Mapping[str, str], drain_to: Mapping[TopicPartition, int] | None
    ) -> None:
        self.lane = lane
        self.pipeline: Pipeline[Any, Any] | None = None
        self._app = app
        self._recovered: int | None = None
        self._rebalances = 0
        self._drain_to = drain_to
        self._seen: dict[TopicPartition, int] = {}
        self.table = app.Table(
            lane.table,
            key_type=bytes,
            value_type=bytes,
            partitions=lane.partitions,
            recovery_buffer_size=RECOVERY_BATCHES,
            extra_topic_configs=config,
        )
        self.table.on_recover(self._on_recovered)
        source = app.topic(lane.topic, lane.internal_topic, key_type=bytes, value_type=None, value_serializer="raw")

        async def offer(stream: Any) -> None:
            async for event in stream.noack().events():
                assert self.pipeline is not None
                await self.pipeline.offer(event)

        # What `app.agent` does, but for marking the function for autodiscovery: that looks for its module in the files of all
        # modules there are, which takes a tenth of a second.
        agent = app.conf.Agent(offer, name=lane.table, app=app, channel=source, on_error=app._on_agent_error)
        app.agents[agent.name] = agent
        app.topics.beacon.add(agent)

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
        self._recovered = self._app.consumer_generation_id
        self._rebalances = self._app.rebalancing_count
        if self.pipeline is not None:
            self.pipeline.wake()

    # ---- what the pipeline asks --------------------------------------------------------------------------------------

    @property
    def generation(self) -> int | None:
        """Generation of the assignment that is recovered and from whose starts messages come; None while there is none.

        Faust says that tables are recovered before it asks for the committed offsets. While a rebalance begins the old assignment
        stands: Faust waits until what is under way is acknowledged.
        """
        current, consumer = self._app.consumer_generation_id, self._app.consumer
        return current if self._recovered == current and (consumer.knows_starts or not consumer.sources()) else None

    @property
    def revoked(self) -> bool:
        """Whether a rebalance has begun since then."""
        return bool(self._rebalances != self._app.rebalancing_count)

    @property
    def owns(self) -> bool:
        """Whether partitions are dealt to us, recovered or not."""
        return any(tp.topic == self.changelog_topic for tp in self._app.tables.recovery.active_tps)

    def assigned(self) -> set[TopicPartition]:
        """Partitions of the source and the internal topic that are ours."""
        topics = self.lane.topic, self.lane.internal_topic
        found = {tp for tp in self._app.consumer.assignment() if tp.topic in topics}
        if any(tp.partition >= self.lane.partitions for tp in found):
            raise StateError(
                f"{self.lane.topic} had {self.lane.partitions} partitions when this worker started, and has more now; scopes and "
                f"accounts live where the hash of their key puts them: {START_OVER}"
            )
        return found

    def start(self, partition: TopicPartition) -> int:
        """Offset from which the partition is delivered in this generation."""
        return int(self._app.consumer.start_of(partition) or 0)

    async def beginnings(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        """First offsets that Kafka still has."""
        found: Mapping[TopicPartition, int] = await self._app.consumer.earliest_offsets(*partitions)
        return found

    async def ends(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Ends of partitions: of the log, or those to drain to."""
        found: Mapping[TopicPartition, int] = await self._app.consumer.highwaters(*partitions)
        if self._drain_to is not None:
            return {tp: self._drain_to.get(tp, found[tp]) for tp in partitions}
        return found

    def expects(self, partition: TopicPartition, offset: int) -> bool:
        """Whether messages of a partition may come from an offset on: a drain knows where it ends."""
        return self._drain_to is None or offset < self._drain_to.get(partition, 0)

    def known_end(self, partition: TopicPartition) -> int:
        """End of the partition as far as fetching, or a look, has shown it."""
        fetched = 0
        with suppress(AssertionError):  # aiokafka's, of a partition that was taken away: what waits may still be of it
            fetched = int(self._app.consumer.highwater(partition) or 0)
        return max(fetched, self._seen.get(partition, 0))

    def uncommitted(self, topic: str) -> tuple[int, float]:
        """Messages of a topic that are read and not committed, and for how long no commit has moved one of their partitions, s."""
        uncommitted: tuple[int, float] = self._app.consumer.delivery.uncommitted(topic)
        return uncommitted

    @property
    def recovery_remaining(self) -> int:
        """Records of the changelog that are still to be read back, in offsets."""
        remaining = self._app.tables.recovery.active_remaining()
        return sum(max(0, number) for tp, number in remaining.items() if tp.topic == self.changelog_topic)

    async def look(self) -> None:
        """Asks Kafka for the ends of our partitions: while rows wait nothing is fetched, and fetching shows no lag."""
        self._seen = dict(await self._app.consumer.highwaters(*self.assigned()))

    async def committed(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        """The group's committed offsets, 0 where there is none."""
        consumer = self._app.consumer
        return {tp: await consumer.committed(tp) or 0 for tp in partitions}


class Tables(TableManager):  # type: ignore[misc]
    """Faust's table manager without its second of sleep: it waits for agents and tables that are made late, and ours are all
    made with the app."""

    async def on_start(self) -> None:
        """Starts the tables and their recovery."""
        if not self.should_stop:
            await self._update_channels()
            await self.recovery.start()


class App(faust.App):  # type: ignore[misc]
    """Faust's app, which tells the consumer what not to fetch."""

    sources: Sequence[Source] = ()

    def full_topics(self) -> set[str]:
        """Topics whose pipeline has no room for more messages, their internal topics too."""
        full = [one.lane for one in self.sources if one.pipeline is not None and not one.pipeline.has_room]
        return {topic for lane in full for topic in (lane.topic, lane.internal_topic)}


class StreamsApp:
    """A Faust app with a source for each lane.

    Args:
        drain_to: a partition is caught up at these offsets; None: at its moving end.
    """

    def __init__(
        self, settings: Settings, lanes: Sequence[Lane], drain_to: Mapping[TopicPartition, int] | None = None
    ) -> None:
        self.app = App(
            GROUP,
            broker=[URL(f"pingstream://{server}") for server in settings.kafka.split(",")],
            broker_credentials=credentials(settings),
            store="pingstream://",
            datadir=settings.data_dir.absolute() / "faust",
            topic_partitions=max(lane.partitions for lane in lanes),
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
            stream_buffer_maxsize=1_000,  # batches; what is fetched is bounded by the pipelines' room
            producer_acks=-1,
            autodiscover=False,
            TableManager=Tables,
        )
        self.sources = self.app.sources = [
            Source(self.app, lane, changelog_config(settings), drain_to) for lane in lanes
        ]

    def leave(self) -> None:
        """Nothing is acknowledged any more: Faust need not wait for that when it is stopped."""
        if self.app.started:
            self.app.consumer.leaving = True

    @property
    def committing_seconds(self) -> float:
        """How long the commit that is under way has taken, 0 when there is none."""
        since = self.app.consumer.committing_since if self.app.started else None
        return time.monotonic() - since if since is not None else 0.0


def credentials(settings: Settings) -> Any:
    """What `client_config` says of TLS and SASL, as Faust takes it; None for neither."""
    config = client_config(settings)
    if "sasl_mechanism" in config:
        return faust.SASLCredentials(
            mechanism=config["sasl_mechanism"],
            username=config["sasl_plain_username"],
            password=config["sasl_plain_password"],
            ssl_context=config.get("ssl_context"),
        )
    return faust.SSLCredentials(config["ssl_context"]) if "ssl_context" in config else None
