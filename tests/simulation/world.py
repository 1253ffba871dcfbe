"""What the messages of a run are, and what must come of them."""

from __future__ import annotations

import datetime as dt
import random
from functools import cache
from math import isqrt
from typing import Any, NamedTuple

from sinks.topics import BILLING_EVENTS, USAGE_PINGS, internal_topic
from streams.app import Lane
from tests.oracle import billing as oracle
from tests.oracle.usage import Rules
from tests.strange import StrangeRecord, strange_records
from tests.strange_billing import strange_billing_records

LAST_DAY = dt.date(2026, 3, 20)


class World(NamedTuple):
    """The messages of a topic, each partition's in their order; `as_of`: the day up to which rows are written at last."""

    number: int
    lane: Lane
    records: list[StrangeRecord]
    as_of: dt.date


def world_of(seed: int) -> World:
    """The world of a run. Runs share them, as many as the square root of the seeds: what must come of one is found once."""
    return make(isqrt(seed), seed % 2 == 1)


@cache
def make(number: int, billing: bool) -> World:
    """A small world of strange messages."""
    rng = random.Random(f"world {number} {billing}")
    partitions, count = rng.choice((1, 2, 2, 3)), rng.randint(20, 60)
    as_of = LAST_DAY + dt.timedelta(rng.choice((-9, 0, 0, 3)))
    if billing:
        records = strange_billing_records(number, count, partitions=partitions, days=200, last_day=LAST_DAY)
        return World(
            number, Lane(BILLING_EVENTS, internal_topic(BILLING_EVENTS), partitions, "billing"), records, as_of
        )
    days = rng.choice((10, 25, 25, 60))
    records = strange_records(number, count, partitions=partitions, days=days, last_day=LAST_DAY)
    return World(number, Lane(USAGE_PINGS, internal_topic(USAGE_PINGS), partitions, "usage"), records, as_of)


def messages(world: World) -> list[oracle.Record]:
    """The messages as the oracle takes them."""
    offsets = dict.fromkeys(range(world.lane.partitions), 0)
    records = []
    for one in world.records:
        records.append(
            oracle.Record(world.lane.topic, one.partition, offsets[one.partition], one.timestamp_ms, one.key, one.value)
        )
        offsets[one.partition] += 1
    return records


def expected(world: World) -> oracle.BillingExpected:
    """What the oracle says."""
    return oracle.expect(messages(world), Rules(world.as_of))


def source_logs(world: World) -> list[list[Any]]:
    """The records by partition."""
    return [[one for one in world.records if one.partition == p] for p in range(world.lane.partitions)]
