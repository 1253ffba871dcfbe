"""One worker: puts the parts together, runs them, ends them in order."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.structs import TopicPartition
from clickhouse_connect.driver.client import Client

from schemas.settings import OFF, Settings
from sinks.kafka_client import client_config
from sinks.message_limits import MessageLimits
from sinks.prometheus import Metrics
from sinks.topics import (
    BILLING_EVENTS,
    GROUP,
    TABLES,
    USAGE_PINGS,
    TopicError,
    TopicSpec,
    changelog_topic,
    dead_letter_topic,
    ensure_topics,
    internal_topic,
)
from streams.app import Lane, Source, StreamsApp, changelog_config
from streams.billing import BillingSide
from streams.changelog import Changelog, Overtaken
from streams.clock import AsOfClock
from streams.forwarder import Forwarder, partition_of
from streams.kept_sums import KeptSums
from streams.ledger import example
from streams.ledger.billing import book as billing
from streams.ledger.book import Rules
from streams.ledger.pseudonym import Pseudonymiser
from streams.ledger.state import StateError
from streams.letters import Letters
from streams.originals import Originals
from streams.pipeline import Pipeline
from streams.rows import RowSink
from streams.side import Side
from streams.usage import UsageSide
from streams.web import Web

log = structlog.get_logger("pingstream.worker")

GC_THRESHOLDS = (200_000, 20, 100)
"""A batch makes some 100,000 short-lived objects and no cycles; by Python's own thresholds a quarter of the time went to
looking for some."""

WATCH_SECONDS = 0.1
DRAIN_LOOK_SECONDS = 0.02
"""So often it is looked whether the worker is ready, or must end; and whether a drain is done."""
LOOK_SECONDS = 5.0
LETTER_TIMEOUT_MS = 10_000
"""After so long a dead letter counts as refused, which is said; it is written again."""

STOP_SECONDS = 3.5
FLUSH_STOP_SECONDS = 2.0
"""Of these, what the pipelines have for the flush they are in."""
READY_SECONDS = 600.0
"""A worker that is not ready, and recovers nothing, for so long ends, to be started again: recovery hangs."""
COMMIT_SECONDS = 120.0
"""So does one whose commit takes so long."""


@dataclass
class WebChoice:
    """Where the web end listens; `or_any`: a taken port gives way to a free one."""

    host: str
    port: int
    or_any: bool


class Worker:
    """Consumes usage pings and billing events until it is stopped, or until the topics' ends as of the start.

    Args:
        connect: makes a client of ClickHouse.
        key: the pseudonym key; new_key: it may be another than the one the state was made with.
        web: None for no web end.
    """

    def __init__(
        self,
        settings: Settings,
        connect: Callable[[], Client],
        key: bytes,
        web: WebChoice | None,
        *,
        drain: bool,
        new_key: bool = False,
    ) -> None:
        self._settings = settings
        self._connect = connect
        self._key = key
        self._web = web
        self._drain = drain
        self._new_key = new_key
        self._stop = asyncio.Event()
        self._letters: list[Letters] = []
        self._ended: str | None = None
        self._asked = False
        self._leaving = False
        """Faust is being stopped: what a pipeline still asks of it fails."""
        self._recovering_since: float | None = None
        """Since when there are partitions that cannot be worked on, by the monotonic clock."""
        self.metrics = Metrics(version("pingstream"))

    async def run(self) -> int:
        """Returns the exit code. Topics are made when they are missing; the broker must answer."""
        settings, begun = self._settings, time.monotonic()
        compiled = asyncio.create_task(asyncio.to_thread(example.run))
        lanes = await self._topics()
        producer = self._producer()
        started = asyncio.create_task(producer.start())
        try:
            ends = await self._ends(lanes)
        except BaseException:
            started.cancel()
            await asyncio.gather(started, return_exceptions=True)
            with contextlib.suppress(Exception):
                await producer.stop()
            raise
        settings.data_dir.mkdir(parents=True, exist_ok=True)  # Faust keeps a folder in it
        streams = StreamsApp(settings, lanes, ends if self._drain else None)
        rows = [RowSink(self._connect, settings.database, self.metrics) for _ in streams.sources]
        pipelines = [self._pipeline(source, producer, sink) for source, sink in zip(streams.sources, rows, strict=True)]
        sums = self._kept_sums(streams, pipelines)
        await asyncio.gather(compiled, started)
        # All it writes to, at once: when aiokafka asks for one topic that it does not know, it forgets those that it did not ask for.
        written = [name for source in streams.sources for name in (source.lane.internal_topic, source.changelog_topic)]
        await producer.client.set_topics(written)
        web = await self._open_web(streams, pipelines)
        log.info(
            "worker started",
            version=version("pingstream"),
            kafka=settings.kafka,
            partitions={lane.topic: lane.partitions for lane in lanes},
            metrics=f"{web.address}/metrics" if web is not None else OFF,
        )
        self._handle_signals()
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLDS)
        gc.enable()
        work = [asyncio.create_task(pipeline.run()) for pipeline in pipelines]
        for task in work:
            task.add_done_callback(self._pipeline_ended)
        watch = asyncio.create_task(self._watch(streams, pipelines, rows, ends, sums))
        beside = [asyncio.create_task(self._look(streams, pipelines))]
        if not self._drain:
            beside.append(asyncio.create_task(sums.run()))
        starting = asyncio.create_task(self._join(streams, pipelines))
        starting.add_done_callback(self._faust_ended)
        await self._stop.wait()
        for task in (watch, *beside):
            task.cancel()
        if self._ended is not None:
            log.error("worker ends", reason=self._ended)  # at once: what it ends for may hang on the way out, too
        self._end_in_any_case()
        self.metrics.ready.set(0)
        await self._end(streams, pipelines, work)
        with contextlib.suppress(TimeoutError, Exception):
            await asyncio.wait_for(producer.stop(), 1)
        if web is not None:
            with contextlib.suppress(Exception):
                await web.stop()
        for letters in self._letters:
            await letters.close()
        for sink in rows:
            sink.close()
        sums.close()
        reason = self._ended or ("drained" if self._drain and not self._asked else "asked to")
        log.info("worker has ended", reason=reason, seconds=round(time.monotonic() - begun, 1), **self.metrics.totals())
        return 0 if self._ended is None else 1

    async def _open_web(self, streams: StreamsApp, pipelines: Sequence[Pipeline[Any, Any]]) -> Web | None:
        """The web end, listening; None when it is to be off."""
        choice = self._web
        if choice is None:
            return None
        web = Web(
            self._settings,
            self.metrics,
            lambda: (
                None
                if all(pipeline.ready for pipeline in pipelines)
                else "not ready: no partitions, or state is not recovered"
            ),
            lambda: self._refresh(streams, pipelines),
        )
        await web.start(choice.host, choice.port, or_any=choice.or_any)
        if not self._settings.shows_metrics:
            log.warning("metrics need a token beyond loopback: set PINGSTREAM_WEB_TOKEN", host=choice.host)
        return web

    def _producer(self, **more: Any) -> AIOKafkaProducer:
        return AIOKafkaProducer(
            **client_config(self._settings),
            client_id=GROUP,
            acks="all",
            enable_idempotence=True,
            compression_type="snappy",  # aiokafka has lz4 at its slowest level only
            max_batch_size=900_000,
            # A letter holds a message as it came. What the broker took it takes again, packed, however large it is unpacked.
            max_request_size=2**31 - 1,
            **more,
        )

    async def _join(self, streams: StreamsApp, pipelines: Sequence[Pipeline[Any, Any]]) -> None:
        """Starts Faust, which joins the group, once every pipeline knows the epochs in the tables."""
        for pipeline in pipelines:
            if not await pipeline.learn_epochs():
                return
        await streams.app.start()

    def _end_in_any_case(self) -> None:
        """Ends the process when something hangs on the way out: nothing is lost by it, what is not committed comes again."""
        last = threading.Timer(STOP_SECONDS + 0.7, os._exit, [1 if self._ended is not None else 0])
        last.daemon = True
        last.start()

    def _pipeline(self, source: Source, producer: AIOKafkaProducer, rows: RowSink) -> Pipeline[Any, Any]:
        """The pipeline of a source topic, wired to it."""
        settings, lane = self._settings, source.lane
        clock = AsOfClock(settings.as_of)
        limits = MessageLimits(settings)
        letters = Letters(
            dead_letter_topic(lane.topic),
            lambda: self._producer(request_timeout_ms=LETTER_TIMEOUT_MS),
            limits,
            self._make_topics,
            self.metrics,
        )
        self._letters.append(letters)
        pipeline: Pipeline[Any, Any] = Pipeline(
            lane.topic,
            lane.internal_topic,
            source,
            lambda: source.store,
            Changelog(producer, source.changelog_topic),
            letters,
            Forwarder(producer, limits, lane.internal_topic, lane.partitions),
            Originals(lane.topic, lambda: AIOKafkaConsumer(**client_config(settings), client_id=GROUP)),
            rows,
            self._side(lane, rows, clock),
            clock,
            self.metrics,
            settings.flush_seconds,
        )
        source.pipeline = pipeline
        return pipeline

    def _kept_sums(self, streams: StreamsApp, pipelines: Sequence[Pipeline[Any, Any]]) -> KeptSums:
        """The worker that has the first partition of billing events looks after them, while none wait; at the end of a drain,
        whoever has accounts."""
        both = zip(streams.sources, pipelines, strict=True)
        source, pipeline = next(pair for pair in both if pair[0].lane.topic == BILLING_EVENTS)
        first = TopicPartition(BILLING_EVENTS, 0)

        def ours() -> bool:
            if not pipeline.ready or not pipeline.scopes:
                return False
            return self._drain or (first in source.assigned() and not pipeline.oldest_unflushed)

        return KeptSums(self._connect, self._settings.database, ours)

    def _side(self, lane: Lane, rows: RowSink, clock: AsOfClock) -> Side[Any, Any]:
        settings = self._settings

        def home(key: bytes) -> int:
            return partition_of(key, lane.partitions)

        if lane.topic == BILLING_EVENTS:
            rules = billing.Rules(settings.max_message_bytes, settings.reporting_currency, lane.partitions, home)
            return BillingSide(rows, clock, rules, self.metrics)
        hostnames = frozenset(name.lower() for name in settings.saas_hostnames)
        return UsageSide(
            rows,
            Pseudonymiser(self._key),
            Rules(settings.max_message_bytes, hostnames, lane.partitions, home, self._new_key),
            self.metrics,
        )

    async def _make_topics(self) -> None:
        with contextlib.suppress(TopicError):  # the next attempt says what is wrong
            await ensure_topics(self._settings)

    async def _topics(self) -> list[Lane]:
        """Makes what is missing."""
        counts = await ensure_topics(self._settings)
        for topic in TABLES:
            others = [
                TopicSpec(internal_topic(topic), counts[topic]),
                # Faust would make it as well, but only after it has looked for it in vain.
                TopicSpec(changelog_topic(topic), counts[topic], changelog_config(self._settings)),
            ]
            await ensure_topics(self._settings, others, same_partitions=(topic, *(other.name for other in others)))
        return [Lane(topic, internal_topic(topic), counts[topic], table) for topic, table in TABLES.items()]

    async def _ends(self, lanes: Sequence[Lane]) -> dict[TopicPartition, int]:
        # It asks for ends before it knows the topics, and then waits for so long.
        consumer = AIOKafkaConsumer(**client_config(self._settings), client_id=GROUP, retry_backoff_ms=10)
        await consumer.start()
        try:
            ends: dict[TopicPartition, int] = await consumer.end_offsets(
                [TopicPartition(lane.topic, partition) for lane in lanes for partition in range(lane.partitions)]
            )
            return ends
        finally:
            await consumer.stop()

    def _handle_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._asked_to_stop, number)

    def _asked_to_stop(self, number: int) -> None:
        log.info("asked to stop; ending after the flush that is under way", signal=signal.Signals(number).name)
        self._asked = True
        self._stop.set()

    def _pipeline_ended(self, work: asyncio.Task[None]) -> None:
        if not work.cancelled() and isinstance(error := work.exception(), StateError):
            log.error("the state cannot be used", reason=str(error))
            sys.stderr.flush()
            os._exit(2)
        if not work.cancelled() and isinstance(error := work.exception(), Overtaken):
            log.error("ending without an acknowledgement", reason=str(error))
            sys.stderr.flush()
            os._exit(1)
        if not work.cancelled() and (error := work.exception()) is not None and not self._leaving:
            # Nothing may run on: not a commit, not another batch. What is unacknowledged comes again.
            log.error(
                "the pipeline failed, ending without an acknowledgement", error=repr(error)[:2000], exc_info=error
            )
            sys.stderr.flush()
            os._exit(1)

    def _faust_ended(self, starting: asyncio.Task[None]) -> None:
        # A start that the end overtakes may fail: what it waits for is cancelled. That is no reason to end.
        if not starting.cancelled() and (error := starting.exception()) is not None and not self._stop.is_set():
            self._ended = f"Faust did not start: {error!r}"
            self._stop.set()

    async def _watch(
        self,
        streams: StreamsApp,
        pipelines: Sequence[Pipeline[Any, Any]],
        rows: Sequence[RowSink],
        ends: Mapping[TopicPartition, int],
        sums: KeptSums,
    ) -> None:
        begun, recovered, ready = asyncio.get_running_loop().time(), 0, False
        while True:
            await asyncio.sleep(DRAIN_LOOK_SECONDS if self._drain else WATCH_SECONDS)
            before, ready = ready, all(pipeline.ready for pipeline in pipelines)
            if ready and not before:
                streams.app.consumer.expect_messages()
            elif before and not ready:
                streams.app.consumer.expect_nothing()
            self.metrics.ready.set(ready)
            if ready or not any(source.owns for source in streams.sources):
                self._recovering_since = None
            elif self._recovering_since is None:
                self._recovering_since = time.monotonic()
            then, recovered = recovered, sum(source.store.recovered for source in streams.sources)
            if ready or recovered != then or any(sink.failing is not None for sink in rows):
                begun = asyncio.get_running_loop().time()
            elif asyncio.get_running_loop().time() - begun > READY_SECONDS:
                self._ended = (
                    f"not ready for {READY_SECONDS:.0f} s: state is not recovered, or no partitions are assigned"
                )
                self._stop.set()
            if streams.committing_seconds > COMMIT_SECONDS:
                self._ended = f"a commit hangs: Kafka has not answered it for {COMMIT_SECONDS:.0f} s"
                self._stop.set()
            crashed = streams.app.crash_reason
            if crashed is not None or streams.app.should_stop:
                self._ended = f"Faust stopped: {crashed!r}"
                self._stop.set()
            if self._drain and ready:
                with contextlib.suppress(TimeoutError):  # of a commit that hangs; seen above
                    if await asyncio.wait_for(self._all_drained(streams, pipelines, ends), COMMIT_SECONDS + 1):
                        await sums.keep_now()
                        self._stop.set()

    async def _look(self, streams: StreamsApp, pipelines: Sequence[Pipeline[Any, Any]]) -> None:
        """Keeps the lag true while rows wait."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            for source, pipeline in zip(streams.sources, pipelines, strict=True):
                if pipeline.ready and pipeline.oldest_unflushed > LOOK_SECONDS:
                    with contextlib.suppress(Exception):  # Kafka is away too, or partitions move: the next look tells
                        await asyncio.wait_for(source.look(), LOOK_SECONDS)

    async def _all_drained(
        self, streams: StreamsApp, pipelines: Sequence[Pipeline[Any, Any]], ends: Mapping[TopicPartition, int]
    ) -> bool:
        """Whether every source partition is committed up to its end, ours or another worker's, and then what was forwarded,
        and our rows are written up to the as-of clock."""
        both = list(zip(streams.sources, pipelines, strict=True))
        if any(pipeline.reached(tp) < ends.get(tp, 0) for source, pipeline in both for tp in source.assigned()):
            return False
        streams.app.consumer.expect_nothing()
        await streams.app.consumer.commit()
        asked = streams.sources[0]  # they share a consumer, and Kafka answers each question after a fetch that waits
        if await self._behind(asked, ends):
            return False
        # What is forwarded may be forwarded once more before it is committed: so first what is committed, then what there is.
        forwarded = await asked.ends([tp for source in streams.sources for tp in source.lane.internal_partitions])
        if await self._behind(asked, forwarded):
            return False
        return all(pipeline.is_rolled({tp.partition for tp in source.assigned()}) for source, pipeline in both)

    async def _behind(self, source: Source, ends: Mapping[TopicPartition, int]) -> bool:
        """Whether something before these offsets is not committed. Of what Kafka has deleted, nothing ever is."""
        committed = await source.committed(list(ends))
        behind = [tp for tp, end in ends.items() if committed[tp] < end]
        if not behind:
            return False
        beginnings = await source.beginnings(behind)
        return any(beginnings[tp] < ends[tp] for tp in behind)

    async def _end(
        self, streams: StreamsApp, pipelines: Sequence[Pipeline[Any, Any]], work: Sequence[asyncio.Task[None]]
    ) -> None:
        """The pipelines first, after the flush they are in; then Faust, which commits what they have acknowledged."""
        for pipeline in pipelines:
            pipeline.stop()
        until = asyncio.get_running_loop().time() + STOP_SECONDS
        await asyncio.wait(work, timeout=FLUSH_STOP_SECONDS)
        self._leaving = True
        streams.leave()
        try:
            await asyncio.wait_for(streams.app.stop(), until - asyncio.get_running_loop().time())
        except TimeoutError:
            log.warning("Faust did not stop in time; what is not committed comes again")
        except Exception as exc:
            log.warning("Faust stopped with an error", error=repr(exc))

    def _refresh(self, streams: StreamsApp, pipelines: Sequence[Pipeline[Any, Any]]) -> None:
        """Brings gauges up to date. What is of partitions that were taken away goes: others tell of them now."""
        metrics = self.metrics
        seconds = 0.0
        received: list[int] = []
        for gauge in (
            metrics.lag_records,
            metrics.uncommitted_records,
            metrics.uncommitted_seconds,
            metrics.newest_applied,
        ):
            gauge.clear()
        for source, pipeline in zip(streams.sources, pipelines, strict=True):
            pipeline.refresh()
            topic = source.lane.topic
            owned = source.assigned() if pipeline.ready else ()
            for tp in owned:
                end = max(source.known_end(tp), pipeline.sent_to(tp))
                behind = max(0, end - pipeline.reached(tp))
                metrics.lag_records.labels(tp.topic, tp.partition).set(behind)
                seconds = max(seconds, pipeline.lag_seconds(tp) if behind else 0)
            for name in {tp.topic for tp in owned}:
                uncommitted, still = source.uncommitted(name)
                metrics.uncommitted_records.labels(name).set(uncommitted)
                metrics.uncommitted_seconds.labels(name).set(still)
            metrics.recovery_remaining.labels(topic).set(0 if pipeline.ready else source.recovery_remaining)
            newest = pipeline.received().values() if pipeline.ready else ()
            if newest:
                metrics.newest_applied.labels(topic).set(max(newest) / 1000)
            if topic == USAGE_PINGS:
                metrics.state_scopes.set(pipeline.scopes)
                received += newest
            else:
                metrics.state_accounts.set(pipeline.scopes)
        metrics.lag_seconds.set(seconds)
        metrics.watermark.set(min(received) / 1000 if received else math.nan)
        since = self._recovering_since
        metrics.recovery_seconds.set(time.monotonic() - since if since is not None else 0)
        metrics.state_bytes.set(sum(source.store.nbytes for source in streams.sources))
        metrics.oldest_unflushed.set(max(pipeline.oldest_unflushed for pipeline in pipelines))
