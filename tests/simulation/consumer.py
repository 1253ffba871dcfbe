"""A worker's consumer: the product's own `BatchConsumer` and `Source` over the simulated broker, with what Faust does between.

Faust's part is told again here, as faust-streaming 0.15.3 does it: revoke, wait for what is under way, commit, join; then
recover the table from where it was read to, seek, and let the flow go on.
"""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from types import SimpleNamespace
from typing import Any

from aiokafka.structs import TopicPartition
from faust.types import TP
from intervaltree import IntervalTree  # type: ignore[import-untyped]

from streams.app import Lane, Source
from streams.store import Store
from streams.transport.consumer import BatchConsumer
from streams.transport.delivery import Delivery
from tests.simulation.kafka import Broker, Record
from tests.simulation.loop import VirtualLoop

HEARTBEAT_SECONDS = 2.0
COMMIT_SECONDS = 0.5
POLL_SECONDS = 0.25
QUEUE_BATCHES = 8
ABRUPT_SECONDS = 0.5
COLLECT_SECONDS = 5.0


class Message:
    """What Faust makes of a batch: the last record's place, the records as its value."""

    def __init__(self, tp: TP, batch: list[Record], generation: int) -> None:
        self.tp, self.topic, self.offset = tp, tp.topic, batch[-1].offset
        self.value = batch
        self.generation_id = generation
        self.acked = False


class Event:
    """A message on its way through the agent."""

    def __init__(self, message: Message, consumer: SimulatedConsumer) -> None:
        self.message = message
        self._consumer = consumer

    def ack(self) -> None:
        self._consumer.ack(self.message)


class SimulatedConsumer(BatchConsumer):
    """The product's consumer, with a broker in memory where it has a thread and aiokafka."""

    should_stop = False

    def __init__(self, broker: Broker, app: Any) -> None:
        self._broker = broker
        self._sim: VirtualLoop = broker.loop
        self.app = app
        self._held_back = set()
        self._next = {}
        self._starts = {}
        self._next_generation = None
        self._sought = {}
        self.delivery = Delivery(broker.loop.time)
        self.holes = 0
        self._gap = defaultdict(IntervalTree)
        self._acked = defaultdict(list)
        self._acked_index = defaultdict(set)
        self._read_offset = defaultdict(lambda: None)
        self._committed_offset = defaultdict(lambda: None)
        self._unacked_messages = weakref.WeakSet()
        self._n_acked = 0
        self._waiting_for_ack = None
        self._active_partitions: set[TP] = set()
        self._paused_partitions: set[TP] = set()
        self._buffered_partitions: set[TP] = set()
        self.can_resume_flow = asyncio.Event()
        self.suspend_flow = asyncio.Event()
        self.flow_active = False
        self.log = SimpleNamespace(
            warning=lambda text, *more: self._sim.note("transport", text % more),
            error=lambda text, *more: self._sim.note("transport", text % more),
        )
        self._thread = self
        self._assigned: set[TP] = set()
        self._positions: dict[TP, int] = {}
        self._highwaters: dict[TP, int] = {}
        self._holes: dict[TP, int] = {}
        self._committing = asyncio.Lock()

    # ---- what aiokafka is asked for ------------------------------------------------------------------------------------

    async def _ask(self, act: Any) -> Any:
        return await self._sim.ask(act, self._sim.faults.delay(), self._sim.faults.delay())

    def assignment(self) -> set[TP]:
        return self._assigned

    def highwater(self, tp: TP) -> int | None:
        assert tp in self._assigned, "Partition is not assigned"  # as aiokafka
        return self._highwaters.get(tp)

    async def earliest_offsets(self, *tps: TP) -> Mapping[TP, int]:
        return await self._ask(lambda: dict.fromkeys(tps, 0))

    async def highwaters(self, *tps: TP) -> Mapping[TP, int]:
        return await self._ask(lambda: self._broker.ends(tps))

    async def committed(self, tp: TP) -> int | None:
        return await self._ask(lambda: self._broker.group.committed.get(tp))

    async def seek_to_committed(self) -> Mapping[TP, int]:
        tps = self.sources()
        found = await self._ask(lambda: {tp: self._broker.group.committed.get(tp) for tp in tps})
        self._positions.update({tp: offset for tp, offset in found.items() if offset})
        return found

    async def seek_wait(self, partitions: Mapping[TP, int]) -> None:
        await asyncio.sleep(0)
        self._positions.update(partitions)

    # ---- fetching ------------------------------------------------------------------------------------------------------

    async def _wait_next_records(self, timeout: float) -> tuple[Any, Any]:
        if not self.flow_active:
            await self.can_resume_flow.wait()
        active = self._get_active_partitions()
        records = {}
        for tp in sorted(active):
            if batch := await self._fetch(tp):
                records[tp] = batch
        if not records:
            await asyncio.sleep(timeout)
        return records, active

    async def _fetch(self, tp: TP) -> list[Record]:
        """Some records from the position on; a fetch that goes wrong begins behind it or ahead of it."""
        if self._broker.up_at(tp, self._sim.time()) > self._sim.time():
            return []
        position, faults = self._positions.get(tp, 0), self._sim.faults
        begin = position
        match faults.fetch_fails():
            case "hole" if (
                self._next.get(tp) == position != self._holes.get(tp)
            ):  # lost once, not each time it is sought
                self._holes[tp] = position
                begin += faults.some(1, 3)
            case "again":
                begin = max(0, begin - faults.some(1, 5))
        limit = faults.some(1, 12)
        batch, end = await self._ask(lambda: (self._broker.logs[tp][begin : begin + limit], len(self._broker.logs[tp])))
        if self._positions.get(tp, 0) != position or tp not in self._assigned:
            return []
        self._highwaters[tp] = end
        if batch:
            self._positions[tp] = batch[-1].offset + 1
        return batch

    def _to_message(self, tp: TP, batch: list[Record]) -> Message:
        return Message(tp, batch, self.app.consumer_generation_id)

    async def batches(self) -> AsyncIterator[tuple[TP, Message]]:
        """Batches as they are fetched, for ever."""
        while True:
            async for tp, message in self.getmany(POLL_SECONDS):
                yield tp, message
                del message  # what is dropped is under way no more

    # ---- committing ----------------------------------------------------------------------------------------------------

    async def commit(self, *_: Any, **__: Any) -> bool:
        """As Faust's: what it may commit is the product's to say; when the group has moved on, it is forgotten."""
        async with self._committing:
            offsets = {
                tp: offset
                for tp, offset in self._filter_committable_offsets(list(self._acked)).items()
                if tp in self._assigned
            }
            if not offsets:
                return False
            generation = self.app.consumer_generation_id
            done = await self._ask(lambda: self._broker.group.commit(self.app.name, generation, offsets))
            what = "committed" if done else "commit refused"
            self._sim.note(what, sorted((*tp, offset) for tp, offset in offsets.items()))
            self._committed_offset.update(offsets)
            if done:
                self.delivery.commit(offsets)
            return bool(done)

    def forget(self, revoked: set[TP]) -> None:
        """Partitions are revoked: what Faust keeps of them goes."""
        self._active_partitions.difference_update(revoked)
        self._paused_partitions.difference_update(revoked)
        for kept in (self._acked, self._acked_index, self._read_offset, self._committed_offset):
            for tp in revoked:
                kept.pop(tp, None)


class SimulatedTable:
    """A Faust table: the product's store and the name of its changelog."""

    def __init__(self, changelog: str) -> None:
        self.changelog_topic = SimpleNamespace(get_topic_name=lambda: changelog)
        self.data: Any = object.__new__(Store)
        self.data.__post_init__()
        self.data.table = self


class Member:
    """A worker's place in the group: partitions come and go, state is recovered, events go to the pipeline."""

    def __init__(self, broker: Broker, name: str, lane: Lane, consumer: type[SimulatedConsumer]) -> None:
        self._broker = broker
        self._loop = broker.loop
        self._lane = lane
        changelog = f"simulated-{lane.table}-changelog"
        self.app = SimpleNamespace(
            name=name,
            consumer_generation_id=0,
            rebalancing_count=0,
            monitor=SimpleNamespace(track_tp_end_offset=lambda tp, offset: None),
            topics=SimpleNamespace(acks_enabled_for=lambda topic: True),
            tables=SimpleNamespace(changelog_topics={changelog}),
        )
        self.app.consumer = self.consumer = consumer(broker, self.app)
        table = SimulatedTable(changelog)
        self.store: Store = table.data
        self.source: Any = object.__new__(Source)
        self.source.__dict__.update(
            lane=lane,
            pipeline=None,
            table=table,
            _app=self.app,
            _recovered=None,
            _rebalances=0,
            _drain_to=None,
            _seen={},
        )
        self._read_to: dict[int, int] = {}
        """Of each changelog partition: how far it is in the store."""
        self._queue: asyncio.Queue[Message] = asyncio.Queue(QUEUE_BATCHES)
        self._changed = asyncio.Event()
        self.leaving = False

    async def stay(self) -> None:
        """Joins, beats, and joins again; until it is to leave."""
        group, name = self._broker.group, self.app.name
        while True:
            joined: asyncio.Future[asyncio.Future[tuple[int, list[int]]]] = self._loop.create_future()
            self._loop.later(self._loop.faults.delay(), lambda to=joined: to.set_result(group.join(name)))
            generation, partitions = await (await joined)
            self._assign(generation, partitions)
            while not self.leaving:
                await asyncio.sleep(HEARTBEAT_SECONDS)
                if not await self._loop.ask(
                    lambda of=generation: group.heartbeat(name, of),
                    self._loop.faults.delay(),
                    self._loop.faults.delay(),
                ):
                    break
            await self._revoke()
            if self.leaving:
                await self._loop.ask(lambda: group.leave(name), self._loop.faults.delay(), self._loop.faults.delay())
                return

    async def deliver(self) -> None:
        """Fetches into the agent's queue."""
        async for _, message in self.consumer.batches():
            await self._queue.put(message)
            del message

    async def work(self) -> None:
        """The agent: what it takes is under way until it is acknowledged or dropped."""
        while True:
            message = await self._queue.get()
            if self.consumer.flow_active and message.generation_id == self.app.consumer_generation_id:
                self.consumer._unacked_messages.add(message)
                await self.source.pipeline.offer(Event(message, self.consumer))
            del message

    async def commit(self) -> None:
        """Commits now and then."""
        while True:
            await asyncio.sleep(COMMIT_SECONDS)
            await self.consumer.commit()

    async def _revoke(self) -> None:
        """Stops the flow, waits for what is under way, commits it."""
        consumer = self.consumer
        if not consumer.assignment():
            return
        self._loop.note("revoked", self.app.consumer_generation_id)
        self.app.rebalancing_count += 1
        abrupt = self._loop.faults.is_abrupt()
        consumer.forget(set(consumer.assignment()))
        consumer.stop_flow()
        consumer.pause_partitions(consumer.assignment())
        while not self._queue.empty():
            self._queue.get_nowait()
        until = self._loop.time() + (ABRUPT_SECONDS if abrupt else 1e9)
        collects = self._loop.time() + COLLECT_SECONDS
        while consumer._unacked_messages and self._loop.time() < until:
            await consumer.commit()
            await asyncio.sleep(0.1)
            if consumer._unacked_messages and self._loop.time() >= collects:
                gc.collect()  # as Faust does: what was dropped may hang on a traceback
                collects = self._loop.time() + COLLECT_SECONDS
        await consumer.commit()

    def _assign(self, generation: int, partitions: list[int]) -> None:
        """Takes what is dealt: from now on the generation is the new one, and there is nothing to work on until recovery."""
        lane, app = self._lane, self.app
        assigned = {TP(topic, p) for topic in (lane.topic, lane.internal_topic) for p in partitions}
        for gone in self._read_to.keys() - set(partitions):
            del self._read_to[gone]
        app.consumer_generation_id = generation
        self.consumer._assigned = assigned
        self.consumer._set_active_tps(assigned)
        self.consumer.pause_partitions(assigned)
        self._loop.note("assigned", f"{partitions} in {generation}")
        asyncio.get_running_loop().create_task(self._recover(generation, partitions))

    async def _recover(self, generation: int, partitions: list[int]) -> None:
        """Reads the changelog up to its end as of now, then lets the flow go on."""
        (topic,) = self.app.tables.changelog_topics
        tps = [TP(topic, partition) for partition in partitions]
        highwaters = await self.consumer.highwaters(*tps)
        for tp in tps:
            while (at := self._read_to.get(tp.partition, 0)) < highwaters[tp]:
                limit = self._loop.faults.some(1, 40)
                log = self._broker.logs[TopicPartition(*tp)]
                records = await self._loop.ask(
                    lambda log=log, at=at, limit=limit: log[at : at + limit], self._loop.faults.delay(), 0.001
                )
                if self.app.consumer_generation_id != generation:
                    return
                self.store.apply_changelog_batch([fetched(tp.partition, records)], lambda key: key, lambda value: value)
                self._read_to[tp.partition] = at + len(records)
        if self.app.consumer_generation_id != generation:
            return
        await self.store.on_recovery_completed(set(tps), set())
        await self.source._on_recovered()
        await asyncio.sleep(self._loop.faults.delay())
        if self.app.consumer_generation_id != generation:
            return
        self.consumer.resume_partitions(set(self.consumer.sources()))
        await self.consumer.perform_seek()
        if self.app.consumer_generation_id == generation:
            self.consumer.resume_flow()


def fetched(partition: int, records: list[Any]) -> Any:
    """Records of a changelog's partition as the event that Faust hands to a store."""
    return SimpleNamespace(
        message=SimpleNamespace(partition=partition, value=records, offset=records[-1].offset if records else -1)
    )
