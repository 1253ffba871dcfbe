"""One run: workers start, die, stand still, lose partitions; then everything works, is drained and looked at."""

from __future__ import annotations

import contextlib
import datetime as dt
import gc
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from aiokafka.structs import TopicPartition

import streams.billing
import streams.letters
import streams.pipeline
import streams.rows
import streams.store
import streams.transport.consumer
import streams.usage
from streams.pipeline import Pipeline
from tests.simulation.clickhouse import ClickHouse
from tests.simulation.consumer import SimulatedConsumer
from tests.simulation.faults import Faults
from tests.simulation.kafka import Broker
from tests.simulation.loop import Stuck, VirtualLoop
from tests.simulation.worker import MovingClock, Worker
from tests.simulation.world import World

DRAIN_SECONDS = 400.0
"""Virtual seconds after the last fault in which everything must be drained."""

LAST_WORDS_SECONDS = 45.0
"""And what was sent before may still arrive."""


@dataclass
class Outcome:
    """What is left of a run.

    wrong: what no run may show, in words. acked: how often messages of (topic, partition, offset) were acknowledged.
    """

    world: World
    broker: Broker
    clickhouse: ClickHouse
    workers: list[Worker]
    trace: list[str]
    wrong: list[str] = field(default_factory=list)


def run(
    world: World,
    seed: int | None,
    pipeline: type[Pipeline[Any, Any]] = Pipeline,
    consumer: type[SimulatedConsumer] = SimulatedConsumer,
) -> Outcome:
    """Runs a world with the faults of a seed; None has none.

    Args:
        pipeline, consumer: what is to be tried.
    """
    faults = Faults(seed)
    loop = VirtualLoop(faults)
    gc.disable()  # when something is collected decides when it is under way no more
    gc.freeze()
    with _tuned(loop, faults):
        try:
            simulation = _Simulation(loop, faults, world, pipeline, consumer)
            loop.run_until_complete(simulation.main())
        except Stuck as exc:
            simulation.outcome.wrong.append(str(exc))
        finally:
            for worker in simulation.outcome.workers:
                worker.process.close()
            loop.close()
            gc.unfreeze()
            gc.enable()
    outcome = simulation.outcome
    outcome.wrong += loop.failures + outcome.clickhouse.conflicts
    return outcome


class _Simulation:
    def __init__(
        self,
        loop: VirtualLoop,
        faults: Faults,
        world: World,
        pipeline: type[Pipeline[Any, Any]],
        consumer: type[SimulatedConsumer],
    ) -> None:
        self._loop = loop
        self._faults = faults
        self._world = world
        self._kinds = pipeline, consumer
        lane = world.lane
        self._broker = Broker(loop, lane.partitions, 2 ** faults.some(9, 15), faults.rng.uniform(1, 12))
        first = world.as_of - dt.timedelta(faults.some(0, 2) if not faults.calm else 0)
        self._clock = MovingClock(loop, first, world.as_of, faults.rng.uniform(0, max(faults.seconds, 0.1)))
        self._number = 0
        self._live: dict[int, Worker] = {}
        self.outcome = Outcome(world, self._broker, ClickHouse(loop), [], loop.trace)

    async def main(self) -> None:
        """The whole run, which ends with everything drained or with what is wrong."""
        self._send()
        for place in range(self._faults.workers):
            self._start(place)
        if not self._faults.calm:
            while self._loop.time() < self._faults.seconds:
                await self._sleep(self._faults.rng.uniform(1, 8))
                self._come_or_go()
        self._faults.calm = True
        self._loop.note("calm")
        for worker in self._live.values():
            worker.process.dies_at = worker.process.pauses_at = 0
            worker.process.resume()
        await self._sleep(LAST_WORDS_SECONDS if self._faults.seconds else 0)
        until = self._loop.time() + DRAIN_SECONDS
        while not self._is_drained():
            if self._loop.time() > until:
                self.outcome.wrong.append(f"not drained in {DRAIN_SECONDS:.0f} s: {self._left()}")
                return
            await self._sleep(1.0)

    async def _sleep(self, seconds: float) -> None:
        woken = self._loop.create_future()
        self._loop.later(seconds, woken.set_result, None)
        await woken

    def _send(self) -> None:
        """Messages come in while things go wrong, each partition's in their order."""
        topic, number = self._world.lane.topic, len(self._world.records)
        begin = self._faults.rng.choice((0, number // 2, number))
        moments = sorted(self._faults.rng.uniform(0, self._faults.seconds * 0.8) for _ in range(number - begin))
        for one, moment in zip(self._world.records, [0.0] * begin + moments, strict=True):
            act = self._broker.append, TopicPartition(topic, one.partition), one.key, one.value, one.timestamp_ms
            if moment:
                self._loop.later(moment, *act)
            else:
                act[0](*act[1:])

    def _start(self, place: int) -> None:
        """Starts a worker; when it ends, another one takes its place."""
        if place in self._live and not self._live[place].process.dead:
            return
        self._number += 1
        worker = Worker(
            f"w{place}.{self._number}", self._broker, self.outcome.clickhouse, self._world.lane, self._clock, *self._kinds,
            self.outcome.wrong.append,
        )  # fmt: skip
        process = worker.process
        process.dies_at, process.pauses_at = self._faults.dies_at(), self._faults.pauses_at()
        process.pause = self._faults.pause() if process.pauses_at else 0.0
        process.ended = lambda: self._loop.later(self._faults.delay() + 0.5, self._start, place) and None
        self._live[place] = worker
        self.outcome.workers.append(worker)
        self._loop.note("started", "", process.name)
        worker.start()

    def _come_or_go(self) -> None:
        """A worker is asked to end, as by SIGTERM."""
        if self._faults.leaves():
            worker = self._live[self._faults.some(0, len(self._live) - 1)]
            if hasattr(worker, "member"):
                self._loop.note("is to leave", "", worker.process.name)
                worker.member.leaving = True

    def _left(self) -> str:
        lane, broker = self._world.lane, self._broker
        found = []
        for topic in (lane.topic, lane.internal_topic):
            for partition in range(lane.partitions):
                tp = TopicPartition(topic, partition)
                at, end = broker.group.committed.get(tp, 0), len(broker.logs[tp])
                if at < end:
                    found.append(f"{topic}-{partition} is committed to {at} of {end}")
        rolled = {
            partition
            for worker in self._live.values()
            if hasattr(worker, "pipeline") and not worker.process.dead
            for partition in range(lane.partitions)
            if worker.pipeline.ready and worker.pipeline.is_rolled({partition})
        }
        found += [f"partition {p} is not rolled" for p in range(lane.partitions) if p not in rolled]
        return ", ".join(found)

    def _is_drained(self) -> bool:
        return not self._left()


@contextlib.contextmanager
def _tuned(loop: VirtualLoop, faults: Faults) -> Iterator[None]:
    """Virtual time for the product, and limits so small that a small world goes past them."""
    time: Any = SimpleNamespace(monotonic=loop.time, time=loop.time)
    log: Any = _Log(loop)
    some = faults.rng.choice
    changes: list[tuple[Any, str, Any]] = [
        (streams.pipeline, "time", time),
        (streams.billing, "time", time),
        (streams.store, "time", time),
        (streams.pipeline, "log", log),
        (streams.rows, "log", log),
        (streams.letters, "log", log),
        (streams.transport.consumer, "log", log),
        (streams.usage.UsageSide, "flush_records", records := some((3, 10, 16_000))),
        (streams.billing.BillingSide, "flush_records", records),
        (streams.pipeline, "FAR_BEHIND", some((4, 2_000))),
        (streams.billing, "PUT_OFF_SECONDS", some((2.0, 300.0))),
        (streams.billing, "READ_ACCOUNTS", some((2, 20_000))),
        (streams.billing, "WRITE_BYTES", some((1, 96 * 1024 * 1024))),
        (streams.usage, "ROLL_SCOPES", some((2, 2_000))),
    ]
    before = [(module, name, getattr(module, name)) for module, name, _ in changes]
    try:
        for module, name, value in changes:
            setattr(module, name, value)
        yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)


class _Log:
    """The product's log, into the trace."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop

    def info(self, event: str, **more: Any) -> None:
        self._loop.note("log", f"{event} {more}")

    warning = error = info
