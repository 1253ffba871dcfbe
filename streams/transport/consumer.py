"""The consumer behind the transport: where it departs from Faust's, and why.

Each departure names the behaviour of faust-streaming 0.15.3 that it replaces; `tests/streams/test_transport.py` holds the
tests that show them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Collection, Iterable, Mapping
from typing import Any

import structlog
from aiokafka.structs import TopicPartition
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, ConsumerMessage
from mode.services import WaitResults

from streams.transport.delivery import Delivery
from streams.transport.stepping import first_step
from streams.transport.unpacking import AsTheyCome

log = structlog.get_logger("pingstream.transport")

FETCH_WAIT_MS = 100
"""How long a broker may hold a fetch of partitions that have nothing new. aiokafka has one fetch at a time under way to a
broker, and everything else that it asks that broker comes behind it: with Faust's 1,500 a partition whose messages were used up
while the others had none stood still for up to 1.5 s, and so did each of the questions of a start."""
QUICK_FETCH_WAIT_MS = 10
"""The same while there is more to ask than to fetch: until partitions are taken over, and once a drain has read everything. For all of a
drain, ten times as many fetches of the partitions that have nothing would take a twentieth of its CPU."""


FULL_WAIT = 0.05
"""Seconds that a fetch waits for messages of other topics while one has no room: then it is looked whether it has room again."""


class AssignedOnly:
    """A live view of the active partitions that stays a filter when it is empty, without those of some topics.

    aiokafka takes an empty set of partitions as "all", and Faust passes it a set that a pause empties while the call
    waits: records of paused partitions come back, are dropped, and their position has moved.
    """

    __slots__ = ("_but", "_partitions")

    def __init__(self, partitions: set[TP], but: Collection[str] = ()) -> None:
        self._partitions = partitions
        self._but = but

    def __bool__(self) -> bool:
        return True

    def __contains__(self, partition: object) -> bool:
        return partition in self._partitions and partition.topic not in self._but  # type: ignore[attr-defined]


class FilteringThread(driver.AIOKafkaConsumerThread):  # type: ignore[misc]
    """The thread that owns aiokafka's consumer."""

    def _create_consumer(self, loop: asyncio.AbstractEventLoop) -> Any:
        """Faust's, with a shorter wait for messages."""
        consumer = super()._create_consumer(loop)
        consumer._fetch_max_wait_ms = QUICK_FETCH_WAIT_MS
        return consumer

    async def on_start(self) -> None:
        """Starts the consumer; no partition is its own before it subscribes."""
        await super().on_start()
        fetcher = self._ensure_consumer()._fetcher
        fetcher._records = AsTheyCome(fetcher._records)

    def wait_for_messages(self, milliseconds: int) -> None:
        """How long each fetch from now on waits where nothing is new; what is asked waits behind it."""
        self._ensure_consumer()._fetcher._fetch_max_wait_ms = milliseconds

    async def _fetch_records(
        self, consumer: Any, active_partitions: Any, timeout: float | None = None, max_records: int | None = None
    ) -> Any:
        if isinstance(active_partitions, set):
            active_partitions = AssignedOnly(active_partitions)
        return await super()._fetch_records(consumer, active_partitions, timeout=timeout, max_records=max_records)

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Looks for what is slow, where there is a position to look at: while it is asked for, Faust's check ends the worker."""
        subscription = self._ensure_consumer()._fetcher._subscriptions.subscription
        assignment = subscription.assignment if subscription is not None else None
        state = assignment.state_value(TopicPartition(tp.topic, tp.partition)) if assignment is not None else None
        if state is not None and state.has_valid_position:
            super().verify_event_path(now, tp)

    async def committed(self, tp: TP) -> int | None:
        """The group's committed offset of any partition, from the broker."""
        offset: int | None = await self.call_thread(self._ensure_consumer().committed, tp)
        return offset


class BatchConsumer(driver.Consumer):  # type: ignore[misc]
    """Delivers every record of a source partition once, in order, a batch at a time."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._held_back: set[TP] = set()
        self._next: dict[TP, int] = {}
        """Offset to deliver next, of each source partition of this generation; set by `perform_seek` alone."""
        self._starts: dict[TP, int] = {}
        self._next_generation: int | None = None
        self._sought: dict[TP, int] = {}
        """Offsets that were sought back to, and have not come since."""
        self.delivery = Delivery()
        self.leaving = False
        """Nothing is acknowledged any more: the pipelines have ended."""
        self.committing_since: float | None = None
        """When the commit that is under way began, by the monotonic clock; None when there is none."""
        self.holes = 0
        """Holes in what was fetched that were closed by seeking back."""
        super().__init__(*args, **kwargs)

    def _new_consumer_thread(self) -> FilteringThread:
        return FilteringThread(self, loop=self.loop, beacon=self.beacon)

    # ---- source partitions are resumed after the seek, not before ----------------------------------------------------

    def resume_partitions(self, tps: Iterable[TP]) -> None:
        """Resumes changelogs at once and sources with the flow: Faust resumes sources before it seeks and before it clears
        the agents' queues, so what was fetched from the old position is lost."""
        wanted = set(tps)
        self._held_back = {tp for tp in wanted if not self._is_changelog_tp(tp)}
        super().resume_partitions(wanted - self._held_back)

    def resume_flow(self) -> None:
        """Called by recovery once the seek is done and the queues are clear."""
        held, self._held_back = self._held_back, set()
        if held:
            super().resume_partitions(held)
        super().resume_flow()

    async def perform_seek(self) -> None:
        """Seeks to the committed offsets, and to the beginning where nothing is committed: aiokafka seeks nowhere for 0 or
        none, and stays where an earlier fetch has taken it."""
        generation = self.app.consumer_generation_id
        self._next = {}
        self._sought = {}
        # Faust keeps an offset there although its commit was refused, and leaves it where the group has none.
        self._committed_offset.clear()
        await super().perform_seek()
        positions: dict[TP, int] = {tp: self._committed_offset[tp] or 0 for tp in self.sources()}
        if fresh := [tp for tp in positions if not positions[tp]]:
            # Asked for at once: each question waits behind a fetch under way, up to 1.5 s.
            earliest = await self.earliest_offsets(*fresh)
            await self._thread.seek_wait(earliest)
            positions.update(earliest)
        if self.app.consumer_generation_id == generation:  # or another seek is under way, or done already
            self._starts = dict(positions)
            self._next, self._next_generation = positions, generation
            self.delivery.begin(generation, positions)

    def sources(self) -> list[TP]:
        """The partitions that are ours and no changelog's."""
        return sorted(tp for tp in self.assignment() if not self._is_changelog_tp(tp))

    @property
    def knows_starts(self) -> bool:
        """Whether the source partitions of this generation have been sought."""
        return bool(self._next_generation == self.app.consumer_generation_id)

    def start_of(self, tp: TP) -> int | None:
        """Offset from which a source partition is delivered in this generation, None before the seek."""
        return self._starts.get(tp) if self.knows_starts else None

    def expect_messages(self) -> None:
        """Everything is asked that a start has to ask."""
        self._thread.wait_for_messages(FETCH_WAIT_MS)

    def expect_nothing(self) -> None:
        """Everything is read that is to be read, or cannot be read yet: there is more to ask."""
        self._thread.wait_for_messages(QUICK_FETCH_WAIT_MS)

    async def committed(self, tp: TP) -> int | None:
        """The group's committed offset, None where there is none."""
        offset: int | None = await self._thread.committed(tp)
        return offset

    # ---- one event a batch, without holes -----------------------------------------------------------------------------

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, Any]]:
        """Yields records by the batch: those of a changelog as they come, those of a source without holes."""
        records, active = await self._wait_next_records(timeout)
        if records is None or self.should_stop:
            return
        if not self.flow_active:
            try:
                await self.perform_seek()
            except Exception as exc:
                log.warning("could not seek while the flow is stopped", error=repr(exc))
            return
        generation = self.app.consumer_generation_id
        for tp, batch in records.items():
            if not self.flow_active or self.app.consumer_generation_id != generation:
                return
            if not batch or not (active is None or tp in active or tp in self._buffered_partitions):
                continue  # of a paused partition: a source's position is put right below, as a hole
            self.app.monitor.track_tp_end_offset(tp, self.highwater(tp))
            if self._is_changelog_tp(tp):
                yield tp, self._to_message(tp, batch)
            elif contiguous := await self._contiguous(tp, batch, generation):
                message = self._to_message(tp, self.delivery.deliver(tp, contiguous))
                self._next[tp] = contiguous[-1].offset + 1
                self._read_offset[tp] = contiguous[-1].offset  # or Faust drops the event or sees a gap before it
                yield tp, message

    async def _getmany(self, active_partitions: Any, timeout: float) -> Any:
        """Leaves topics in Kafka whose pipeline has no room. Faust delivers what it has fetched in turn, and waits at the first
        message that nobody takes: a topic that cannot go on would hold up the other."""
        full: Collection[str] = self.app.full_topics()
        if full:
            active_partitions, timeout = AssignedOnly(active_partitions, full), FULL_WAIT
        return await super()._getmany(active_partitions, timeout)

    def _to_message(self, tp: TP, batch: list[Any]) -> ConsumerMessage:
        """Faust's message of a batch: its place and time are those of the last record."""
        last = batch[-1]
        return ConsumerMessage(
            tp.topic,
            tp.partition,
            last.offset,
            last.timestamp / 1000,
            last.timestamp_type,
            last.headers,
            None,
            batch,
            None,
            tp=tp,
            generation_id=self.app.consumer_generation_id,
        )

    async def _contiguous(self, tp: TP, batch: list[Any], generation: int) -> list[Any]:
        """The part of a fetched batch that follows what was delivered; nothing while a hole is being closed."""
        wanted = self._next.get(tp) if self._next_generation == generation else None
        if wanted is None:
            return []
        if batch[0].offset > wanted and not await self._is_real_hole(tp, wanted, batch[0].offset):
            return []
        contiguous = batch if batch[0].offset >= wanted else [record for record in batch if record.offset >= wanted]
        if contiguous:
            self._sought.pop(tp, None)
        return contiguous

    async def _is_real_hole(self, tp: TP, wanted: int, got: int) -> bool:
        """Seeks back once. If the broker then begins at `got` again, the records between are gone from the log (retention,
        compaction, transaction markers): loud, and accepted."""
        if self._sought.get(tp) == wanted:
            log.error(
                "records are not in the log any more; going on behind them",
                topic=tp.topic, partition=tp.partition, first_offset=wanted, last_offset=got - 1,
            )  # fmt: skip
            return True
        self._sought[tp] = wanted
        self.holes += 1
        log.warning(
            "fetched behind a hole, seeking back", topic=tp.topic, partition=tp.partition, offset=wanted, fetched=got
        )
        try:
            await self._thread.seek_wait({tp: wanted})
        except Exception as exc:
            log.warning("could not seek back", topic=tp.topic, partition=tp.partition, offset=wanted, error=repr(exc))
            self._sought.pop(tp, None)
        return False

    # ---- commits follow acks exactly -----------------------------------------------------------------------------------

    async def wait_empty(self) -> None:
        """Waits for what is under way and commits it; when leaving, commits what is acknowledged and waits for nothing."""
        if self.leaving:
            await self.commit_and_end_transactions()
        else:
            await super().wait_empty()

    async def force_commit(self, *args: Any, **kwargs: Any) -> bool:
        """Commits, and lets others see how long that takes: Faust waits for ever."""
        self.committing_since = time.monotonic()
        try:
            done: bool = await super().force_commit(*args, **kwargs)
            return done
        finally:
            self.committing_since = None

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        """Commits, and keeps what the broker has taken: Faust counts as committed what was refused, too."""
        done: bool = await super()._commit(offsets)
        if done:
            self.delivery.commit(offsets)
        return done

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """A gap never counts as processed; Faust marks offsets that it never saw as acknowledged."""

    def _new_offset(self, tp: TP) -> int | None:
        """The last acknowledged offset + 1: agents acknowledge a partition's batches in order. Faust's own rule skips the
        head of a group without commits and is stopped by duplicates."""
        acked = self._acked[tp]
        if not acked:
            return None
        newest: int = max(acked)
        acked.clear()
        self._acked_index[tp].clear()
        return newest + 1

    # ---- no four tasks for each message ---------------------------------------------------------------------------------

    async def wait_first(self, *coros: Any, timeout: float | None = None) -> WaitResults:
        """Delivers a message by a plain call when that does not block: Faust makes four tasks of it."""
        if len(coros) == 2 and timeout is None and hasattr(coros[0], "send"):
            callback, suspended = coros
            done, rest = first_step(callback)
            if done:
                suspended.close()
                return WaitResults([callback], [rest], False)
            return await super().wait_first(_awaited(rest), suspended)
        return await super().wait_first(*coros, timeout=timeout)


async def _awaited(rest: Awaitable[Any]) -> Any:
    return await rest
