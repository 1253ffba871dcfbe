"""What Faust and aiokafka do, and what the transport does instead.

Each test of the first kind fails when the behaviour is mended there: then the departure in `streams/transport` may go.
"""

from __future__ import annotations

import asyncio
import inspect
from collections import defaultdict
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple
from unittest.mock import AsyncMock

import faust
import pytest
from aiokafka.consumer.fetcher import Fetcher, FetchResult
from aiokafka.consumer.subscription_state import Assignment, SubscriptionState
from aiokafka.structs import TopicPartition
from faust.tables import TableManager
from faust.tables.recovery import Recovery
from faust.transport import by_url
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread as StockThread
from faust.transport.drivers.aiokafka import Consumer as StockConsumer
from faust.types import TP
from intervaltree import IntervalTree  # type: ignore[import-untyped]
from structlog.testing import capture_logs

from streams.app import Tables
from streams.transport import Transport
from streams.transport.consumer import (
    FETCH_WAIT_MS,
    FULL_WAIT,
    QUICK_FETCH_WAIT_MS,
    AssignedOnly,
    BatchConsumer,
    FilteringThread,
)
from streams.transport.delivery import Delivery
from streams.transport.stepping import first_step

SOURCE, OTHER = TP("usage-pings", 0), TP("usage-pings", 1)


class FetchedRecord(NamedTuple):
    offset: int


# ---- entry points ------------------------------------------------------------------------------------------------------


def test_faust_finds_the_transport_by_its_scheme() -> None:
    assert by_url("pingstream://127.0.0.1:9092") is Transport
    app = faust.App("test-transport", broker="pingstream://127.0.0.1:9092", autodiscover=False)
    assert isinstance(app.transport, Transport)
    assert app.transport.Consumer is BatchConsumer


# ---- a filter that stays a filter ---------------------------------------------------------------------------------------


async def fetched(partitions: Any) -> set[Any]:
    """Partitions that aiokafka hands records of, when two have some and it is asked for `partitions`."""
    subscriptions = SubscriptionState()
    subscriptions.assign_from_user([SOURCE, OTHER])
    client: Any = SimpleNamespace()
    fetcher = object.__new__(Fetcher)
    fetcher._client, fetcher._subscriptions, fetcher._closed = client, subscriptions, False
    fetcher._wait_consume_future = None
    fetcher._notify = lambda future: None

    def result(tp: Any) -> FetchResult:
        made = object.__new__(FetchResult)
        made.getall = lambda limit: [FetchedRecord(7)]
        made.has_more = lambda: False
        return made

    fetcher._records = {tp: result(tp) for tp in (SOURCE, OTHER)}
    return set(await fetcher.fetched_records(partitions, timeout=0))


async def test_aiokafka_takes_no_partitions_as_all() -> None:
    assert await fetched({SOURCE}) == {SOURCE}
    assert await fetched(set()) == {SOURCE, OTHER}, "mended in aiokafka: AssignedOnly may go"


async def test_our_filter_lets_nothing_through_when_it_is_empty_and_follows_its_set() -> None:
    live = {SOURCE}
    view = AssignedOnly(live)
    assert await fetched(view) == {SOURCE}
    live.clear()
    assert await fetched(view) == set()
    assert bool(view) and SOURCE not in view


@pytest.mark.parametrize(
    ("full", "found", "waits"),
    [
        ((), {SOURCE, OTHER}, 1.0),
        (("billing-events",), {SOURCE, OTHER}, FULL_WAIT),
        (("usage-pings",), set(), FULL_WAIT),
    ],
)
async def test_topics_whose_pipeline_has_no_room_are_left_in_kafka(
    monkeypatch: pytest.MonkeyPatch, full: Sequence[str], found: set[TP], waits: float
) -> None:
    asked: list[float] = []

    async def fetch(self: Any, active_partitions: Any, timeout: float) -> set[TP]:
        asked.append(timeout)
        return await fetched(active_partitions)

    monkeypatch.setattr(StockConsumer, "_getmany", fetch)
    made = object.__new__(BatchConsumer)
    made.app = SimpleNamespace(full_topics=lambda: set(full))
    assert await made._getmany({SOURCE, OTHER}, 1.0) == found
    assert asked == [waits]


# ---- nothing waits for nothing -------------------------------------------------------------------------------------------


async def test_a_fetch_of_partitions_without_messages_ends_soon() -> None:
    app = faust.App("test-fetch-wait", broker="pingstream://127.0.0.1:1", autodiscover=False)
    thread = app.consumer._thread
    thread.thread_loop = asyncio.get_running_loop()
    stock = StockThread._create_consumer(thread, loop=thread.thread_loop)
    ours = thread._consumer = thread._create_consumer(loop=thread.thread_loop)
    assert stock._fetch_max_wait_ms == 1500, "mended in Faust: FETCH_WAIT_MS may go"
    assert ours._fetch_max_wait_ms == QUICK_FETCH_WAIT_MS
    ours._fetcher = SimpleNamespace(_fetch_max_wait_ms=QUICK_FETCH_WAIT_MS)
    app.consumer.expect_messages()
    assert ours._fetcher._fetch_max_wait_ms == FETCH_WAIT_MS
    app.consumer.expect_nothing()
    assert ours._fetcher._fetch_max_wait_ms == QUICK_FETCH_WAIT_MS


async def test_tables_start_without_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []

    async def sleep(self: Any, seconds: float) -> None:
        pauses.append(seconds)
        self._stopped.set()  # before it starts anything, which needs Kafka

    monkeypatch.setattr(TableManager, "sleep", sleep)
    app = faust.App("test-tables", broker="pingstream://127.0.0.1:1", autodiscover=False)
    await TableManager(app).on_start()
    assert pauses == [1.0], "mended in Faust: streams.app.Tables may go"
    tables, started = Tables(app), []
    tables._update_channels = tables.recovery.start = AsyncMock(side_effect=lambda: started.append(1))
    await tables.on_start()
    assert started == [1, 1]
    assert pauses == [1.0]


# ---- commits follow acks -------------------------------------------------------------------------------------------------


def consumer(kind: type[Any], committed: int | None = None) -> Any:
    """A consumer with the bookkeeping of acknowledgements and no Kafka behind it."""
    made = object.__new__(kind)
    made._acked = defaultdict(list)
    made._acked_index = defaultdict(set)
    made._gap = defaultdict(IntervalTree)
    made._committed_offset = defaultdict(lambda: None, {SOURCE: committed})
    made._unacked_messages = set()
    made._waiting_for_ack = None
    made._n_acked = 0
    made.app = SimpleNamespace(topics=SimpleNamespace(acks_enabled_for=lambda topic: True))
    return made


def ack(made: Any, *offsets: int) -> None:
    """Acknowledges messages; ours are batches, by their last offset."""
    for offset in offsets:
        assert made.ack(Acked(offset))


class Acked:
    """A message, as `Consumer.ack` asks for it."""

    def __init__(self, offset: int) -> None:
        self.acked = False
        self.tp, self.topic, self.offset = SOURCE, SOURCE.topic, offset


def test_nothing_acked_commits_nothing() -> None:
    assert consumer(BatchConsumer)._new_offset(SOURCE) is None


def test_each_ack_of_a_batch_commits_up_to_its_end_and_no_further() -> None:
    made = consumer(BatchConsumer)
    for last in (9, 120, 121, 5_000):
        ack(made, last)
        assert made._new_offset(SOURCE) == last + 1
        assert made._new_offset(SOURCE) is None, "committed once"


def test_a_batch_of_many_records_is_no_gap_for_us_and_stops_stock_faust() -> None:
    """Batches are acknowledged by their last offset; the offsets between were never acknowledged one by one."""
    ours, stock = consumer(BatchConsumer, committed=10), consumer(StockConsumer, committed=10)
    for made in (ours, stock):
        ack(made, 59)
    assert ours._new_offset(SOURCE) == 60
    assert stock._new_offset(SOURCE) is None


def test_stock_faust_commits_past_what_was_never_acknowledged_on_a_new_group() -> None:
    """Without a commit it takes whatever was acknowledged first as the head: 0 to 4 would be skipped."""
    stock = consumer(StockConsumer, committed=None)
    ack(stock, 5, 6)
    assert stock._new_offset(SOURCE) == 7, "mended in Faust: _new_offset may go"


def test_stock_faust_skips_one_message_behind_a_commit() -> None:
    """Offset 10 is committed, so 10 comes next; 11 is acknowledged, 10 is not."""
    stock = consumer(StockConsumer, committed=10)
    ack(stock, 11)
    assert stock._new_offset(SOURCE) == 12, "mended in Faust: _new_offset may go"


async def test_stock_faust_counts_a_gap_as_processed_and_we_do_not() -> None:
    stock, ours = consumer(StockConsumer, committed=10), consumer(BatchConsumer, committed=10)
    for made in (stock, ours):
        await made._add_gap(SOURCE, 11, 500)
    assert len(stock._gap[SOURCE]) == 1, "mended in Faust: _add_gap may go"
    assert not ours._gap[SOURCE]


# ---- a batch is contiguous with the one before ----------------------------------------------------------------------------


class Thread:
    """Takes seeks down."""

    def __init__(self, fails: bool = False) -> None:
        self.seeks: list[tuple[TP, int]] = []
        self.fails = fails

    async def seek_wait(self, offsets: dict[TP, int]) -> None:
        if self.fails:
            raise RuntimeError("revoked meanwhile")
        self.seeks += offsets.items()


GENERATION = 4


def reader(wanted: int, fails: bool = False) -> Any:
    """A consumer that is to deliver offset `wanted` of the source next."""
    made = object.__new__(BatchConsumer)
    made._next, made._next_generation = {SOURCE: wanted}, GENERATION
    made._sought, made.holes = {}, 0
    made._thread = Thread(fails)
    return made


def batch(*offsets: int) -> list[FetchedRecord]:
    return [FetchedRecord(offset) for offset in offsets]


async def test_what_follows_is_delivered_whole() -> None:
    made = reader(10)
    with capture_logs() as said:
        assert await made._contiguous(SOURCE, batch(10, 11, 12), GENERATION) == batch(10, 11, 12)
    assert not made._thread.seeks and not said


async def test_what_was_delivered_before_is_cut_off() -> None:
    made = reader(10)
    assert await made._contiguous(SOURCE, batch(8, 9, 10, 11), GENERATION) == batch(10, 11)
    assert await made._contiguous(SOURCE, batch(6, 7), GENERATION) == []
    assert not made._thread.seeks


async def test_a_hole_is_closed_by_seeking_back_once() -> None:
    made = reader(10)
    with capture_logs() as said:
        assert await made._contiguous(SOURCE, batch(14, 15), GENERATION) == []
        assert made._thread.seeks == [(SOURCE, 10)] and made.holes == 1
        assert await made._contiguous(SOURCE, batch(10, 11, 12, 13, 14), GENERATION) == batch(10, 11, 12, 13, 14)
    assert [(line["log_level"], line["partition"], line["offset"]) for line in said] == [
        ("warning", SOURCE.partition, 10)
    ]


async def test_a_hole_that_is_there_again_is_real_and_loud() -> None:
    """Retention, compaction and transaction markers leave offsets that no fetch will ever return."""
    made = reader(10)
    with capture_logs() as said:
        assert await made._contiguous(SOURCE, batch(14, 15), GENERATION) == []
        assert await made._contiguous(SOURCE, batch(14, 15), GENERATION) == batch(14, 15)
    assert made._thread.seeks == [(SOURCE, 10)]
    assert [line["log_level"] for line in said] == ["warning", "error"]
    assert (said[1]["topic"], said[1]["first_offset"], said[1]["last_offset"]) == (SOURCE.topic, 10, 13)


async def test_holes_inside_a_batch_are_the_logs_own() -> None:
    """The broker returned it in one piece: nothing was lost on our side."""
    made = reader(10)
    assert await made._contiguous(SOURCE, batch(10, 13, 14), GENERATION) == batch(10, 13, 14)


async def test_a_second_hole_is_sought_too() -> None:
    made = reader(10)
    await made._contiguous(SOURCE, batch(14), GENERATION)
    made._next[SOURCE] = 20
    assert await made._contiguous(SOURCE, batch(25), GENERATION) == []
    assert made._thread.seeks == [(SOURCE, 10), (SOURCE, 20)]


async def test_a_seek_that_failed_is_tried_again() -> None:
    made = reader(10, fails=True)
    assert await made._contiguous(SOURCE, batch(14), GENERATION) == []
    made._thread.fails = False
    assert await made._contiguous(SOURCE, batch(14), GENERATION) == [], "the hole is not yet known to be real"
    assert made._thread.seeks == [(SOURCE, 10)]


async def test_real_holes_of_two_partitions_are_both_accepted() -> None:
    """As after both have lost their oldest records to retention."""
    made = reader(10)
    made._next[OTHER] = 20
    for tp, got in ((SOURCE, 14), (OTHER, 25)):
        assert await made._contiguous(tp, batch(got), GENERATION) == []
    for tp, got in ((SOURCE, 14), (OTHER, 25)):
        assert await made._contiguous(tp, batch(got), GENERATION) == batch(got)
    assert made._thread.seeks == [(SOURCE, 10), (OTHER, 20)]


async def test_a_hole_that_was_closed_is_not_known_as_real_when_it_comes_again() -> None:
    made = reader(10)
    assert await made._contiguous(SOURCE, batch(14), GENERATION) == []
    assert await made._contiguous(SOURCE, batch(10, 11), GENERATION) == batch(10, 11)
    assert await made._contiguous(SOURCE, batch(14), GENERATION) == [], "10 is delivered anew after a rebalance"
    assert made._thread.seeks == [(SOURCE, 10), (SOURCE, 10)]


async def test_a_refused_commit_is_no_place_to_start_from() -> None:
    """Faust takes an offset for committed although the group has refused it, and nothing is committed for the group."""
    made = consumer(BatchConsumer, committed=28)
    made.app.consumer_generation_id, made.app.tables = GENERATION, SimpleNamespace(changelog_topics=set())
    made._read_offset, made._next, made._sought, made._starts = {}, {}, {}, {}
    made._thread, made.assignment, made.delivery = Thread(), lambda: {SOURCE}, Delivery()

    async def seek_to_committed() -> dict[TP, int | None]:
        return {SOURCE: None}

    async def earliest_offsets(*tps: TP) -> dict[TP, int]:
        return dict.fromkeys(tps, 3)

    made.seek_to_committed, made.earliest_offsets = seek_to_committed, earliest_offsets
    await made.perform_seek()
    assert made.start_of(SOURCE) == 3 and made._thread.seeks == [(SOURCE, 3)]
    ack(made, 5)
    assert made._new_offset(SOURCE) == 6


async def test_a_refused_commit_is_no_progress() -> None:
    made = consumer(BatchConsumer, committed=3)
    made.delivery = Delivery()
    made.delivery.begin(GENERATION, {SOURCE: 3})
    made.delivery.deliver(SOURCE, batch(3, 4))
    for taken, left in ((False, 2), (True, 0)):

        async def commit(offsets: Any, taken: bool = taken) -> bool:
            return taken

        made._thread = SimpleNamespace(commit=commit)
        assert await made._commit({SOURCE: 5}) is taken
        assert made.delivery.uncommitted(SOURCE.topic)[0] == left


async def test_before_the_seek_of_a_generation_nothing_is_delivered() -> None:
    made = reader(10)
    assert await made._contiguous(SOURCE, batch(10), GENERATION + 1) == []
    assert await made._contiguous(OTHER, batch(0), GENERATION) == []


# ---- sources are resumed after the seek -----------------------------------------------------------------------------------


def test_stock_faust_resumes_sources_before_it_seeks() -> None:
    """Recovery resumes first, then seeks, then clears the queues: what came in between is lost."""
    text = inspect.getsource(Recovery._resume_streams)
    resumed, sought = text.find("resume_partitions"), text.find("perform_seek")
    assert -1 < resumed < sought, "mended in Faust: resume_partitions may go"


def test_sources_are_held_back_until_the_flow_is_resumed(monkeypatch: pytest.MonkeyPatch) -> None:
    changelog = TP("pingstream-usage-changelog", 0)
    resumed: list[set[TP]] = []
    monkeypatch.setattr(StockConsumer, "resume_partitions", lambda self, tps: resumed.append(set(tps)))
    monkeypatch.setattr(StockConsumer, "resume_flow", lambda self: resumed.append({TP("flow", 0)}))
    made = object.__new__(BatchConsumer)
    made._held_back = set()
    monkeypatch.setattr(BatchConsumer, "_is_changelog_tp", lambda self, tp: tp == changelog)
    made.resume_partitions({SOURCE, changelog})
    assert resumed == [{changelog}]
    made.resume_flow()
    assert resumed == [{changelog}, {SOURCE}, {TP("flow", 0)}]
    made.resume_flow()
    assert resumed[3:] == [{TP("flow", 0)}], "held back once"


# ---- no four tasks for each message ----------------------------------------------------------------------------------------


async def test_a_coroutine_that_does_not_wait_ends_in_its_first_step() -> None:
    async def plain() -> int:
        return 17

    assert first_step(plain()) == (True, 17)


async def test_one_that_waits_is_gone_on_with() -> None:
    steps = []

    async def waits() -> str:
        steps.append("before")
        await asyncio.sleep(0)
        steps.append("between")
        await asyncio.sleep(0.001)
        return "after"

    done, rest = first_step(waits())
    assert not done and steps == ["before"]
    assert await rest == "after" and steps == ["before", "between"]


async def test_its_errors_come_out_in_the_first_step_and_later() -> None:
    async def at_once() -> None:
        raise KeyError("at once")

    async def later() -> None:
        await asyncio.sleep(0)
        raise KeyError("later")

    with pytest.raises(KeyError, match="at once"):
        first_step(at_once())
    _, rest = first_step(later())
    with pytest.raises(KeyError, match="later"):
        await rest


async def test_a_cancelled_rest_reaches_the_coroutine() -> None:
    cleaned = []

    async def waits() -> None:
        try:
            await asyncio.sleep(10)
        finally:
            cleaned.append(True)

    async def wrapped(rest: Any) -> None:
        await rest

    _, rest = first_step(waits())
    task = asyncio.ensure_future(wrapped(rest))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert cleaned


async def test_a_message_that_does_not_block_is_delivered_without_a_task(monkeypatch: pytest.MonkeyPatch) -> None:
    made = object.__new__(BatchConsumer)
    delivered = []

    async def callback() -> None:
        delivered.append(1)

    async def suspended() -> None:
        await asyncio.sleep(10)

    before = len(asyncio.all_tasks())
    waiting = suspended()
    result = await made.wait_first(callback(), waiting)
    assert delivered and not result.stopped and result.done
    assert len(asyncio.all_tasks()) == before
    assert inspect.getcoroutinestate(waiting) == inspect.CORO_CLOSED


class _Watched:
    """What Faust's check of a partition looks at: a partition that was fetched a moment ago, and whose position is asked for."""

    def __init__(self, kind: type[StockThread]) -> None:
        tp = TopicPartition("usage-pings", 0)
        assignment = Assignment([tp])
        self.state = assignment.state_value(tp)
        self.state.timestamp = 1_000
        subscription = SimpleNamespace(assignment=assignment)
        self.thread = object.__new__(kind)
        self.thread.__dict__.update(
            _consumer=SimpleNamespace(_fetcher=SimpleNamespace(_subscriptions=SimpleNamespace(subscription=subscription))),
            time_started=0.0, tp_stream_timeout_secs=1e9, tp_fetch_request_timeout_secs=1e9,
            tp_fetch_response_timeout_secs=1e9, consumer=SimpleNamespace(app=self._app()),
        )  # fmt: skip

    @staticmethod
    def _app() -> Any:
        return SimpleNamespace(
            monitor=SimpleNamespace(stream_inbound_time={}), topics=SimpleNamespace(acks_enabled_for=lambda topic: True)
        )

    def look(self) -> None:
        self.thread.verify_event_path(2.0, TP("usage-pings", 0))


async def test_a_partition_whose_position_is_asked_for_is_not_looked_at() -> None:
    with pytest.raises(AssertionError):
        _Watched(StockThread).look()
    ours = _Watched(FilteringThread)
    ours.look()
    ours.state.seek(5)
    ours.look()
