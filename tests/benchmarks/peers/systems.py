"""What a system is to the benchmark, what it is given, and what it took."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.structs import TopicPartition

from deploy.kafka import distribution
from deploy.kafka.broker import LocalBroker
from sinks.topics import USAGE_PINGS
from tests.benchmarks.drain import topic_bytes
from tests.benchmarks.peers.jobs import MAU, Figures, Job, Wrong
from tests.benchmarks.shapes import DAYS, FIRST_DAY
from tests.running import Site, environment

LIMIT_SECONDS = 900
_LOOK_SECONDS = 0.05


class Skipped(Exception):
    """A system cannot run here; the sentence says why and what would help."""


class Failed(Exception):
    """A system's process ended badly; the text is the end of its log."""


@dataclass(frozen=True)
class Task:
    """One run of one system.

    Attributes:
        broker: its topic `usage-pings` is full; nothing of this system is on it.
        folder: empty, for whatever the system keeps on disk.
    """

    job: Job
    broker: LocalBroker
    folder: Path

    @property
    def site(self) -> Site:
        return Site(self.folder, self.broker)

    def told(self, results: str) -> dict[str, object]:
        """What a peer's process is told. More than ours: which stages, features and days there will be, and how many pings."""
        return {
            "kafka": self.broker.bootstrap,
            "topic": USAGE_PINGS,
            "pings": self.job.pings,
            "ends": asyncio.run(_ends(self.broker.bootstrap, USAGE_PINGS)),
            "stages": self.job.shape.stages,
            "features": self.job.columns[1 + self.job.shape.stages :],
            "first_day": FIRST_DAY.isoformat(),
            "days": DAYS,
            "folder": str(self.folder),
            "results": results,
        }

    def file(self, **more: object) -> Path:
        """A file with `told` and more."""
        path = self.folder / "task.json"
        path.write_text(json.dumps(self.told(str(more.pop("results"))) | more))
        return path


@dataclass(frozen=True)
class Spent:
    """What a process and its children took, from its start to its end: seconds of wall and CPU time, bytes at the peak, and
    seconds until the first result could be read."""

    wall: float
    cpu: float
    memory: int
    first: float


class System(ABC):
    """Something that does the job.

    Attributes:
        name: as `--systems` takes it.
        windows: those of `jobs.WINDOWS` of which it makes figures.
    """

    name: str
    windows: Sequence[int] = (MAU,)

    @abstractmethod
    def prepare(self) -> None:
        """Makes sure that it can run; what it needs is fetched or built once, and kept in `cache`.

        Raises:
            Skipped: it cannot.
        """

    @abstractmethod
    def run(self, task: Task) -> Spent:
        """Does the job in a process of its own, from start to end.

        Raises:
            Failed: it did not.
        """

    @abstractmethod
    def figures(self, task: Task) -> list[Figures]:
        """What it has found, one for each of `windows`; nothing of this is measured."""


def cache(name: str) -> Path:
    """A folder that outlives the benchmark, beside that of Kafka's jars."""
    folder = distribution.cache_folder().parent / "peers" / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def measured(command: Sequence[str], task: Task, there: Callable[[], bool]) -> Spent:
    """Runs a command to its end, and looks meanwhile for its first result.

    Raises:
        Failed: it ended with another code than 0, or there was no result.
    """
    log = task.folder / "process.log"
    launcher = Path(__file__).with_name("launcher.py")
    first = None
    with subprocess.Popen(
        [sys.executable, "-S", str(launcher), str(LIMIT_SECONDS), str(log), *command],
        cwd=task.folder, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdin is not None and process.stdout is not None
        try:
            while process.poll() is None:
                if first is None and there():
                    first = time.monotonic()
                time.sleep(_LOOK_SECONDS)
        finally:
            process.stdin.close()  # ends the command, if it still runs
        said: Mapping[str, float] = json.loads(process.stdout.read() or '{"code": 1}')
    if said["code"]:
        raise Failed(f"it ended with {said['code']:.0f}:\n{log.read_text(errors='replace')[-4000:]}")
    if first is None and not there():
        raise Failed(f"it ended well and has made nothing:\n{log.read_text(errors='replace')[-4000:]}")
    wall = said["wall"]
    return Spent(wall, said["cpu"], int(said["memory"]), wall if first is None else min(wall, first - said["begun"]))


class ResultTopic:
    """Where a stream processor puts its figures: a record for each installation and day whose figures are new.

    Key: the installation's `uuid`. Value: little-endian 32-bit numbers, the day's number and its figures in the order of
    `Job.columns`. The last record of an installation and day stands.
    """

    def __init__(self, name: str, task: Task) -> None:
        self.name = name
        self._task = task
        asyncio.run(_create(task.broker.bootstrap, name))

    def there(self) -> bool:
        """Whether there is any record."""
        return topic_bytes(self._task.broker, self.name) > 0

    def figures(self) -> Figures:
        """What stands.

        Raises:
            Wrong: a record is not one of figures.
        """
        records = self._task.site.read(self.name)
        return figures_of_records(self._task.job, [(record.key or b"", record.value or b"") for record in records])


def figures_of_records(job: Job, records: Sequence[tuple[bytes, bytes]]) -> Figures:
    """Figures from (key, value) of a result topic, those of one key in their order.

    Raises:
        Wrong: a record is not one of figures.
    """
    size = 4 * (1 + len(job.columns))
    if any(len(value) != size for _, value in records):
        raise Wrong(f"a record of the result topic has not {size} bytes")
    values = np.frombuffer(b"".join(value for _, value in records), "<i4").reshape(len(records), -1)
    numbers = np.array([int(key.rsplit(b"-", 1)[-1]) for key, _ in records], np.int64)
    found = np.zeros((job.installations, DAYS, len(job.columns)), np.int32)
    if np.any((numbers >= job.installations) | (values[:, 0] < 0) | (values[:, 0] >= DAYS)):
        raise Wrong("a record of the result topic is of nobody, or of no day")
    found[numbers, values[:, 0]] = values[:, 1:]  # where a place comes again, the last one stands
    return found


async def _create(bootstrap: str, topic: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(topic, num_partitions=4, replication_factor=1)])
    finally:
        await admin.close()


async def _ends(bootstrap: str, topic: str) -> dict[int, int]:
    """The end of each partition of a topic."""
    async with AIOKafkaConsumer(bootstrap_servers=bootstrap) as consumer:
        partitions = [TopicPartition(topic, number) for number in range(4)]
        return {one.partition: end for one, end in (await consumer.end_offsets(partitions)).items()}
