"""Workers of one consumer group on one ClickHouse: however many they are, every row is the same."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from aiokafka.structs import TopicPartition

from deploy.message import Message
from sinks.topics import SOURCES, dead_letter_topic
from tests.faults.stage import SMALL, Stage, staged
from tests.running import KEYS, WorkerProcess, difference, stop_in_order, table, wait_until

PARTITIONS = 4
SUMMED = {
    f"pingstream_{name}"
    for name in (
        "mau", "smau", "feature_mau", "scopes_by_stages_used", "seats", "seats_added_28d", "mrr", "mrr_12m_ago",
        "mrr_retained", "state_scopes", "state_accounts",
    )
}  # fmt: skip
"""Gauges of what a worker owns, to be added up over workers (contract, section 4)."""


class Left(NamedTuple):
    """What a run left.

    Attributes:
        tables: the rows of every table and view.
        places: how many messages stand in each partition of the source topics.
        gauges: sums over the workers, by name and the values of labels.
        outcomes: sums over the workers, by (topic, outcome).
    """

    tables: dict[str, list[dict[str, Any]]]
    places: dict[TopicPartition, int]
    gauges: Counter[tuple[str, tuple[str, ...]]]
    outcomes: Counter[tuple[str, str]]


def owned(worker: WorkerProcess) -> set[tuple[str, ...]]:
    """(partition, topic) of the source topics that a worker has taken over."""
    if not worker.has_address or worker.get("/readyz")[0] != 200:
        return set()
    lags = {labels for name, labels in worker.metrics() if name == "pingstream_consumer_lag_records"}
    return {(partition, topic) for partition, topic in lags if topic in SOURCES}


def run(stage: Stage, messages: list[Message], workers: int) -> Left:
    """So many workers share the partitions evenly; then all messages come at once; then everything has been written."""
    stage.site.send([])  # makes the topics
    with ExitStack() as ends:
        there = [ends.enter_context(stage.worker()) for _ in range(workers)]
        share = len(SOURCES) * PARTITIONS // workers

        def shared() -> bool:
            assert all(worker.code is None for worker in there), [worker.log()[-2000:] for worker in there]
            parts = [owned(worker) for worker in there]
            return all(len(part) == share for part in parts) and len(set().union(*parts)) == share * workers

        wait_until(shared, f"{workers} workers own {share} partitions each", 60.0, pause=0.2)
        with stage.load(messages) as load:
            load.join()
        stage.settle()
        outcomes, gauges = Counter[tuple[str, str]](), Counter[tuple[str, tuple[str, ...]]]()
        for worker in there:
            counted = worker.outcomes()
            assert all(sum(n for (topic, _), n in counted.items() if topic == source) for source in SOURCES)
            outcomes += counted
            for (name, labels), value in worker.metrics().items():
                if name in SUMMED:
                    gauges[name, labels] += round(value * 100)  # type: ignore[assignment]
        with stage.tables() as client:
            tables = {name: table(client, name) for name in KEYS}
        for worker in there:
            stop_in_order(worker)
    return Left(tables, stage.kafka.ends(*SOURCES), +gauges, +outcomes)


@pytest.mark.long
def test_1_2_and_4_workers_write_the_same_rows(tmp_path: Path) -> None:
    with staged(tmp_path, seed=64, scale=SMALL) as stage:
        messages = stage.messages(accounts=30)
        alone = run(stage, messages, 1)
        wanted = stage.compare()
        assert alone.outcomes == +wanted.outcomes
        assert [name for name, rows in alone.tables.items() if not rows] == []
        for workers in (2, 4):
            stage.start_over()
            stage.kafka.delete_topics([*SOURCES, *map(dead_letter_topic, SOURCES)])
            together = run(stage, messages, workers)
            assert together.places == alone.places, "the load deals messages to partitions as it did before"
            differences = [
                difference(name, key, alone.tables[name], together.tables[name]) for name, key in KEYS.items()
            ]
            assert not any(differences), "\n\n".join(filter(None, differences))
            assert together.gauges == alone.gauges
            assert together.outcomes == alone.outcomes
