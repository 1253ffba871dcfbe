"""One worker: puts the parts together, runs them, ends them in order."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version

import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.structs import TopicPartition
from clickhouse_connect.driver.client import Client

from schemas.settings import Settings
from sinks.dead_letters import DeadLetters
from sinks.kafka_client import client_config
from sinks.message_limits import MessageLimits
from sinks.prometheus import Metrics
from sinks.topics import USAGE_PINGS, TopicSpec, ensure_topics
from streams.app import APP_ID, StreamsApp
from streams.changelog import Changelog
from streams.clock import AsOfClock
from streams.forwarder import Forwarder, partition_of
from streams.ledger import example
from streams.ledger.book import Rules
from streams.ledger.pseudonym import Pseudonymiser
from streams.ledger.state import StateError
from streams.originals import Originals
from streams.pipeline import Pipeline
from streams.rows import RowSink
from streams.web import Web

log = structlog.get_logger("pingstream.worker")

REKEYED = f"{USAGE_PINGS}.rekeyed"
"""Internal topic: messages whose key is missing or wrong, on the way to their home; GitLab.com's activity, by user."""

GC_THRESHOLDS = (200_000, 20, 100)
"""A batch makes some 100,000 short-lived objects and no cycles; by Python's own thresholds a quarter of the time went to
looking for some."""

STOP_SECONDS = 3.5
READY_SECONDS = 600.0
"""A worker that is not ready in this time ends, to be started again: recovery hangs."""


@dataclass
class WebChoice:
    """Where the web end listens; `or_any`: a taken port gives way to a free one."""

    host: str
    port: int
    or_any: bool


class Worker:
    """Consumes usage pings until it is stopped, or until the topic's ends as of the start.

    Args:
        connect: makes a client of ClickHouse.
        key: the pseudonym key; new_key: it may be another than the one the state was made with.
    """

    def __init__(
        self,
        settings: Settings,
        connect: Callable[[], Client],
        key: bytes,
        web: WebChoice,
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
        self._ended: str | None = None
        self.metrics = Metrics(version("pingstream"))

    async def run(self) -> int:
        """Returns the exit code. Topics are made when they are missing; the broker must answer."""
        settings = self._settings
        compiled = asyncio.create_task(asyncio.to_thread(example.run))
        partitions = await self._topics()
        ends = await self._ends(partitions)
        settings.data_dir.mkdir(parents=True, exist_ok=True)  # Faust keeps a folder in it
        streams = StreamsApp(settings, USAGE_PINGS, REKEYED, partitions)
        if self._drain:
            streams.drain(ends)
        producer = AIOKafkaProducer(
            **client_config(settings),
            client_id=APP_ID,
            acks="all",
            enable_idempotence=True,
            compression_type="snappy",  # aiokafka has lz4 at its slowest level only
            max_batch_size=900_000,
            # A letter holds a message as it came; what the broker took it takes again, compressed.
            max_request_size=max(64 * 1024 * 1024, 2 * settings.max_message_bytes),
        )
        await producer.start()
        limits = MessageLimits(settings)
        rows = RowSink(self._connect, settings.database, self.metrics)
        originals = Originals(USAGE_PINGS, lambda: AIOKafkaConsumer(**client_config(settings), client_id=APP_ID))
        pipeline = streams.pipeline = Pipeline(
            USAGE_PINGS,
            REKEYED,
            streams,
            lambda: streams.store,
            Changelog(producer, streams.changelog_topic),
            DeadLetters(producer, limits),
            Forwarder(producer, limits, REKEYED, partitions),
            originals,
            rows,
            AsOfClock(settings.as_of),
            Pseudonymiser(self._key),
            Rules(
                settings.max_message_bytes,
                frozenset(name.lower() for name in settings.saas_hostnames),
                partitions,
                lambda key: partition_of(key, partitions),
                self._new_key,
            ),
            self.metrics,
            settings.flush_seconds,
        )
        web = Web(
            self.metrics,
            lambda: None if pipeline.ready else "not ready: no partitions, or state is not recovered",
            lambda: self._refresh(streams, pipeline),
        )
        await compiled
        await web.start(self._web.host, self._web.port, or_any=self._web.or_any)
        log.info(
            "worker started",
            version=version("pingstream"),
            kafka=settings.kafka,
            partitions=partitions,
            metrics=f"{web.address}/metrics",
        )
        self._handle_signals()
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLDS)
        work = asyncio.create_task(pipeline.run())
        work.add_done_callback(self._pipeline_ended)
        watch = asyncio.create_task(self._watch(streams, pipeline, rows, ends))
        starting = asyncio.create_task(streams.app.start())
        starting.add_done_callback(self._faust_ended)
        await self._stop.wait()
        watch.cancel()
        self._end_in_any_case()
        self.metrics.ready.set(0)
        await self._end(streams, pipeline, work)
        with contextlib.suppress(TimeoutError, Exception):
            await asyncio.wait_for(producer.stop(), 1)
        with contextlib.suppress(Exception):
            await web.stop()
        rows.close()
        if self._ended is not None:
            log.error("worker ends", reason=self._ended)
            return 1
        log.info("worker ends", reason="drained" if self._drain else "asked to")
        return 0

    def _end_in_any_case(self) -> None:
        """Ends the process when something hangs on the way out: nothing is lost by it, what is not committed comes again."""
        last = threading.Timer(STOP_SECONDS + 0.7, os._exit, [1 if self._ended is not None else 0])
        last.daemon = True
        last.start()

    async def _topics(self) -> int:
        """Makes what is missing; returns the number of partitions."""
        counts = await ensure_topics(self._settings)
        internal = TopicSpec(REKEYED, counts[USAGE_PINGS])
        await ensure_topics(self._settings, [internal], same_partitions=(USAGE_PINGS, REKEYED))
        return counts[USAGE_PINGS]

    async def _ends(self, partitions: int) -> dict[TopicPartition, int]:
        consumer = AIOKafkaConsumer(**client_config(self._settings), client_id=APP_ID)
        await consumer.start()
        try:
            ends: dict[TopicPartition, int] = await consumer.end_offsets(
                [TopicPartition(USAGE_PINGS, p) for p in range(partitions)]
            )
            return ends
        finally:
            await consumer.stop()

    def _handle_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stop.set)

    def _pipeline_ended(self, work: asyncio.Task[None]) -> None:
        if not work.cancelled() and isinstance(error := work.exception(), StateError):
            log.error("the state cannot be used", reason=str(error))
            sys.stderr.flush()
            os._exit(2)
        if not work.cancelled() and (error := work.exception()) is not None:
            # Nothing may run on: not a commit, not another batch. What is unacknowledged comes again.
            log.error(
                "the pipeline failed, ending without an acknowledgement", error=repr(error)[:2000], exc_info=error
            )
            sys.stderr.flush()
            os._exit(1)

    def _faust_ended(self, starting: asyncio.Task[None]) -> None:
        if not starting.cancelled() and (error := starting.exception()) is not None:
            self._ended = f"Faust did not start: {error!r}"
            self._stop.set()

    async def _watch(
        self, streams: StreamsApp, pipeline: Pipeline, rows: RowSink, ends: dict[TopicPartition, int]
    ) -> None:
        begun = asyncio.get_running_loop().time()
        while True:
            await asyncio.sleep(0.1)
            self.metrics.ready.set(pipeline.ready)
            if pipeline.ready or rows.failing is not None:
                begun = asyncio.get_running_loop().time()
            elif asyncio.get_running_loop().time() - begun > READY_SECONDS:
                self._ended = (
                    f"not ready for {READY_SECONDS:.0f} s: state is not recovered, or no partitions are assigned"
                )
                self._stop.set()
            crashed = streams.app.crash_reason
            if crashed is not None or streams.app.should_stop:
                self._ended = f"Faust stopped: {crashed!r}"
                self._stop.set()
            if self._drain and pipeline.ready and await self._drained(streams, pipeline, ends):
                self._stop.set()

    async def _drained(self, streams: StreamsApp, pipeline: Pipeline, ends: dict[TopicPartition, int]) -> bool:
        """Whether every source partition is committed up to its end, ours or another worker's, and then what was forwarded,
        and our rows are written up to the as-of clock."""
        assigned = streams.assigned()
        if any(pipeline.reached(tp) < ends.get(tp, 0) for tp in assigned):
            return False
        await streams.app.consumer.commit()
        if not await self._committed(streams, ends):
            return False
        # What is forwarded may be forwarded once more before it is committed: so first what is committed, then what there is.
        internal = [TopicPartition(REKEYED, tp.partition) for tp in ends]
        committed = await streams.committed(internal)
        forwarded = await streams.ends(internal)
        if any(committed[tp] < end for tp, end in forwarded.items()):
            return False
        return pipeline.is_rolled({tp.partition for tp in assigned})

    async def _committed(self, streams: StreamsApp, ends: Mapping[TopicPartition, int]) -> bool:
        committed = await streams.committed(list(ends))
        return all(committed[tp] >= end for tp, end in ends.items())

    async def _end(self, streams: StreamsApp, pipeline: Pipeline, work: asyncio.Task[None]) -> None:
        """Faust first: it waits for the acknowledgements of what is under way and commits them; then the pipeline."""
        try:
            await asyncio.wait_for(streams.app.stop(), STOP_SECONDS)
        except TimeoutError:
            log.warning("Faust did not stop in time; what is not committed comes again")
        except Exception as exc:
            log.warning("Faust stopped with an error", error=repr(exc))
        pipeline.stop()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(work, 0.5)

    def _refresh(self, streams: StreamsApp, pipeline: Pipeline) -> None:
        pipeline.refresh()
        lag = 0
        for tp in streams.assigned() if pipeline.ready else ():
            end = max(streams.app.consumer.highwater(tp) or 0, pipeline.sent_to(tp))
            behind = max(0, end - pipeline.reached(tp))
            self.metrics.lag_records.labels(tp.topic, tp.partition).set(behind)
            lag += behind
        self.metrics.lag_seconds.set(pipeline.lag_seconds() if lag else 0)
