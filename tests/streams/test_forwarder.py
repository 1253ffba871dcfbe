"""Partitions of keys are those that Kafka's clients give them."""

from __future__ import annotations

from aiokafka.partitioner import murmur2
from hypothesis import given
from hypothesis import strategies as st

from streams.forwarder import partition_of


@given(st.binary(max_size=200), st.integers(1, 50))
def test_a_keys_partition_is_that_of_other_clients(key: bytes, partitions: int) -> None:
    assert partition_of(key, partitions) == (murmur2(key) & 0x7FFFFFFF) % partitions
