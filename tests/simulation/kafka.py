"""Kafka in memory: logs, committed offsets, one consumer group with generations; and the clients that a worker has of it.

The broker belongs to no process: what was sent to it arrives, whatever becomes of the sender.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from aiokafka.errors import KafkaTimeoutError
from aiokafka.structs import TopicPartition

from streams.forwarder import partition_of
from tests.simulation.faults import NODES
from tests.simulation.loop import VirtualLoop, current

SESSION_SECONDS = 10.0
PRODUCE_SECONDS = 12.0
"""A producer tries for so long while the leader of a partition is away."""


class Record(NamedTuple):
    """A record of a log; `writer`: the process that sent it."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]
    writer: str


class Written(NamedTuple):
    """What an acknowledgement tells."""

    topic: str
    partition: int
    offset: int


class Broker:
    """The logs and the group.

    Args:
        partitions: of each topic.
        batch_bytes: of a producer's batch: more than this goes out in several.
        rebalance_seconds: for which a rebalance waits for members to join again.
    """

    def __init__(self, loop: VirtualLoop, partitions: int, batch_bytes: int, rebalance_seconds: float) -> None:
        self.loop = loop
        self.partitions = partitions
        self.batch_bytes = batch_bytes
        self.logs: dict[TopicPartition, list[Record]] = defaultdict(list)
        self.group = Group(loop, partitions, rebalance_seconds)

    def append(
        self,
        tp: TopicPartition,
        key: bytes | None,
        value: bytes | None,
        timestamp: int,
        headers: Sequence[tuple[str, bytes]] = (),
        writer: str = "-",
    ) -> int:
        """Writes a record; returns its offset."""
        log = self.logs[tp]
        log.append(Record(tp.topic, tp.partition, len(log), timestamp, key, value, headers, writer))
        return len(log) - 1

    def up_at(self, tp: TopicPartition, when: float) -> float:
        """When the broker that leads a partition answers what comes then: at once, or when it is back."""
        return self.loop.faults.up_at((tp.partition + len(tp.topic)) % NODES, when)

    def topic(self, name: str) -> list[list[Record]]:
        """The logs of a topic."""
        return [self.logs[TopicPartition(name, partition)] for partition in range(self.partitions)]

    def ends(self, tps: Iterable[TopicPartition]) -> dict[Any, int]:
        """Offsets behind the last records."""
        return {tp: len(self.logs[TopicPartition(*tp)]) for tp in tps}


class Batch:
    """What aiokafka's producer builds before it sends."""

    def __init__(self, limit: int) -> None:
        self.records: list[tuple[bytes, bytes]] = []
        self._limit = limit
        self._bytes = 0

    def append(self, *, key: bytes, value: bytes, timestamp: int | None) -> object:
        """None when it is full."""
        size = len(key) + len(value)
        if self.records and self._bytes + size > self._limit:
            return None
        self.records.append((key, value))
        self._bytes += size
        return True

    def record_count(self) -> int:
        return len(self.records)

    def close(self) -> None:
        """Nothing is appended any more."""


class Producer:
    """An idempotent producer: what it sends to a partition arrives in order and once, or its process ends."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._loop = broker.loop
        self._arrives: dict[TopicPartition, float] = defaultdict(float)
        self._failed: set[TopicPartition] = set()
        process = current()
        self._writer = process.name if process is not None else "-"

    async def start(self) -> None:
        """Connects."""
        await asyncio.sleep(self._loop.faults.delay())

    async def stop(self) -> None:
        """Waits for nothing: what is on its way may arrive."""
        await asyncio.sleep(self._loop.faults.delay())

    async def send(
        self,
        topic: str,
        value: bytes | None = None,
        key: bytes | None = None,
        partition: int | None = None,
        timestamp_ms: int | None = None,
        headers: Sequence[tuple[str, bytes]] | None = None,
    ) -> asyncio.Future[Written]:
        """Sends a record; the future is its acknowledgement."""
        if partition is None:
            partition = partition_of(key, self._broker.partitions) if key is not None else 0
        return self._send(TopicPartition(topic, partition), [(key, value)], timestamp_ms or 0, headers or ())

    def create_batch(self) -> Batch:
        """An empty batch."""
        return Batch(self._broker.batch_bytes)

    async def send_batch(self, batch: Batch, topic: str, *, partition: int) -> asyncio.Future[Written]:
        """Sends a batch, as a whole."""
        return self._send(TopicPartition(topic, partition), batch.records, 0, ())

    def _send(
        self,
        tp: TopicPartition,
        records: Sequence[tuple[bytes | None, bytes | None]],
        timestamp: int,
        headers: Sequence[tuple[str, bytes]],
    ) -> asyncio.Future[Written]:
        loop, acknowledged = self._loop, self._loop.create_future()
        arrives = max(loop.time() + loop.faults.delay(), self._arrives[tp] + 1e-6)
        back = self._broker.up_at(tp, arrives)
        if arrives < back < loop.time() + PRODUCE_SECONDS:
            loop.note("waits for its leader", f"{tp.topic}-{tp.partition}", self._writer)
            arrives = back
        self._arrives[tp] = arrives

        def happens() -> None:
            away = self._broker.up_at(tp, loop.time()) > loop.time()
            fails = "before" if tp in self._failed or away else loop.faults.produce_fails()
            offset = -1
            if fails != "before":
                for key, value in records:
                    offset = self._broker.append(tp, key, value, timestamp, headers, self._writer)
            loop.note(
                "written" if fails is None else f"write fails {fails}",
                f"{tp.topic}-{tp.partition} {len(records)} to {offset}",
                self._writer,
            )
            if fails is not None:
                self._failed.add(tp)
                loop.later(loop.faults.delay(), _fail, acknowledged)
            else:
                loop.later(loop.faults.delay(), _acknowledge, acknowledged, Written(*tp, offset - len(records) + 1))

        loop.later(arrives - loop.time(), happens)
        return acknowledged


def _acknowledge(future: asyncio.Future[Written], written: Written) -> None:
    if not future.done():
        future.set_result(written)


def _fail(future: asyncio.Future[Written]) -> None:
    if not future.done():
        future.set_exception(KafkaTimeoutError("the broker did not acknowledge it in time"))
        future.exception()


class Reader:
    """A consumer without a group, of one record at a time."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._loop = broker.loop
        self._positions: dict[TopicPartition, int] = {}

    async def start(self) -> None:
        await asyncio.sleep(self._loop.faults.delay())

    def assign(self, partitions: Iterable[TopicPartition]) -> None:
        self._positions = dict.fromkeys(partitions, 0)

    async def beginning_offsets(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        await asyncio.sleep(self._loop.faults.delay())
        return dict.fromkeys(partitions, 0)

    def seek(self, partition: TopicPartition, offset: int) -> None:
        self._positions[partition] = offset

    async def getone(self, partition: TopicPartition) -> Record:
        record: Record = await self._loop.ask(
            lambda: self._broker.logs[partition][self._positions[partition]],
            self._loop.faults.delay(),
            self._loop.faults.delay(),
        )
        return record

    async def stop(self) -> None:
        await asyncio.sleep(self._loop.faults.delay())


class Group:
    """The coordinator of the consumer group.

    A member that joins or leaves, or is silent for a session, makes all others join again; who does not in time is out. Each
    generation deals the partitions anew, and its members learn of it at different times.
    """

    def __init__(self, loop: VirtualLoop, partitions: int, rebalance_seconds: float) -> None:
        self.generation = 0
        self.committed: dict[TopicPartition, int] = {}
        self._loop = loop
        self._partitions = partitions
        self._rebalance_seconds = rebalance_seconds
        self._members: dict[str, float] = {}
        self._joined: dict[str, asyncio.Future[tuple[int, list[int]]]] = {}
        self._preparing = False
        self._round = 0

    def join(self, member: str) -> asyncio.Future[tuple[int, list[int]]]:
        """What a member waits for: the next generation and its partitions in it."""
        self._members[member] = self._loop.time()
        self._loop.later(SESSION_SECONDS + 0.1, self._expire, member)
        self._joined[member] = joined = self._loop.create_future()
        self._prepare()
        self._loop.later(0.1, self._complete_if_all, self._round)
        return joined

    def heartbeat(self, member: str, generation: int) -> bool:
        """Whether the member may go on as it is."""
        if member not in self._members:
            return False
        self._members[member] = self._loop.time()
        self._loop.later(SESSION_SECONDS + 0.1, self._expire, member)
        return generation == self.generation and not self._preparing

    def leave(self, member: str) -> None:
        """A member goes."""
        if self._members.pop(member, None) is not None:
            self._joined.pop(member, None)
            self._prepare()

    def commit(self, member: str, generation: int, offsets: Mapping[TopicPartition, int]) -> bool:
        """Takes offsets of the present generation only."""
        if member not in self._members or generation != self.generation:
            return False
        self.committed.update(offsets)
        return True

    def _expire(self, member: str) -> None:
        seen = self._members.get(member)
        if seen is not None and self._loop.time() - seen > SESSION_SECONDS and not self._preparing:
            self._loop.note("expired", member, "group")
            self.leave(member)

    def _prepare(self) -> None:
        if not self._preparing:
            self._preparing = True
            self._round += 1
            self._loop.later(self._rebalance_seconds, self._complete, self._round)

    def _complete_if_all(self, number: int) -> None:
        if self._preparing and number == self._round and self._joined.keys() >= self._members.keys():
            self._complete(number)

    def _complete(self, number: int) -> None:
        if not self._preparing or number != self._round:
            return
        self._preparing = False
        self._members = {member: seen for member, seen in self._members.items() if member in self._joined}
        if not self._members:
            return
        self.generation += 1
        members, partitions = sorted(self._members), list(range(self._partitions))
        self._loop.faults.rng.shuffle(members)
        self._loop.faults.rng.shuffle(partitions)
        for number, member in enumerate(members):
            self._members[member] = self._loop.time()
            self._loop.later(SESSION_SECONDS + 0.1, self._expire, member)
            dealt = self.generation, sorted(partitions[number :: len(members)])
            self._loop.note("dealt", f"{member} {dealt}", "group")
            self._loop.later(self._loop.faults.delay(), _deal, self._joined.pop(member), dealt)


def _deal(future: asyncio.Future[tuple[int, list[int]]], dealt: tuple[int, list[int]]) -> None:
    if not future.done():
        future.set_result(dealt)
