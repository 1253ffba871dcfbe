"""What the app tells the pipelines of Kafka and of Faust, and the consumer of the pipelines."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace

import pytest
from faust.types import TP

from schemas.settings import Settings
from sinks.topics import BILLING_EVENTS, USAGE_PINGS
from streams.app import Lane, StreamsApp


def app(folder: Path, drain_to: dict[TP, int] | None = None) -> StreamsApp:
    lanes = [
        Lane(USAGE_PINGS, "usage-pings.rekeyed", 2, "usage"),
        Lane(BILLING_EVENTS, "billing-events.rekeyed", 2, "billing"),
    ]
    return StreamsApp(Settings(_env_file=None, data_dir=folder), lanes, drain_to)  # type: ignore[call-arg,arg-type]


async def test_the_end_of_a_partition_that_was_taken_away_is_what_was_seen_of_it(tmp_path: Path) -> None:
    streams, gone = app(tmp_path), TP(USAGE_PINGS, 1)
    thread = streams.app.consumer._thread
    thread.thread_loop = asyncio.get_running_loop()
    thread._consumer = thread._create_consumer(loop=thread.thread_loop)
    with pytest.raises(AssertionError):
        streams.app.consumer.highwater(gone)
    source = streams.sources[0]
    assert source.known_end(gone) == 0
    source._seen = {gone: 5}
    assert source.known_end(gone) == 5


async def test_a_drain_knows_where_messages_end(tmp_path: Path) -> None:
    first, second = TP(USAGE_PINGS, 0), TP(USAGE_PINGS, 1)
    source = app(tmp_path, {first: 7}).sources[0]
    assert [source.expects(first, offset) for offset in (0, 6, 7, 8)] == [True, True, False, False]
    assert not source.expects(second, 0), "it came after the start"
    assert app(tmp_path).sources[0].expects(first, 10**9)


async def test_topics_without_room_are_those_of_pipelines_that_are_full(tmp_path: Path) -> None:
    streams = app(tmp_path)
    assert streams.app.full_topics() == set()
    usage, billing = streams.sources
    usage.pipeline, billing.pipeline = SimpleNamespace(has_room=True), SimpleNamespace(has_room=False)  # type: ignore[assignment]
    assert streams.app.full_topics() == {BILLING_EVENTS, "billing-events.rekeyed"}


async def test_what_is_left_of_a_recovery_is_told_by_topic(tmp_path: Path) -> None:
    streams = app(tmp_path)
    usage, billing = streams.sources
    assert [source.recovery_remaining for source in streams.sources] == [0, 0]
    assert not usage.owns
    recovery = streams.app.tables.recovery
    first, second = (TP("pingstream-usage-changelog", partition) for partition in range(2))
    empty = TP("pingstream-billing-changelog", 0)
    recovery.active_tps.update({first, second})
    assert usage.owns and not billing.owns
    # As Faust counts: the last offset of a changelog, and the last one that is read; -1 for none.
    recovery.active_highwaters.update({first: 999, second: 49, empty: -1})
    recovery.active_offsets.update({first: -1, second: 19, empty: -1})
    assert [source.recovery_remaining for source in streams.sources] == [1030, 0]
    recovery.active_offsets[first], recovery.active_offsets[second] = 999, 49
    assert [source.recovery_remaining for source in streams.sources] == [0, 0]


async def test_an_assignment_is_worked_on_once_its_starts_are_known(tmp_path: Path) -> None:
    """Faust calls tables recovered first: who told then how far a partition is would begin at 0."""
    streams = app(tmp_path)
    source, consumer = streams.sources[0], streams.app.consumer
    streams.app.consumer_generation_id = 3
    assert source.generation is None, "not recovered"
    await source._on_recovered()
    consumer._thread._consumer = SimpleNamespace(assignment=lambda: {TP(USAGE_PINGS, 0)})
    assert source.generation is None, "not sought"
    consumer._next_generation = 2
    assert source.generation is None, "sought in the generation before"
    consumer._next_generation = 3
    assert source.generation == 3
    consumer._next_generation = None
    consumer._thread._consumer = SimpleNamespace(assignment=set)
    assert source.generation == 3, "nothing to seek: others have all partitions"
