"""Records as they are parsed: those that aiokafka would have made, in parts, and behind what was read before."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.consumer.fetcher import FetchResult, PartitionRecords
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.structs import ConsumerRecord, TopicPartition

from streams.transport.unpacking import AsTheyCome

SOURCE = TopicPartition("source", 3)
FIELDS = ("offset", "timestamp", "timestamp_type", "key", "value")


def batch(first: int, count: int, packed: int) -> bytes:
    builder = DefaultRecordBatchBuilder(2, packed, 0, -1, -1, -1, 1 << 20)
    for k in range(count):
        place = first + k
        value = None if place % 3 == 0 else b"v%d" % place
        builder.append(k, 1_700_000_000_000 + place, b"k%d" % place, value, [("h", b"%d" % place)] if place % 2 else [])
    data = bytearray(builder.build())
    data[:8] = first.to_bytes(8, "big")
    return bytes(data)


def fetched(start: int) -> FetchResult:
    """Offsets 10 to 14 and, behind a hole, 20 to 24; asked for from `start`."""
    records = MemoryRecords(batch(10, 5, packed=3) + batch(20, 5, packed=0))
    state = SimpleNamespace(paused=False, position=start, consumed_to=lambda offset: setattr(state, "position", offset))
    assignment = SimpleNamespace(active=True, state_value=lambda tp: state)
    unpacked = PartitionRecords(SOURCE, records, [], start, None, None, True, 0)
    return FetchResult(SOURCE, assignment=assignment, partition_records=unpacked, backoff=0.0)


def parsed(start: int) -> FetchResult:
    there = AsTheyCome()
    there[SOURCE] = fetched(start)
    found: FetchResult = there[SOURCE]
    return found


def told(record: Any) -> tuple[Any, ...]:
    return (*(getattr(record, field) for field in FIELDS), list(record.headers))


@pytest.mark.parametrize("start", [10, 12, 15])
def test_the_records_are_those_of_aiokafka(start: int) -> None:
    wanted, found = fetched(start).getall(), parsed(start).getall()
    assert [told(record) for record in found] == [told(record) for record in wanted]
    assert len(found) == {10: 10, 12: 8, 15: 5}[start]
    assert {type(record) for record in wanted} == {ConsumerRecord} != {type(record) for record in found}


def test_they_are_taken_in_parts() -> None:
    result = parsed(11)
    parts = []
    while result.has_more():
        parts.append([record.offset for record in result.getall(3)])
    assert parts == [[11, 12, 13], [14, 20, 21], [22, 23, 24], []]


def test_what_is_damaged_is_refused_as_ever() -> None:
    there = AsTheyCome()
    data = bytearray(batch(0, 3, packed=0))
    data[-1] ^= 1
    unpacked = PartitionRecords(SOURCE, MemoryRecords(bytes(data)), [], 0, None, None, True, 0)
    there[SOURCE] = FetchResult(SOURCE, assignment=None, partition_records=unpacked, backoff=0.0)
    with pytest.raises(Exception, match="Invalid CRC"):
        list(there[SOURCE]._partition_records)
