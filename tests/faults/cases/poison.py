"""Messages that nobody can read: they cost their letters, and no good message its place."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Sequence

import psutil
from aiokafka import AIOKafkaProducer

from deploy.message import Message
from schemas.settings import Settings
from sinks.topics import BILLING_EVENTS, SOURCES, USAGE_PINGS, dead_letter_topic, topic_config
from tests.faults.case import case
from tests.faults.stage import Stage
from tests.faults.supervisor import Supervisor
from tests.faults.world import world
from tests.running import wait_until

MIB = 1024 * 1024
HEAVY_BYTES = 256 * 1024
NO_LETTERS = "the dead letters' topic takes no letters"
POISON = (b"", b"{", b"null", b"[1,", b'{"uuid":1}', b'{"type":"unheard_of"}', b"[" * 500, b"\xff\xfe", b'{"event_id":')


def poison(stage: Stage, topic: str, count: int, timestamp_ms: int) -> list[Message]:
    """Messages of a topic that are all dead."""
    return [
        Message(topic, None, stage.chance.choice(POISON) + b" " * stage.chance.randrange(50), timestamp_ms)
        for _ in range(count)
    ]


def dead_letters(worker: Supervisor) -> dict[str, float]:
    """Dead letters that the present process has counted, by topic."""
    found = dict.fromkeys(SOURCES, 0.0)
    for (name, labels), value in worker.worker.metrics().items():
        if name == "pingstream_dead_letters_total":
            _, topic = labels
            found[topic] += value
    return found


@case()
def one_poisonous_message(stage: Stage) -> None:
    """One message in all of both topics cannot be read, at the very beginning of each partition."""
    messages = stage.messages(broken=0.0)
    first = messages[0].timestamp_ms
    stage.site.send_raw([(p, b"key", b"\x00poison", first) for p in range(4)])
    stage.site.send_raw([(p, None, b"\x00poison", first) for p in range(4)], BILLING_EVENTS)
    with stage.load(messages), stage.supervised() as worker:
        stage.check()
        assert worker.starts == 1


@case()
def every_third_is_poison(stage: Stage) -> None:
    """Every third message cannot be read."""
    messages = [
        one
        for number, good in enumerate(stage.messages())
        for one in ([good] if number % 2 else [good, *poison(stage, good.topic, 1, good.timestamp_ms)])
    ]
    with stage.load(messages, stage.of(1.0, 5.0, 30.0)) as load, stage.supervised() as worker:
        load.join()
        stage.settle()
        assert all(dead_letters(worker).values())
        stage.check()
        assert worker.starts == 1


@case()
def nothing_but_poison(stage: Stage) -> None:
    """5,000 dead letters in a row and nothing else: counted from 0 on, so that the alert sees them; good messages that come
    then are taken at once."""
    count = stage.of(500, 5_000, 100_000)
    messages = stage.messages()
    first = messages[0].timestamp_ms
    with stage.supervised() as worker:
        wait_until(lambda: worker.worker.get("/readyz")[0] == 200, "it is ready", 60)
        assert dead_letters(worker) == {USAGE_PINGS: 0, BILLING_EVENTS: 0}
        begun = time.monotonic()
        for topic in SOURCES:
            stage.site.send(poison(stage, topic, count, first))
        stage.settle()
        stage.counts["poison_s"] = round(time.monotonic() - begun, 1)
        assert dead_letters(worker) == {USAGE_PINGS: count, BILLING_EVENTS: count}
        assert {outcome for (_, outcome), n in worker.worker.outcomes().items() if n} == {"dead"}
        stage.site.send(messages)
        stage.check()
        assert worker.starts == 1
    stage.counts["dead"] = 2 * count


@case()
def large_payloads(stage: Stage) -> None:
    """Payloads of just 8 MiB, which are taken, and of 8 and 20 MB beyond the limit, which are dead, between good ones."""
    messages = stage.messages()
    large = topic_config(Settings(_env_file=None)) | {"max.message.bytes": str(32 * MIB)}  # type: ignore[call-arg]
    for topic in SOURCES:
        stage.kafka.configure(topic, large)
    third = len(messages) // 3
    sizes = [8 * MIB, 8 * MIB + 1, 20_000_000, 3 * MIB] * stage.of(1, 2, 10)
    heavy = [filled(one, size) for one, size in zip(documents(messages[third:]), sizes, strict=False)]
    with stage.supervised() as worker:
        stage.site.send(messages[:third])
        stage.settle()
        before = peak = rss(worker)
        with stage.load([*heavy, *messages[third:]]) as load:
            while load.running or stage.kafka.behind():
                peak = max(peak, rss(worker))
                time.sleep(0.2)
        stage.check()
        assert worker.starts == 1
    stage.counts |= {"before_mb": before // MIB, "grown_mb": (peak - before) // MIB}


@case()
def compression_bombs(stage: Stage) -> None:
    """Batches of a few hundred kB that are hundreds of MB once inflated: of many records, and of a single one."""
    messages = stage.messages()
    half = len(messages) // 2
    first = messages[0].timestamp_ms
    with stage.supervised() as worker:
        stage.site.send(messages[:half])
        stage.settle()
        before = peak = rss(worker)
        bombs = [[b" " * MIB] * stage.of(50, 200, 400), [b"\0" * (stage.of(70, 150, 300) * MIB)]]
        for number, values in enumerate(bombs):
            for topic in SOURCES:
                asyncio.run(send_packed(stage.kafka.bootstrap, topic, number, values, first))
        stage.site.send(messages[half:])
        until = time.monotonic() + 180
        while stage.kafka.behind():
            assert time.monotonic() < until and worker.starts == 1, worker.log()[-3000:]
            peak = max(peak, rss(worker))
            time.sleep(0.2)
        stage.check()
    stage.counts |= {
        "inflated_mb": 2 * sum(len(value) for values in bombs for value in values) // MIB,
        "before_mb": before // MIB,
        "grown_mb": (peak - before) // MIB,
    }


async def send_packed(bootstrap: str, topic: str, partition: int, values: Sequence[bytes], timestamp_ms: int) -> None:
    """One batch, compressed."""
    limit = 1024 * MIB
    async with AIOKafkaProducer(
        bootstrap_servers=bootstrap, acks="all", compression_type="gzip", max_request_size=limit, max_batch_size=limit
    ) as producer:
        batch = producer.create_batch()
        for value in values:
            assert batch.append(key=None, value=value, timestamp=timestamp_ms) is not None
        batch.close()
        await (await producer.send_batch(batch, topic, partition=partition))


@case()
def dead_letter_topic_deleted(stage: Stage) -> None:
    """The dead letters' topic is gone when the first letter is due: nothing is dropped, and billing goes on meanwhile."""

    def spoil(topic: str) -> None:
        stage.kafka.delete_topics([topic])

    _without_letters(stage, spoil)


@case()
def dead_letter_topic_too_small(stage: Stage) -> None:
    """The dead letters' topic takes no message of any size: nothing is dropped."""

    def spoil(topic: str) -> None:
        config = topic_config(Settings(_env_file=None))  # type: ignore[call-arg]
        stage.kafka.configure(topic, config | {"max.message.bytes": "150"})

    _without_letters(stage, spoil)


def _without_letters(stage: Stage, spoil: Callable[[str], None]) -> None:

    good = stage.messages(broken=0.0, late=0.0, future=0.0, conflicts=0.0, duplicates=0.0)
    bad = world(stage.seed + 1_000_000)
    with stage.supervised() as worker:
        stage.site.send(good)
        stage.settle()
        spoil(dead_letter_topic(USAGE_PINGS))
        with stage.load(bad) as load:  # `send` would make the topic again
            load.join()
        stage.check(seconds=180.0)
        assert worker.starts == 1, "the worker was to wait"
        assert worker.log().count(NO_LETTERS) == 1, worker.log()[-3000:]


@case(minutes=2.0)
def dead_letter_topic_refuses(stage: Stage) -> None:
    """The dead letters' topic of pings takes nothing old for a while: pings wait, more of them than there is room for, which is
    said once and counted; billing goes on meanwhile, and nothing is dropped."""
    good = stage.messages(broken=0.0, late=0.0, future=0.0, conflicts=0.0, duplicates=0.0)
    topic = dead_letter_topic(USAGE_PINGS)
    config = topic_config(Settings(_env_file=None))  # type: ignore[call-arg]
    with stage.supervised() as worker:
        stage.site.send(good)
        stage.settle()
        stage.kafka.configure(topic, config | {"message.timestamp.before.max.ms": "1000"})
        more = world(stage.seed + 1_000_000)
        stage.site.send(more)
        heavy = [one for one in documents(more) if one.topic == USAGE_PINGS][: stage.of(160, 400, 800)]
        stage.site.send([filled(one, HEAVY_BYTES) for one in heavy])
        wait_until(lambda: NO_LETTERS in worker.log(), "it is said", 60)
        wait_until(lambda: all(tp.topic != BILLING_EVENTS for tp in stage.kafka.behind()), "billing goes on", 60)
        time.sleep(stage.of(2.0, 20.0, 120.0))
        stage.site.send([one for one in world(stage.seed + 2_000_000) if one.topic == BILLING_EVENTS])
        wait_until(lambda: all(tp.topic != BILLING_EVENTS for tp in stage.kafka.behind()), "billing still goes on", 60)
        assert any(tp.topic == USAGE_PINGS for tp in stage.kafka.behind()), "nothing was waiting"
        samples = worker.worker.metrics()
        assert samples["pingstream_oldest_unflushed_seconds", ()] > 1
        stage.counts["waiting_mb"] = len(heavy) * HEAVY_BYTES // 2**20
        stage.counts["tries"] = int(samples["pingstream_sink_errors_total", (topic,)])
        assert stage.counts["tries"] >= 1 and worker.log().count(NO_LETTERS) == 1
        stage.kafka.configure(topic, config)
        stage.check(seconds=180.0)
        assert worker.starts == 1, "the worker was to wait"


def documents(messages: Sequence[Message]) -> list[Message]:
    """Those that are JSON objects."""
    found = []
    for message in messages:
        try:
            if isinstance(json.loads(message.value), dict):
                found.append(message)
        except ValueError:
            continue
    return found


def filled(message: Message, size: int) -> Message:
    """The message with so many bytes, most of them in a field that nobody reads."""
    value = message.value.rstrip()
    assert value.endswith(b"}")
    head, tail = value[:-1] + b',"filling":"', b'"}'
    return message._replace(value=head + b"x" * (size - len(head) - len(tail)) + tail)


def rss(worker: Supervisor) -> int:
    return int(psutil.Process(worker.worker.pid).memory_info().rss)
