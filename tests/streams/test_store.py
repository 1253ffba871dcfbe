"""The store behind the table: of two values of one key the higher version stands, in whatever order they are recovered."""

from __future__ import annotations

import itertools
from types import SimpleNamespace
from typing import Any

import faust
import pytest
from aiokafka.structs import TopicPartition
from faust.stores import by_url

from streams.ledger.state import DELTA, FORMAT, HEADER
from streams.store import Store

TOPIC = "test-store-usage-changelog"


@pytest.fixture
def store() -> Store:
    app = faust.App("test-store", broker="memory://", store="pingstream://", autodiscover=False)
    table = app.Table("usage", key_type=bytes, value_type=bytes)
    made = table.data
    assert isinstance(made, Store)
    return made


def value(epoch: int, revision: int, body: bytes = b"") -> bytes:
    return HEADER.pack(FORMAT, DELTA, epoch, revision) + body


def recover(store: Store, *records: tuple[int, bytes, bytes | None]) -> None:
    """Hands (partition, key, value) to the store as Faust's recovery does: runs of one partition as an event each."""
    numbered = [(*record, offset) for offset, record in enumerate(records)]
    events: list[Any] = []
    for partition, run in itertools.groupby(numbered, key=lambda record: record[0]):
        batch = [SimpleNamespace(key=key, value=some, offset=offset) for _, key, some, offset in run]
        events.append(
            SimpleNamespace(message=SimpleNamespace(partition=partition, value=batch, offset=batch[-1].offset))
        )
    store.apply_changelog_batch(events, to_key=lambda key: key, to_value=lambda some: some)


def test_faust_finds_it_by_its_scheme() -> None:
    assert by_url("pingstream://") is Store


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_the_highest_version_stands_in_any_order(store: Store, order: tuple[int, ...]) -> None:
    """Also past a byte's end, where versions compare only if they are stored big-endian."""
    versions = [value(1, 2, b"a"), value(1, 300, b"b"), value(2, 1, b"c"), value(256, 0, b"d")]
    recover(store, *((0, b"k", versions[i]) for i in order))
    assert store.of_partition(0) == {b"k": versions[3]}


def test_of_one_version_the_later_stands(store: Store) -> None:
    recover(store, (0, b"k", value(1, 1, b"first")), (0, b"k", value(1, 1, b"second")))
    assert store.of_partition(0) == {b"k": value(1, 1, b"second")}


def test_what_an_old_owner_wrote_over_is_found_to_be_written_again(store: Store) -> None:
    """Compaction would keep the last record of a key, which is the old owner's."""
    newer, older = value(2, 5, b"newer"), value(1, 9, b"older")
    recover(store, (0, b"overtaken", newer), (0, b"in order", older), (0, b"overtaken", older), (0, b"in order", newer))
    assert store.overtaken[0] == {b"overtaken": newer}


def test_what_was_written_again_is_not_overtaken_any_more(store: Store) -> None:
    newer, older = value(2, 5, b"newer"), value(1, 9, b"older")
    recover(store, (0, b"k", newer), (0, b"k", older), (0, b"k", newer))
    assert not store.overtaken[0]
    recover(store, (0, b"k", older))
    assert store.overtaken[0] == {b"k": newer}


def test_what_an_old_owner_wrote_where_nothing_newer_stood_is_late(store: Store) -> None:
    recover(store, (0, b"a", value(1, 1)), (0, b"b", value(3, 1)), (0, b"c", value(2, 1)), (1, b"c", value(2, 1)))
    assert store.late[0] == {b"c"} and not store.late[1]
    recover(store, (0, b"c", value(3, 2)))
    assert not store.late[0]


def test_a_tombstone_deletes_nothing(store: Store) -> None:
    """It has no version, so nothing says that it is newer."""
    recover(store, (0, b"k", value(1, 1)), (0, b"k", None))
    assert store.of_partition(0) == {b"k": value(1, 1)}


async def test_partitions_of_others_are_dropped_when_recovery_ends(store: Store) -> None:
    recover(store, (0, b"mine", value(1, 1)), (3, b"gone", value(1, 2)), (3, b"gone", value(1, 1)))
    others = TopicPartition("test-store-another-changelog", 3)
    await store.on_recovery_completed({TopicPartition(TOPIC, 0), others}, set())
    assert store.of_partition(0) == {b"mine": value(1, 1)}
    assert store.of_partition(3) == {} and not store.overtaken[3]
    assert store.nbytes == len(value(1, 1))


def test_one_key_in_two_partitions_is_two_values(store: Store) -> None:
    recover(store, (0, b"k", value(1, 1, b"zero")), (1, b"k", value(1, 1, b"one")))
    store.put(1, b"k", value(1, 2, b"one more"))
    assert store.of_partition(0)[b"k"].endswith(b"zero") and store.of_partition(1)[b"k"].endswith(b"one more")
