"""Orders that are broken, for tests that the simulation finds out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any

from streams.pipeline import Pipeline
from tests.simulation.check import wrong
from tests.simulation.consumer import SimulatedConsumer
from tests.simulation.run import run
from tests.simulation.world import world_of

LATER_SECONDS = 1.0


class AckBeforeSink(Pipeline[Any, Any]):
    """Acknowledges what it takes, and then works on it."""

    async def _flush(self, events: list[Any]) -> None:
        for event in events:
            event.ack()
        await super()._flush(events)


class SinkBeforeChangelog(Pipeline[Any, Any]):
    """Writes the rows of a flush and acknowledges it; its state goes to the changelog a little later, as Faust's tables do."""

    async def _flush(self, events: list[Any]) -> None:
        begin, loop = self._changelog.begin, asyncio.get_running_loop()

        async def write(changes: Mapping[int, Any]) -> None:
            await (await begin(changes))

        async def put_off(changes: Mapping[int, Any]) -> Any:
            loop.call_later(LATER_SECONDS, lambda: loop.create_task(write(dict(changes))))
            return _done()

        self._changelog.begin = put_off  # type: ignore[method-assign, assignment]
        try:
            await super()._flush(events)
        finally:
            self._changelog.begin = begin  # type: ignore[method-assign]


async def _done() -> None:
    """As if it were acknowledged."""


class EpochStandsStill(Pipeline[Any, Any]):
    """Takes partitions over under the epoch of their last owner."""

    async def _take_over(self) -> None:
        opened = self._side.open

        def open_again(partition: int, values: Mapping[bytes, bytes], generation: int) -> Any:
            book = opened(partition, values, generation)
            book.epoch = 1
            return book

        self._side.open = open_again  # type: ignore[method-assign]
        try:
            await super()._take_over()
        finally:
            self._side.open = opened  # type: ignore[method-assign]


class MessageLeftOut(Pipeline[Any, Any]):
    """Forgets the last message of each flush."""

    async def _flush(self, events: list[Any]) -> None:
        events[-1].message.value.pop()
        await super()._flush(events)


class BatchIsLost(SimulatedConsumer):
    """Every fifth batch does not come to the agent."""

    batches_fetched = 0

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[Any, Any]]:
        async for tp, message in super().getmany(timeout):
            self.batches_fetched += 1
            if self.batches_fetched % 5:
                yield tp, message


class HolesAreReal(SimulatedConsumer):
    """Passes over what was not fetched."""

    async def _is_real_hole(self, tp: Any, wanted: int, got: int) -> bool:
        return True


class CommitsRunAhead(SimulatedConsumer):
    """Counts everything that was fetched as acknowledged, once something is: a gap is processed."""

    def _new_offset(self, tp: Any) -> int | None:
        acked = self._acked[tp]
        if not acked:
            return None
        acked.clear()
        self._acked_index[tp].clear()
        fetched: int = self._next.get(tp, 0)
        return fetched


Program = tuple[type[Pipeline[Any, Any]], type[SimulatedConsumer]]

ORDERS: dict[str, Program] = {
    "ack before sink": (AckBeforeSink, SimulatedConsumer),
    "sink before changelog": (SinkBeforeChangelog, SimulatedConsumer),
    "version that does not rise": (EpochStandsStill, SimulatedConsumer),
    "gap counted as processed": (Pipeline, CommitsRunAhead),
    "hole passed over": (Pipeline, HolesAreReal),
}

UNBALANCED: dict[str, Program] = {
    "message left out": (MessageLeftOut, SimulatedConsumer),
    "batch lost on the way": (Pipeline, BatchIsLost),
}
"""Programs that lose messages, which their own metrics tell."""


def found_out(program: Program, seeds: Iterable[int]) -> int | None:
    """The first of these seeds with which something is wrong, None when nothing ever is."""
    for seed in seeds:
        if wrong(run(world_of(seed), seed, *program)):
            return seed
    return None
