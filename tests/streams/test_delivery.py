"""How far partitions are delivered and committed: what is stuck is told from what is idle."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from faust.types import TP

from streams.transport.delivery import Batch, Delivery

ONE, TWO, OTHER = TP("usage-pings", 0), TP("usage-pings", 1), TP("billing-events", 0)


class Watch:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def records(first: int, number: int) -> list[Any]:
    return [SimpleNamespace(offset=offset) for offset in range(first, first + number)]


def begun() -> tuple[Delivery, Watch]:
    watch = Watch()
    delivery = Delivery(watch)
    delivery.begin(1, {ONE: 10, TWO: 0, OTHER: 0})
    return delivery, watch


def test_who_has_committed_everything_is_idle_for_as_long_as_it_likes() -> None:
    delivery, watch = begun()
    watch.now += 1000
    assert delivery.uncommitted("usage-pings") == (0, 0.0)
    delivery.deliver(ONE, records(10, 5))
    assert delivery.uncommitted("usage-pings") == (5, 0.0)
    watch.now += 1
    assert delivery.uncommitted("usage-pings") == (5, 1.0)
    assert delivery.uncommitted("billing-events") == (0, 0.0)
    delivery.commit({ONE: 15})
    watch.now += 1000
    assert delivery.uncommitted("usage-pings") == (0, 0.0)


def test_a_partition_that_stands_still_is_seen_beside_one_that_moves() -> None:
    delivery, watch = begun()
    delivery.deliver(ONE, records(10, 5))
    delivery.deliver(TWO, records(0, 3))
    watch.now += 60
    delivery.commit({TWO: 2})
    delivery.deliver(TWO, records(3, 3))
    assert delivery.uncommitted("usage-pings") == (9, 60.0)
    delivery.commit({ONE: 12})
    watch.now += 5
    assert delivery.uncommitted("usage-pings") == (7, 5.0), "a commit of a part is a commit"
    delivery.commit({ONE: 12})
    watch.now += 5
    assert delivery.uncommitted("usage-pings") == (7, 10.0), "the same offset again moves nothing"


def test_what_was_ahead_of_a_batch_is_counted_by_partition_and_generation() -> None:
    delivery, _ = begun()
    batches = [delivery.deliver(tp, records(first, 4)) for tp, first in ((ONE, 10), (ONE, 20), (TWO, 0), (ONE, 24))]
    assert all(isinstance(batch, Batch) and len(batch) == 4 for batch in batches)
    assert [batch.ahead for batch in batches] == [0, 4, 0, 8]
    delivery.begin(1, {ONE: 20, TWO: 0})
    assert delivery.uncommitted("usage-pings") == (0, 0.0)
    assert delivery.deliver(ONE, records(20, 4)).ahead == 12, "the same again, in the same generation"
    delivery.begin(2, {ONE: 20})
    assert delivery.deliver(ONE, records(20, 4)).ahead == 0
    delivery.commit({TWO: 4})
    assert delivery.uncommitted("usage-pings") == (4, 0.0), "a partition that is another's now"
