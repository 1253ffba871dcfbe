"""A worker of the simulation: the product's pipeline with everything real in it, over the simulated clients."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from aiokafka.errors import KafkaError

from schemas.ping import EPOCH_ORDINAL
from sinks.message_limits import MessageLimits
from sinks.prometheus import Metrics
from sinks.topics import BILLING_EVENTS, dead_letter_topic
from streams.app import Lane
from streams.billing import BillingSide
from streams.changelog import Changelog, Overtaken
from streams.clock import AsOfClock
from streams.forwarder import Forwarder, partition_of
from streams.ledger.billing.book import Rules as BillingRules
from streams.ledger.book import Rules as UsageRules
from streams.ledger.pseudonym import Pseudonymiser
from streams.letters import Letters
from streams.originals import Originals
from streams.pipeline import Pipeline
from streams.rows import RowSink
from streams.usage import UsageSide
from tests.simulation.clickhouse import DATABASE, ClickHouse
from tests.simulation.consumer import Member, SimulatedConsumer
from tests.simulation.kafka import Broker, Producer, Reader
from tests.simulation.loop import Process, VirtualLoop

KEY = b"0123456789abcdef"
FLUSH_SECONDS = 0.1
MAX_MESSAGE_BYTES = 8 * 1024 * 1024


class MovingClock(AsOfClock):
    """Today is `first` until `seconds`, and `last` from then on."""

    def __init__(self, loop: VirtualLoop, first: dt.date, last: dt.date, seconds: float) -> None:
        self._loop = loop
        self._days = first.toordinal() - EPOCH_ORDINAL, last.toordinal() - EPOCH_ORDINAL
        self._seconds = seconds

    def day(self) -> int:
        return self._days[self._loop.time() >= self._seconds]


class Worker:
    """One process of a worker.

    Args:
        pipeline, consumer: the classes that it runs; tests give broken ones.
        failed: is told of an error that no worker may end with.
    """

    def __init__(
        self,
        name: str,
        broker: Broker,
        clickhouse: ClickHouse,
        lane: Lane,
        clock: AsOfClock,
        pipeline: type[Pipeline[Any, Any]],
        consumer: type[SimulatedConsumer],
        failed: Callable[[str], None],
    ) -> None:
        self.process = Process(broker.loop, name)
        self.metrics = Metrics("simulated")
        self.member: Member
        self.pipeline: Pipeline[Any, Any]
        self._broker = broker
        self._clickhouse = clickhouse
        self._lane = lane
        self._clock = clock
        self._kind = pipeline
        self._consumer = consumer
        self._failed = failed

    def start(self) -> None:
        """Starts it."""
        self.process.spawn(self._run())

    async def _run(self) -> None:
        self.member = member = Member(self._broker, self.process.name, self._lane, self._consumer)
        self.pipeline = self._pipeline(member)
        member.source.pipeline = self.pipeline
        for work in (self.pipeline.run(), member.deliver(), member.work(), member.commit()):
            asyncio.create_task(work).add_done_callback(self._ended)
        await self.pipeline.learn_epochs()
        await member.stay()
        self.process.kill()

    def _ended(self, task: asyncio.Task[None]) -> None:
        """The process ends without an acknowledgement when any part of it does."""
        error = task.exception()
        self._broker.loop.note("ends", repr(error))
        if not isinstance(error, (KafkaError, Overtaken)):
            self._failed(f"{self.process.name} ended with {error!r}")
            if error is not None and error.__traceback__ is not None:
                at = error.__traceback__
                while at.tb_next is not None:
                    at = at.tb_next
                self._failed(f"  at {at.tb_frame.f_code.co_filename}:{at.tb_lineno}")
        self.process.kill()

    def _pipeline(self, member: Member) -> Pipeline[Any, Any]:
        lane, broker = self._lane, self._broker
        producer: Any = Producer(broker)
        settings: Any = SimpleNamespace(max_message_bytes=MAX_MESSAGE_BYTES)
        limits = MessageLimits(settings)
        connect: Any = Producer
        rows = RowSink(self._clickhouse.connect, DATABASE, self.metrics)
        reader: Any = lambda: Reader(broker)  # noqa: E731
        return self._kind(
            lane.topic,
            lane.internal_topic,
            member.source,
            lambda: member.source.store,
            Changelog(producer, member.source.changelog_topic),
            Letters(dead_letter_topic(lane.topic), lambda: connect(broker), limits, _no_mending, self.metrics),
            Forwarder(producer, limits, lane.internal_topic, lane.partitions),
            Originals(lane.topic, reader),
            rows,
            side(lane, rows, self._clock, self.metrics),
            self._clock,
            self.metrics,
            FLUSH_SECONDS,
        )


async def _no_mending() -> None:
    """Topics are always there."""


def pseudonymiser() -> Pseudonymiser:
    """Of all workers."""
    return Pseudonymiser(KEY)


def rules(lane: Lane) -> Any:
    """The rules of a topic's books, as `streams.worker` makes them."""

    def home(key: bytes) -> int:
        return partition_of(key, lane.partitions)

    if lane.topic == BILLING_EVENTS:
        return BillingRules(MAX_MESSAGE_BYTES, "USD", lane.partitions, home)
    return UsageRules(MAX_MESSAGE_BYTES, frozenset({"gitlab.com"}), lane.partitions, home)


def side(lane: Lane, rows: RowSink, clock: AsOfClock, metrics: Metrics) -> Any:
    """The half of the product that a topic belongs to."""
    if lane.topic == BILLING_EVENTS:
        return BillingSide(rows, clock, rules(lane), metrics)
    return UsageSide(rows, pseudonymiser(), rules(lane), metrics)
