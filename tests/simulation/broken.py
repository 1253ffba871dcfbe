"""Orders that are broken, for tests that the simulation finds out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from streams.pipeline import Pipeline
from tests.simulation.consumer import SimulatedConsumer


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


def holes_are_real(monkeypatch: pytest.MonkeyPatch, consumer: type[SimulatedConsumer]) -> None:
    """What was not fetched is passed over."""

    async def is_real(self: Any, tp: Any, wanted: int, got: int) -> bool:
        return True

    monkeypatch.setattr(consumer, "_is_real_hole", is_real)


def commits_run_ahead(monkeypatch: pytest.MonkeyPatch, consumer: type[SimulatedConsumer]) -> None:
    """Everything that was fetched up to now counts as acknowledged, once something is."""

    def new_offset(self: Any, tp: Any) -> int | None:
        acked = self._acked[tp]
        if not acked:
            return None
        acked.clear()
        self._acked_index[tp].clear()
        fetched: int = self._next.get(tp, 0)
        return fetched

    monkeypatch.setattr(consumer, "_new_offset", new_offset)


TRANSPORTS = holes_are_real, commits_run_ahead
