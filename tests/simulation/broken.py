"""Pipelines whose order is broken, for tests that the simulation finds out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from streams.pipeline import Pipeline
from streams.transport.consumer import BatchConsumer


class AckBeforeSink(Pipeline[Any, Any]):
    """Acknowledges what it takes, and then works on it."""

    async def _flush(self, events: list[Any]) -> None:
        for event in events:
            event.ack()
        await super()._flush(events)


class SinkBeforeChangelog(Pipeline[Any, Any]):
    """Writes the rows of a flush and acknowledges it; its state goes to the changelog afterwards."""

    async def _flush(self, events: list[Any]) -> None:
        begin, late = self._changelog.begin, []

        async def put_off(changes: Mapping[int, Any]) -> Any:
            late.append(dict(changes))
            return _done()

        self._changelog.begin = put_off  # type: ignore[method-assign, assignment]
        try:
            await super()._flush(events)
        finally:
            self._changelog.begin = begin  # type: ignore[method-assign]
        for changes in late:
            await (await begin(changes))


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


def gap_is_processed(consumer: type[BatchConsumer]) -> type[BatchConsumer]:
    """A consumer that takes what was not fetched for processed, as Faust's does."""

    class Skipping(consumer):  # type: ignore[misc, valid-type]
        async def _is_real_hole(self, tp: Any, wanted: int, got: int) -> bool:
            return True

    return Skipping

