"""A real Apache Kafka on this machine: one KRaft node, broker and controller in one Java process, on loopback."""

from __future__ import annotations

import asyncio
import base64
import errno
import fcntl
import os
import random
import shutil
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from deploy import leash
from deploy.kafka import distribution, properties

HOST = "127.0.0.1"

_START_SECONDS = 90.0

# A broker whose owner was killed a moment ago takes this long, at most, to be gone.
_PATIENCE_SECONDS = 2.0

# Below the ports that systems hand out to outgoing connections (Linux from 32768, macOS from 49152): no client takes a
# port between our choice and Java's bind, and no connection attempt to it can end up connected to itself.
_FREE_PORTS = range(20000, 32000)


class BrokerError(Exception):
    """The broker does not start, or has died. The text says why, with the end of its log."""


class PortTaken(BrokerError):
    """Something else listens on the port."""


class DataDirInUse(BrokerError):
    """Another broker runs on the data folder."""


@dataclass(frozen=True)
class Secure:
    """Listeners of a node with TLS or a login.

    Attributes:
        listeners: port by security protocol, as `{"SASL_SSL": 9093}`.
        properties: what they need, by Kafka's names; see Kafka's documentation on security.
        scram_users: as Kafka takes them, `SCRAM-SHA-512=[name=…,password=…]`; made with the node's data folder.
    """

    listeners: Mapping[str, int] = field(default_factory=dict)
    properties: Mapping[str, str | int] = field(default_factory=dict)
    scram_users: Sequence[str] = ()


class LocalBroker:
    """One Kafka node with its data in `data_dir`. What it was sent is there again after the next `start`.

    The Java process gets no Ctrl-C from the terminal, so that the owner decides the order of an end, and it dies with
    this process, however this one dies (see `deploy.leash`). It isn't bound to the thread that started it.

        with LocalBroker(Path("data"), port=0) as broker:
            producer = AIOKafkaProducer(bootstrap_servers=broker.bootstrap)

    Args:
        data_dir: folder of this node alone; made when it isn't there.
        port: where clients connect; 0 chooses a free one at the first start and keeps it.
        heap_mb: Java's largest heap in MiB; the process takes some 150 MiB more.
        max_message_bytes: largest record batch that topics take unless they say otherwise.
        secure: listeners with TLS or a login, beside the plain one.
    """

    def __init__(
        self,
        data_dir: Path,
        port: int = 9092,
        *,
        heap_mb: int = 512,
        max_message_bytes: int = 8 * 1024 * 1024,
        secure: Secure | None = None,
    ) -> None:
        self.data_dir = data_dir.absolute()
        self.port = port
        self._heap_mb = heap_mb
        self._max_message_bytes = max_message_bytes
        self._secure = secure or Secure()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def bootstrap(self) -> str:
        """`host:port` for clients. With port 0, known after the first start."""
        assert self.port, "start it first: the port is chosen then"
        return f"{HOST}:{self.port}"

    @property
    def alive(self) -> bool:
        """Whether the Java process runs."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Starts the node and returns when it answers requests, some seconds later. Does nothing when it runs.

        Raises:
            PortTaken: something else listens on the port.
            DataDirInUse: another broker runs on the data folder.
            BrokerError: Java ended by itself, or did not answer in time. Nothing is left running.
            deploy.kafka.distribution.DistributionError: Kafka's jars are not there and cannot be fetched.
        """
        if self.alive:
            return
        choose = self.port == 0
        if not choose:
            _claim(self.port, _PATIENCE_SECONDS)
        class_path = distribution.classpath()
        try:
            self._start(class_path, choose)
        except OSError as exc:
            raise BrokerError(
                f"cannot run Kafka in {self.data_dir}: {exc}; give it a folder that can be written"
            ) from exc

    def _start(self, class_path: str, choose: bool) -> None:
        self.data_dir.mkdir(parents=True, exist_ok=True)
        with _locked(self.data_dir) as lock:
            try:
                for _attempt in range(3):
                    self.kill()
                    if choose:
                        self.port = _free_port()
                    controller_port = self._configure()
                    self._format(class_path, lock)
                    self._process = self._java(
                        [*self._flags(), "-cp", class_path, "kafka.Kafka", "server.properties"], lock
                    )
                    if self._ready():
                        return
                    # Somebody may have been faster than Java. Ports that we chose we choose again.
                    end = self.log_end()
                    if f"bind to {HOST}:{self.port}:" in end and not choose:
                        raise _taken(self.port)
                    if not any(f"bind to {HOST}:{port}:" in end for port in (self.port, controller_port)):
                        break
                raise BrokerError(f"Kafka ended while it started; its log in {self.data_dir} ends with:\n{end}")
            except BaseException:
                self.kill()
                self.port = 0 if choose else self.port
                raise

    def stop(self, grace: float = 15.0) -> None:
        """Ends the node clean (SIGTERM), or with SIGKILL when it takes longer than `grace` seconds."""
        if self._process is not None:
            leash.stop(self._process, grace)
            self._process = None

    def kill(self) -> None:
        """Ends the node at once with SIGKILL, as a crash would. Its port and its folder are free on return."""
        if self._process is not None:
            leash.kill(self._process)
            self._process = None

    def log_end(self, lines: int = 20) -> str:
        """The last lines of Kafka's log and of what Java itself said, without stack traces, for an error message."""
        texts = (_tail(self.data_dir / name, lines) for name in (properties.LOG, properties.JAVA_LOG))
        return "\n".join(text for text in texts if text) or "(nothing)"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _configure(self) -> int:
        """Writes the node's settings and empties what belongs to one start only. Gives the controller's port."""
        controller_port = _free_port(besides=self.port)
        (self.data_dir / "server.properties").write_text(
            properties.server(
                self.port, controller_port, self._max_message_bytes, self._secure.listeners, self._secure.properties
            ),
            "ascii",
        )
        (self.data_dir / "log4j2.properties").write_text(properties.logging(), "ascii")
        temporary = self.data_dir / properties.TEMPORARY
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        for log in (properties.LOG, properties.JAVA_LOG):
            path = self.data_dir / log
            if path.exists():
                path.replace(path.with_name(f"{log}.previous"))
        return controller_port

    def _format(self, class_path: str, lock: IO[str]) -> None:
        """Makes the storage of a new node. It appears under its name in one step: half of one would start no broker."""
        if (self.data_dir / properties.TOPICS).exists():
            return
        unfinished = f"{properties.TOPICS}.unfinished"
        shutil.rmtree(self.data_dir / unfinished, ignore_errors=True)
        settings = (self.data_dir / "server.properties").read_text("ascii")
        (self.data_dir / "format.properties").write_text(f"{settings}log.dirs={unfinished}\n", "ascii")
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        command = ["kafka.tools.StorageTool", "format", f"--cluster-id={cluster}", "-c", "format.properties"]
        command += [f"--add-scram={user}" for user in self._secure.scram_users]
        self._process = self._java([*java_flags(self._heap_mb), "-cp", class_path, *command], lock)
        try:
            code: int | None = self._process.wait(_START_SECONDS)
        except subprocess.TimeoutExpired:
            code = None
        self.kill()
        if code != 0:
            raise BrokerError(f"Kafka's storage in {self.data_dir} cannot be formatted:\n{self.log_end()}")
        (self.data_dir / unfinished).replace(self.data_dir / properties.TOPICS)

    def _java(self, arguments: list[str], lock: IO[str]) -> subprocess.Popen[bytes]:
        """Starts Java on a leash in the data folder. The lock is handed down: it lives as long as Java does."""
        with (self.data_dir / properties.JAVA_LOG).open("ab") as log:
            return subprocess.Popen(
                leash.on_leash([str(distribution.java()), *arguments]),
                cwd=self.data_dir,
                env=_environment(),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
                pass_fds=(lock.fileno(),),
            )

    def _flags(self) -> list[str]:
        """Java's own flags for the node."""
        return java_flags(self._heap_mb)

    def _ready(self) -> bool:
        """Waits until the node answers. False when it ended instead."""
        deadline = time.monotonic() + _START_SECONDS
        with ThreadPoolExecutor(1, "kafka-ready") as thread:  # a loop of its own: the caller's thread may run one
            while self.alive:
                if _listens(self.port) and thread.submit(asyncio.run, _answers(self.bootstrap)).result():
                    return True
                if time.monotonic() > deadline:
                    raise BrokerError(
                        f"Kafka did not answer on {self.bootstrap} within {_START_SECONDS:.0f} s; its log in {self.data_dir} "
                        f"ends with:\n{self.log_end()}"
                    )
                time.sleep(0.02)
        return False


def java_flags(heap_mb: int) -> list[str]:
    """Flags for a small node that starts fast.

    Measured on two shared cores (start, 450,000 records of 500 bytes, many of them alone): without the second compiler
    and with a start-up archive the port is open after 1.1 to 1.3 s, for 9 s of CPU in all; with the second compiler
    after 1.9 to 2.1 s for 15 s of CPU, and no faster. Without the archive it is 3.1 to 4.6 s.
    """
    archive = distribution.startup_archive()
    return [
        *([f"-XX:AOTCache={archive}"] if archive.is_file() else []),
        f"-Xmx{heap_mb}m",
        "-XX:+UseSerialGC",
        "-XX:TieredStopAtLevel=1",
        "-XX:+ExitOnOutOfMemoryError",
        "-XX:-UsePerfData",  # no file in the system's temporary folder
        "-XX:ErrorFile=java-crash.log",
        "-Xlog:disable",
        "-Xlog:all=error:stderr",
        # Kafka's and its compressors' own ways, which newer Javas warn about.
        "--sun-misc-unsafe-memory-access=allow",
        "--enable-native-access=ALL-UNNAMED",
        "-Djava.awt.headless=true",
        f"-Djava.io.tmpdir={properties.TEMPORARY}",
        "-Dlog4j2.configurationFile=log4j2.properties",
        "-Dlog4j2.disableJmx=true",
    ]


def _environment() -> dict[str, str]:
    """Ours, without what would add to Java's flags and without Pingstream's settings, which hold secrets."""
    java = {"CLASSPATH", "JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS"}
    return {
        name: value for name, value in os.environ.items() if name not in java and not name.startswith("PINGSTREAM_")
    }


@contextmanager
def _locked(data_dir: Path) -> Iterator[IO[str]]:
    """Holds the data folder's lock while the node starts; Java, to which it is handed down, holds it afterwards."""
    with (data_dir / "lock").open("a+") as lock:
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    lock.seek(0)
                    raise DataDirInUse(
                        f"another Kafka broker (process {lock.read().strip() or 'unknown'}) runs on {data_dir}; use that one, "
                        "end it, or give this one another --data-dir"
                    ) from None
                time.sleep(0.05)
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        yield lock


def _claim(port: int, patience: float = 0.0) -> None:
    """Finds out whether a port can be listened on, for `patience` seconds if it is taken."""
    deadline = time.monotonic() + patience
    while True:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as Java does: closed connections don't matter
            try:
                probe.bind((HOST, port))
                return
            except OSError as exc:
                if exc.errno != errno.EADDRINUSE:
                    raise BrokerError(
                        f"cannot listen on {HOST}:{port}: {exc.strerror}; choose another --port"
                    ) from None
                if time.monotonic() > deadline:
                    raise _taken(port) from None
        time.sleep(0.05)


def _taken(port: int) -> PortTaken:
    return PortTaken(
        f"port {port} is taken on {HOST}, perhaps by a broker that runs already; choose another with --port, "
        f"as in --port {port + 1 if port < 65535 else port - 1}"
    )


def _free_port(besides: int = 0) -> int:
    for port in random.sample(_FREE_PORTS, len(_FREE_PORTS)):
        if port == besides:
            continue
        try:
            _claim(port)
        except BrokerError:
            continue
        return port
    raise BrokerError(f"no port between {_FREE_PORTS.start} and {_FREE_PORTS.stop - 1} is free")


def _listens(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        return probe.connect_ex((HOST, port)) == 0


async def _answers(bootstrap: str) -> bool:
    """Whether the node says that it is part of its own cluster: an open port alone does not."""
    from aiokafka.admin import AIOKafkaAdminClient
    from aiokafka.errors import KafkaError

    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=5000)
    try:
        await admin.start()
        cluster = await admin.describe_cluster()
    except (KafkaError, OSError):
        return False
    finally:
        await admin.close()
    return bool(cluster["brokers"])


def _tail(path: Path, lines: int) -> str:
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 64 * 1024))
        text = file.read().decode(errors="replace")
    return "\n".join([line for line in text.splitlines() if not line.startswith("\tat ")][-lines:])
