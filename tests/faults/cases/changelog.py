"""The state's changelog: cut off, gone, corrupt, of a newer program, compacted; and what a worker keeps on its disk."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Mapping

from aiokafka import AIOKafkaProducer

from sinks.topics import BILLING_EVENTS, TopicSpec
from streams.ledger.billing import state as billing_state
from streams.ledger.state import FORMAT, HEADER, PARTITION, partition_key
from tests.faults.case import case
from tests.faults.kafka import BILLING_CHANGELOG, USAGE_CHANGELOG
from tests.faults.older import older_billing, older_usage
from tests.faults.stage import Stage
from tests.running import Site, wait_until

CHANGELOGS = (USAGE_CHANGELOG, BILLING_CHANGELOG)
NEWEST = 2**24 - 1
"""Above the epoch of any owner."""


@case()
def changelog_cut_off(stage: Stage) -> None:
    """Records are deleted from the beginning of a changelog: the worker refuses to count on with half a state."""
    _filled(stage)
    topic = stage.chance.choice(CHANGELOGS)
    middle = {tp: max(1, end // 2) for tp, end in stage.kafka.ends(topic).items() if end}
    stage.kafka.configure(topic, {"cleanup.policy": "compact,delete"})
    stage.kafka.delete_before(middle)
    stage.kafka.configure(topic, {"cleanup.policy": "compact"})
    _refused_then_started_over(stage, "changelog")


@case()
def changelog_lost(stage: Stage) -> None:
    """A changelog is deleted as a whole: the worker refuses to count on from nothing."""
    _filled(stage)
    stage.kafka.delete_topics([stage.chance.choice(CHANGELOGS)])
    _refused_then_started_over(stage, "changelog")


@case()
def changelog_corrupt(stage: Stage) -> None:
    """A record of a changelog cannot be read: the worker says so and ends with exit code 2."""
    _filled(stage)
    topic = stage.chance.choice(CHANGELOGS)
    record = stage.chance.choice([record for record in stage.site.read(topic) if record.key[:1] != b"p"])
    spoiled = record.value[:2] + b"\xff" * 3 + record.value[5:14] + b"\xc1 no state"
    asyncio.run(_write(stage.site, topic, {(record.partition, record.key): spoiled}))
    _refused_then_started_over(stage, "cannot be read")


@case()
def changelog_of_a_newer_program(stage: Stage) -> None:
    """A record has the format of a newer program: the worker says so and ends with exit code 2."""
    _filled(stage)
    newer = HEADER.pack(FORMAT + 1, PARTITION, NEWEST, 1)
    key = partition_key(2)
    topic = stage.chance.choice(CHANGELOGS)
    if topic == BILLING_CHANGELOG:
        newer, key = HEADER.pack(billing_state.FORMAT + 1, PARTITION, NEWEST, 1), billing_state.partition_key(2)
    asyncio.run(_write(stage.site, topic, {(2, key): newer}))
    _refused_then_started_over(stage, "run the newer version again")


@case(minutes=1.5)
def changelog_of_an_older_program(stage: Stage) -> None:
    """The state is that of an older program, written in its format: it is read, and what comes again is known."""
    messages = stage.messages(days=70)
    half = len(messages) // 2
    stage.site.send(messages[:half])
    with stage.supervised() as worker:
        stage.settle()
        worker.end()
    sent = {(one.partition, one.offset): one.value for one in stage.site.read(BILLING_EVENTS) if one.value}
    older = {
        USAGE_CHANGELOG: older_usage(stage.site.read(USAGE_CHANGELOG)),
        BILLING_CHANGELOG: older_billing(stage.site.read(BILLING_CHANGELOG), sent),
    }
    stage.kafka.delete_topics(older)
    stage.kafka.make_topics([TopicSpec(topic, 4, {"cleanup.policy": "compact"}) for topic in older])
    for topic, values in older.items():
        asyncio.run(_write(stage.site, topic, values))
        stage.counts[topic.removeprefix("pingstream-")] = len(values)
    # A message without a key goes to any partition: of two copies in two partitions nothing says which was first.
    again = [message for message in messages[half - 50 : half] if message.key is not None]
    stage.site.send(again + messages[half:])
    with stage.supervised():
        stage.check()


@case(minutes=2.5)
def changelog_compacted(stage: Stage) -> None:
    """The changelogs are compacted again and again under load and kills: what is left is the whole state."""
    messages = stage.messages(size=stage.of(1, 2, 10))
    seconds = stage.of(30.0, 60.0, 600.0)
    with stage.supervised() as worker, stage.load(messages, seconds=seconds) as load:
        worker.wait_ready()
        for topic in CHANGELOGS:
            stage.kafka.configure(
                topic,
                {
                    "cleanup.policy": "compact",
                    "segment.ms": "1000",
                    "min.cleanable.dirty.ratio": "0.01",
                    "min.compaction.lag.ms": "0",
                    "max.compaction.lag.ms": "1000",
                    "max.message.bytes": str(2 * 1024 * 1024),
                },
            )
        while load.running:
            time.sleep(stage.chance.uniform(6.0, 12.0))
            worker.kill()
        load.join()
        wait_until(lambda: _records(stage) < _ends(stage) // 2, "Kafka compacts", 300, pause=2.0)
        worker.kill()
        stage.counts |= {"kept": _records(stage), "of": _ends(stage)}
        stage.check()


@case()
def data_folder_deleted(stage: Stage) -> None:
    """What a worker keeps on its disk is deleted, under load and between two starts: the state is in Kafka."""
    messages = stage.messages()
    folder = stage.folder / "kept"
    with stage.load(messages, seconds=15) as load:
        for _ in range(2):
            with stage.supervised(data_dir=str(folder)) as worker:
                worker.wait_ready()
                time.sleep(stage.chance.uniform(0.5, 3.0))
                shutil.rmtree(folder)
                time.sleep(stage.chance.uniform(0.5, 2.0))
            shutil.rmtree(folder, ignore_errors=True)
        load.join()
    with stage.supervised(data_dir=str(folder)):
        stage.check()


@case(embedded=True)
def two_workers_on_one_engine(stage: Stage) -> None:
    """A second worker on one data folder with embedded ClickHouse stops at once and says why; the first works on."""
    messages = stage.messages()
    with stage.supervised() as worker, stage.load(messages, seconds=6):
        worker.wait_ready()
        begun = time.monotonic()
        with stage.worker() as second:
            assert second.wait(60) == 2
            stage.counts["refused_s"] = round(time.monotonic() - begun, 1)
            assert "is in use by process" in second.log() and "pingstream clickhouse" in second.log()
        stage.check()


def _filled(stage: Stage) -> None:
    """A stage whose messages are all read, and whose worker has ended in order."""
    stage.site.send(stage.messages())
    with stage.supervised() as worker:
        stage.settle()
        worker.end()


def _refused_then_started_over(stage: Stage, sentence: str) -> None:
    """A worker ends with exit code 2 and a sentence, the figures stay as they are, and starting over mends everything."""
    with stage.worker() as refused:
        assert refused.wait(60) == 2, refused.log()[-3000:]
        assert sentence in refused.log() and "Traceback" not in refused.log(), refused.log()[-3000:]
    stage.compare(state=False, balance=False)
    stage.start_over()
    with stage.supervised():
        stage.check()


def _records(stage: Stage) -> int:
    return sum(len(stage.site.read(topic)) for topic in CHANGELOGS)


def _ends(stage: Stage) -> int:
    return sum(stage.kafka.ends(*CHANGELOGS).values())


async def _write(site: Site, topic: str, values: Mapping[tuple[int, bytes], bytes]) -> None:
    """Writes values by partition and key."""
    async with AIOKafkaProducer(bootstrap_servers=site.broker.bootstrap, acks="all") as producer:
        for (partition, key), value in values.items():
            await producer.send_and_wait(topic, value, key, partition=partition)
