"""Rows of plain pings of several partitions are those of each, one after the other."""

from __future__ import annotations

import pyarrow as pa

from schemas.ping import EPOCH
from streams.forwarder import partition_of
from streams.ledger.book import Book, Rules
from streams.ledger.names import Names
from streams.ledger.plain.folding import PlainRows
from streams.ledger.pseudonym import Pseudonymiser
from streams.ping_rows import plain_block
from tests.benchmarks.shapes import LAST_DAY, SMALL, Filled, messages
from tests.streams.ledger.record import Record

PARTITIONS = 3
RULES = Rules(partitions=PARTITIONS, partition_of=lambda key: partition_of(key, PARTITIONS))
END = (LAST_DAY - EPOCH.date()).days


def parts() -> list[tuple[int, int, PlainRows]]:
    """Plain pings of a few installations, by partition."""
    sent = list(messages(SMALL, 12, Filled(0, 0, 0, [], (0, 0, 0), [])))
    found = []
    for partition in range(PARTITIONS):
        own = [one for one in sent if partition_of(one.key or b"", PARTITIONS) == partition]
        book = Book(partition, {}, Names(), Pseudonymiser(b"0123456789abcdef"), RULES)
        book.claim(END)
        done = book.fold([Record(one.key, one.value, at, one.timestamp_ms) for at, one in enumerate(own)], END)
        assert done.plain is not None and len(done.plain.recorded_at) == len(own) > 0
        found.append((partition, 7 + partition, done.plain))
    return found


def test_parts_stand_one_after_the_other() -> None:
    every = parts()
    joined = plain_block(every)
    assert joined.to_pylist() == pa.concat_tables([plain_block([one]) for one in every]).to_pylist()
    assert {(row["home"], row["row_version"]) for row in joined.to_pylist()} == {(0, 7), (1, 8), (2, 9)}
    joined.validate(full=True)
