"""The group's offsets set back or out of the log, and source topics whose partitions are added to."""

from __future__ import annotations

import signal
import time
from collections.abc import Sequence

from aiokafka.structs import ConsumerRecord, TopicPartition

from sinks.topics import SOURCES, USAGE_PINGS
from tests.faults.case import case
from tests.faults.kafka import READ
from tests.faults.stage import Stage
from tests.running import table, wait_until

VIEWS = ("kpi_mau", "kpi_smau", "kpi_usage_pings", "kpi_mrr", "kpi_net_retention", "kpi_self_service_total")


@case()
def group_reset_to_the_earliest(stage: Stage) -> None:
    """The group's offsets are set to the beginning: while everything is read again, onto full tables, no figure changes."""
    messages = stage.messages(size=stage.of(1, 3, 20))
    stage.site.send(messages)
    with stage.supervised() as worker:
        stage.settle()
        worker.end()
    stage.kafka.commit(stage.kafka.beginnings(*READ))
    looks = 0
    with stage.tables() as client:
        before = {view: table(client, view) for view in VIEWS}
        with stage.supervised() as worker:
            until = time.monotonic() + 120
            while stage.kafka.behind():
                assert time.monotonic() < until, "the replay does not end"
                for view in VIEWS:
                    assert sorted(map(str, table(client, view))) == sorted(map(str, before[view])), f"{view} changed"
                looks += 1
            stage.counts["looks"] = looks
            stage.check()


@case()
def committed_offset_out_of_retention(stage: Stage) -> None:
    """Messages leave the topic before anybody reads them, while no worker runs: loud, and gap rows that an analyst can see."""
    messages = stage.messages()
    half = len(messages) // 2
    stage.site.send(messages[:half])
    with stage.supervised() as worker:
        stage.settle()
        worker.end()
    stage.site.send(messages[half:])
    records = lose_some(stage)
    with stage.supervised() as worker:
        stage.settle()
        worker.end()
        assert_gaps(stage, records, worker.log())


@case()
def retention_overtakes_a_worker(stage: Stage) -> None:
    """Messages leave the topic under a worker that was held up: loud, and gap rows as well."""
    messages = stage.messages()
    half = len(messages) // 2
    stage.site.send(messages[:half])
    with stage.supervised() as worker:
        stage.settle()
        worker.worker.signal(signal.SIGSTOP)
        time.sleep(2.0)  # what it had asked Kafka for is answered, with nothing
        stage.site.send(messages[half:])
        records = lose_some(stage)
        worker.worker.signal(signal.SIGCONT)
        stage.settle()
        worker.end()
        assert_gaps(stage, records, worker.log())


def lose_some(stage: Stage) -> list[ConsumerRecord]:
    """Deletes half of what is not committed from the first three partitions of both topics; gives what they held."""
    records = [record for topic in SOURCES for record in stage.site.read(topic)]
    committed, ends = stage.kafka.committed(), stage.kafka.ends(*SOURCES)
    before = {tp: (committed.get(tp, 0) + end) // 2 for tp, end in ends.items() if tp.partition < 3}
    stage.kafka.delete_before(before)
    return records


def assert_gaps(stage: Stage, records: Sequence[ConsumerRecord], log: str) -> None:
    """What is lost is lost by Kafka alone, said in the log, and counted in rows; everything else is right.

    Args:
        records: all that were in the topics before some were deleted.
    """
    beginnings = stage.kafka.beginnings(*SOURCES)
    with stage.tables() as client:
        gaps = table(client, "gap FINAL")
    lost: set[tuple[str, int, int]] = set()
    for gap in gaps:
        assert gap["last_offset"] < beginnings[TopicPartition(gap["topic"], gap["partition"])], gap
        lost |= {
            (gap["topic"], gap["partition"], offset) for offset in range(gap["first_offset"], gap["last_offset"] + 1)
        }
    assert lost and {topic for topic, _, _ in lost} <= set(SOURCES), gaps
    assert "messages were deleted from the topic before they were read" in log
    left = [record for record in records if (record.topic, record.partition, record.offset) not in lost]
    stage.counts |= {"gaps": len(gaps), "lost": len(records) - len(left)}
    stage.compare(records=left, gaps=sum(gap["topic"] == USAGE_PINGS for gap in gaps))


@case()
def drain_behind_deleted_messages(stage: Stage) -> None:
    """All of a partition is deleted before anybody has committed anything: a drain ends all the same."""
    stage.site.send(stage.messages())
    records = [record for topic in SOURCES for record in stage.site.read(topic)]
    emptied = {tp: end for tp, end in stage.kafka.ends(*SOURCES).items() if tp.partition == 1}
    stage.kafka.delete_before(emptied)
    with stage.worker("--drain") as worker:
        assert worker.wait(60) == 0
    left = [record for record in records if TopicPartition(record.topic, record.partition) not in emptied]
    stage.counts["deleted"] = len(records) - len(left)
    stage.compare(records=left, committed=False)


@case()
def partitions_raised_before_a_start(stage: Stage) -> None:
    """Partitions are added to a source topic while no worker runs: a worker refuses to start and says what to do."""
    messages = stage.messages()
    stage.site.send(messages)
    with stage.supervised() as worker:
        stage.settle()
        worker.end()
    stage.kafka.add_partitions(stage.chance.choice(SOURCES), 6)
    with stage.worker() as refused:
        assert refused.wait(60) == 2, refused.log()[-3000:]
        assert_says_what_to_do(refused.log())
    stage.compare()


@case()
def partitions_raised_while_workers_run(stage: Stage) -> None:
    """Partitions are added to a source topic while workers run and messages come: they end and say what to do; started over,
    everything is right."""
    # Of two messages with one identity on two partitions nobody can tell which is the first.
    messages = stage.messages(duplicates=0.0, conflicts=0.0)
    half = len(messages) // 2
    quick = {"CONSUMER_METADATA_MAX_AGE_MS": "1000"}
    with stage.supervised(variables=quick) as first, stage.supervised(variables=quick) as second:
        stage.site.send(messages[:half])
        stage.settle()
        stage.kafka.add_partitions(stage.chance.choice(SOURCES), 6)
        time.sleep(2.0)
        stage.site.send(messages[half:])
        for one in (first, second):
            wait_until(lambda: 2 in one.ends, "it ends for good", 90)  # noqa: B023
            assert_says_what_to_do(one.log())
    stage.start_over()
    with stage.supervised():
        stage.check()


def assert_says_what_to_do(log: str) -> None:
    """The sentence names the topic, what was found, and the way out."""
    assert "partitions" in log and "Traceback" not in log, log[-3000:]
    assert "consumer group" in log and "changelog" in log, log[-3000:]
