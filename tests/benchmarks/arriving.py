"""Pings that arrive while a worker runs: how they are sent evenly, how a worker is started for them, and how many there may be."""

from __future__ import annotations

import asyncio
import datetime as dt
import multiprocessing
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from aiokafka import AIOKafkaProducer

from deploy.message import Message
from streams.forwarder import partition_of
from streams.ledger.records import DAY_MS
from tests.benchmarks.drain import drain, say
from tests.benchmarks.shapes import DAYS
from tests.running import Site, WorkerProcess, new_site

PARTITIONS = 4
TICK = 0.01
"""Seconds between two handfuls of pings."""


@contextmanager
def new_place() -> Iterator[Site]:
    """A broker and a folder that go when it is left."""
    with tempfile.TemporaryDirectory(prefix="pingstream-bench-") as name, new_site(Path(name)) as site:
        yield site


class Sent(NamedTuple):
    """A ping: the installation, its moment (ms since 1970), and when Kafka acknowledged it, by the monotonic clock."""

    scope: str
    moment: int
    acknowledged: float


def sent_at(message: Message, acknowledged: float) -> Sent:
    uuid = (message.key or b"").decode()
    return Sent(f"{uuid}@gitlab.{uuid}.example", message.timestamp_ms, acknowledged)


def moved(message: Message, to: int, uuid: bytes = b"") -> Message:
    """The same ping with another moment (ms since 1970), what it tells of its day and the day before moved as well; under another
    name, if there is one."""
    value = message.value
    for back in (0, 1):
        value = value.replace(_date(message.timestamp_ms - back * DAY_MS), b"day %d" % back)
    for back in (0, 1):
        value = value.replace(b"day %d" % back, _date(to - back * DAY_MS))
    before, told = value.split(b'"recorded_at":"', 1)
    time_of_day = dt.datetime.fromtimestamp(to / 1000, dt.UTC).strftime("T%H:%M:%SZ").encode()
    value = before + b'"recorded_at":"' + _date(to) + time_of_day + told[told.index(b'"') :]
    if uuid:
        value = value.replace(message.key or b"", uuid)
    return Message(message.topic, uuid or message.key, value, to)


def _date(moment: int) -> bytes:
    return dt.datetime.fromtimestamp(moment / 1000, dt.UTC).date().isoformat().encode()


def send_evenly(bootstrap: str, pings: Sequence[Message], rate: float) -> list[Sent]:
    """Sends so many a second. In a process of its own."""
    return asyncio.run(_send_evenly(bootstrap, pings, rate))


async def _send_evenly(bootstrap: str, pings: Sequence[Message], rate: float) -> list[Sent]:
    sent: list[Sent] = []
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", max_batch_size=256 * 1024) as producer:
        begun = time.monotonic()
        waiting: set[asyncio.Future[object]] = set()
        for at, message in enumerate(pings):
            ahead = at / rate - (time.monotonic() - begun)
            if ahead > 0:
                await asyncio.sleep(max(ahead, TICK))
            acknowledged = await producer.send(
                message.topic,
                message.value,
                message.key,
                partition_of(message.key or b"", PARTITIONS),
                message.timestamp_ms,
            )
            waiting.add(acknowledged)

            def note(done: asyncio.Future[object], message: Message = message) -> None:
                waiting.discard(done)
                sent.append(sent_at(message, time.monotonic()))

            acknowledged.add_done_callback(note)
        if waiting:
            await asyncio.wait(waiting)
    return sent


def endless(installations: int) -> Iterator[int]:
    """Numbers of pings: all installations in another order each round, with other pings than before."""
    rng = np.random.default_rng(1)
    turn = 0
    while True:
        yield from (turn % DAYS * installations + rng.permutation(installations)).tolist()
        turn += 1


@contextmanager
def sender() -> Iterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        yield pool


def by_default(site: Site, *program: str, **settings: str) -> WorkerProcess:
    """Starts a worker that flushes as often as it does by itself, which those of the tests do not."""
    arguments = [one for one in site.worker_arguments(**settings) if not one.startswith("--flush-seconds")]
    return WorkerProcess(arguments, site.folder, site.folder / "worker.log", program or ("-m", "deploy.cli.main"))


def limit(pings: Sequence[Message]) -> float:
    """Pings a second of wall time that a worker drains from a full topic."""
    with new_place() as site:
        say("a worker with nothing to do, for comparison")
        drain(site)  # makes the schema
        idle = drain(site)
        site.send(pings)
        say(f"the limit: draining {len(pings):,} pings")
        return len(pings) / (drain(site).wall - idle.wall)
