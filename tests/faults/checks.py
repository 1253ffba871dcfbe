"""What must be true at the end of every case, whatever happened before.

1. Every row of every table and view is what the oracle computes from what the source topics hold.
2. read = applied + duplicate + dead, for each topic. A worker's counters begin anew with each process and count what comes
   again a second time, so the balance is drawn from what stays: read, from Kafka's offsets; applied, the rows of `usage_ping`
   and the events in the billing state; dead, the letters, each place in the dead-letter topic and in `dead_letter`; what is
   left must be what the oracle calls duplicates.
3. The group's committed offsets are the ends of all topics that a worker reads.

And: the state in the changelogs gives the oracle's figures, and no log shows the key or a traceback.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Iterable

from aiokafka.structs import ConsumerRecord, TopicPartition
from clickhouse_connect.driver.client import Client

from sinks.topics import BILLING_EVENTS, SOURCES, USAGE_PINGS, dead_letter_topic
from tests.faults.kafka import BILLING_CHANGELOG, USAGE_CHANGELOG, Kafka
from tests.faults.state import billing_events, oracle_figures, usage_figures
from tests.oracle.billing import BillingExpected
from tests.running import KEYS, Site, assert_tables, expected, table


def assert_balance(site: Site, client: Client, wanted: BillingExpected, records: Iterable[ConsumerRecord]) -> None:
    """read = applied + duplicate + dead, from what stays (see above)."""
    letters = {(row["topic"], row["partition"], row["offset"]) for row in wanted.dead_letter}
    rows = {(row["topic"], row["partition"], row["offset"]) for row in table(client, "dead_letter")}
    places = {place for topic in SOURCES for place in _letter_places(site.read(dead_letter_topic(topic)))}
    assert rows == letters and places == letters, (
        f"letters: {len(letters)} expected, {len(rows)} rows, {len(places)} in the dead-letter topics"
    )
    applied = {
        USAGE_PINGS: len(table(client, "usage_ping", ["uuid"])),
        BILLING_EVENTS: billing_events(site.read(BILLING_CHANGELOG)),
    }
    read = dict.fromkeys(SOURCES, 0)
    for record in records:
        read[record.topic] += 1
    for topic in SOURCES:
        duplicate, dead = wanted.outcomes[topic, "duplicate"], wanted.outcomes[topic, "dead"]
        assert read[topic] == applied[topic] + duplicate + dead, (
            f"{topic}: {read[topic]} read, {applied[topic]} applied, {duplicate} duplicate, {dead} dead"
        )


def _letter_places(letters: Iterable[ConsumerRecord]) -> Iterable[tuple[str, int, int]]:
    for letter in letters:
        headers = dict(letter.headers)
        yield (
            headers["pingstream-topic"].decode(),
            int(headers["pingstream-partition"]),
            int(headers["pingstream-offset"]),
        )


def assert_committed(kafka: Kafka) -> None:
    """The committed offsets are the ends."""
    assert not (behind := kafka.behind()), f"(committed, end): {behind}"


def assert_state(site: Site, wanted: BillingExpected, as_of: dt.date) -> None:
    """The usage state gives the oracle's figures, all of whose days it still holds."""
    assert usage_figures(site.read(USAGE_CHANGELOG), as_of) == oracle_figures(wanted)


def wait_settled(kafka: Kafka, client: Client, as_of: dt.date, seconds: float, failed: Iterable[str] = ()) -> float:
    """Returns once all is committed and the tables' own progress has reached the ends and the as-of day; gives the seconds.

    Args:
        failed: reasons why it never will be, looked at again and again.
    """
    begun = time.monotonic()
    while True:
        behind = kafka.behind()
        ends = kafka.ends(*SOURCES)
        told = progress(client)
        waits = {tp: (told.get(tp), end) for tp, end in ends.items() if told.get(tp) != (end, as_of)}
        if not behind and not waits:
            time.sleep(1.0)  # rows of accounts may follow the word of how far a partition is
            return time.monotonic() - begun
        for reason in failed:
            raise AssertionError(reason)
        assert time.monotonic() - begun < seconds, (
            f"not settled in {seconds:.0f} s: (committed, end) {behind}; ((progress, as_of), end) {waits}"
        )
        time.sleep(0.5)


def progress(client: Client) -> dict[TopicPartition, tuple[int, dt.date]]:
    """(next offset, as-of day) of each partition as the tables know it."""
    found = client.query("SELECT topic, partition, next_offset, as_of FROM pingstream.progress FINAL")
    return {TopicPartition(topic, partition): (offset, day) for topic, partition, offset, day in found.result_rows}


__all__ = ["KEYS", "assert_balance", "assert_committed", "assert_state", "assert_tables", "expected", "wait_settled"]
