"""The local Kafka: it keeps what it was sent, says what is wrong, and leaves nothing running behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import InvalidTimestampError, KafkaError, MessageSizeTooLargeError

from deploy.kafka import broker as broker_module
from deploy.kafka import distribution, startup
from deploy.kafka.broker import BrokerError, DataDirInUse, LocalBroker, PortTaken, java_flags

pytestmark = [pytest.mark.broker, pytest.mark.timeout(120)]

MS = 1000
DAY_MS = 86_400_000


async def create(bootstrap: str, topic: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(topic, num_partitions=1, replication_factor=1)])
    finally:
        await admin.close()


async def send(bootstrap: str, topic: str, *values: bytes, timestamp_ms: int | None = None) -> None:
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, max_request_size=2**25) as producer:
        for value in values:
            await producer.send_and_wait(topic, value, timestamp_ms=timestamp_ms)


async def read(bootstrap: str, topic: str) -> list[tuple[int, bytes]]:
    """(timestamp, value) of all records of the topic's only partition."""
    partition = TopicPartition(topic, 0)
    async with AIOKafkaConsumer(bootstrap_servers=bootstrap, max_partition_fetch_bytes=2**25) as consumer:
        consumer.assign([partition])
        await consumer.seek_to_beginning(partition)
        end = (await consumer.end_offsets([partition]))[partition]
        records: list[tuple[int, bytes]] = []
        while await consumer.position(partition) < end:
            batch = await consumer.getmany(timeout_ms=1000)
            records += [(record.timestamp, record.value) for part in batch.values() for record in part]
        return records


def free_port() -> int:
    return broker_module._free_port()


def eventually(condition: Callable[[], bool], seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def java_of(process: int) -> psutil.Process:
    found = [child for child in psutil.Process(process).children(recursive=True) if "java" in child.name()]
    assert len(found) == 1, found
    return found[0]


def leash_of(node: LocalBroker) -> int:
    assert node._process is not None
    return node._process.pid


def gone(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


async def test_what_is_sent_is_read_with_old_and_coming_timestamps(broker: LocalBroker) -> None:
    await create(broker.bootstrap, "timestamps")
    history = 1_546_300_800 * MS  # 2019-01-01
    tomorrow = int(time.time() * MS) + DAY_MS

    await send(broker.bootstrap, "timestamps", b"history", timestamp_ms=history)
    await send(broker.bootstrap, "timestamps", b"tomorrow", timestamp_ms=tomorrow)
    with pytest.raises(InvalidTimestampError):
        await send(broker.bootstrap, "timestamps", b"never", timestamp_ms=tomorrow + 2 * DAY_MS)

    assert await read(broker.bootstrap, "timestamps") == [(history, b"history"), (tomorrow, b"tomorrow")]


async def test_nothing_is_deleted_by_age_or_size(broker: LocalBroker) -> None:
    await create(broker.bootstrap, "configured")
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap)
    await admin.start()
    try:
        [answer] = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, "configured")])
    finally:
        await admin.close()
    config = {entry[0]: entry[1] for entry in answer.resources[0][4]}

    assert config["cleanup.policy"] == "delete"
    assert config["retention.ms"] == "-1"
    assert config["retention.bytes"] == "-1"
    assert config["message.timestamp.before.max.ms"] == str(2**63 - 1)
    assert config["message.timestamp.after.max.ms"] == str(2 * DAY_MS)
    assert config["max.message.bytes"] == str(8 * 1024 * 1024)


async def test_large_messages_pass_up_to_the_limit(broker: LocalBroker) -> None:
    await create(broker.bootstrap, "large")
    large = b"x" * (8 * 1024 * 1024 - 1024)

    await send(broker.bootstrap, "large", large)
    with pytest.raises(MessageSizeTooLargeError):
        await send(broker.bootstrap, "large", large + b"x" * 1024)

    assert [value for _, value in await read(broker.bootstrap, "large")] == [large]


async def test_a_group_reads_without_waiting_for_more_members(broker: LocalBroker) -> None:
    await create(broker.bootstrap, "grouped")
    await send(broker.bootstrap, "grouped", b"value")
    options = {"bootstrap_servers": broker.bootstrap, "auto_offset_reset": "earliest"}
    # The first group of all waits until Kafka has made the topic that holds offsets.
    async with AIOKafkaConsumer("grouped", group_id="first", **options) as consumer:
        await consumer.getone()

    started = time.monotonic()
    async with AIOKafkaConsumer("grouped", group_id="second", **options) as consumer:
        assert (await consumer.getone()).value == b"value"
        await consumer.commit()
    assert time.monotonic() - started < 2.5, "Kafka's default is to wait for three seconds"


async def test_topics_are_not_made_by_a_typing_error(broker: LocalBroker) -> None:
    async with AIOKafkaProducer(bootstrap_servers=broker.bootstrap, request_timeout_ms=1000) as producer:
        with pytest.raises(KafkaError):
            await producer.send_and_wait("usage-pigns", b"value")
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap)
    await admin.start()
    try:
        assert "usage-pigns" not in await admin.list_topics()
    finally:
        await admin.close()


async def test_data_survives_a_restart_and_a_crash(tmp_path: Path) -> None:
    # A folder that Java's property files would stumble over: a comma, a blank, not Latin-1.
    node = LocalBroker(tmp_path / "data, größer ≥ 1", port=0)
    try:
        node.start()
        bootstrap = node.bootstrap
        await create(bootstrap, "kept")
        await send(bootstrap, "kept", b"1", b"2", timestamp_ms=1_546_300_800 * MS)
        node.stop()
        assert not node.alive

        node.start()
        assert node.bootstrap == bootstrap, "clients find it where it was"
        await send(bootstrap, "kept", b"3")
        java = java_of(leash_of(node))
        node.kill()
        assert gone(java)
        assert not node.alive

        node.start()
        assert [value for _, value in await read(bootstrap, "kept")] == [b"1", b"2", b"3"]
    finally:
        node.stop()
    assert sorted(path.name for path in (node.data_dir / "tmp").iterdir()) == []


async def test_one_data_folder_has_one_broker(broker: LocalBroker) -> None:
    second = LocalBroker(broker.data_dir, port=0)
    with pytest.raises(DataDirInUse, match=f"process {os.getpid()}.*--data-dir"):
        second.start()
    assert not second.alive
    assert broker.alive
    await create(broker.bootstrap, "still-answers")


def test_a_taken_port_is_named_and_nothing_is_left(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        node = LocalBroker(tmp_path / "data", port=port)
        with pytest.raises(PortTaken, match=rf"port {port} is taken .*--port"):
            node.start()
    assert not node.alive
    assert not (tmp_path / "data").exists()


def test_a_broker_that_cannot_start_says_why(tmp_path: Path) -> None:
    (tmp_path / "topics").mkdir()
    (tmp_path / "topics" / "meta.properties").write_text("version=1\nnode.id=7\ncluster.id=elsewhere\n")
    node = LocalBroker(tmp_path, port=0)
    with pytest.raises(BrokerError, match=r"(?s)Kafka ended while it started.*node id.*7"):
        node.start()
    assert not node.alive


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    node = LocalBroker(tmp_path / "file" / "data", port=0)
    with pytest.raises(BrokerError, match=r"cannot run Kafka in .*file"):
        node.start()


@pytest.mark.parametrize("heap_mb", [256, 4096])
def test_java_takes_the_startup_archive(heap_mb: int) -> None:
    startup.ensure()
    command = [
        str(distribution.java()),
        *java_flags(heap_mb),
        "-XX:AOTMode=on",
        "-cp",
        distribution.classpath(),
        "-version",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert any(word.startswith("-XX:AOTCache=") for word in command)


class Command:
    """`pingstream broker` as a process of its own session, as in a terminal."""

    def __init__(self, folder: Path, port: int, data_dir: str = "data") -> None:
        self.log = folder / f"{time.monotonic_ns()}.log"
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PINGSTREAM_")}
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [Path(sys.executable).with_name("pingstream"), "broker", "--port", str(port), "--data-dir", data_dir],
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )

    @property
    def said(self) -> str:
        return self.log.read_text()

    def wait_until_ready(self) -> None:
        assert eventually(lambda: "ready on" in self.said or self.process.poll() is not None, 60), self.said
        assert "ready on" in self.said, self.said

    def end(self, seconds: float = 15.0) -> int:
        """The exit code; standard output must have carried nothing."""
        out, _ = self.process.communicate(timeout=seconds)
        assert out == b""
        return self.process.returncode

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()


@pytest.fixture
def commands(tmp_path: Path) -> Iterator[Callable[..., Command]]:
    """Starts commands in `tmp_path` and ends what is left of them."""
    started: list[Command] = []

    def start(port: int, data_dir: str = "data") -> Command:
        started.append(Command(tmp_path, port, data_dir))
        return started[-1]

    yield start
    for command in started:
        command.close()


def test_command_says_ready_and_ends_clean_on_sigterm(commands: Callable[..., Command], tmp_path: Path) -> None:
    port = free_port()
    command = commands(port)
    command.wait_until_ready()
    assert f"export PINGSTREAM_KAFKA=127.0.0.1:{port}\n" in command.said
    assert (tmp_path / "data" / "kafka" / "topics").is_dir()
    java = java_of(command.process.pid)

    same_port = commands(port, "elsewhere")
    assert same_port.end() == 2
    assert f"port {port} is taken" in same_port.said
    assert "--port" in same_port.said

    same_folder = commands(free_port())
    assert same_folder.end() == 2
    assert f"process {command.process.pid}" in same_folder.said
    assert "--data-dir" in same_folder.said

    command.process.terminate()
    assert command.end() == 0
    assert gone(java)
    assert "Traceback" not in command.said


def test_command_killed_leaves_no_java_and_starts_again_at_once(commands: Callable[..., Command]) -> None:
    port = free_port()
    command = commands(port)
    command.wait_until_ready()
    java = java_of(command.process.pid)
    command.process.kill()
    again = commands(port)
    assert eventually(lambda: gone(java), 5)
    again.wait_until_ready()

    # Ctrl-C goes to the terminal's foreground group, in which Java isn't: its owner decides when it ends.
    assert os.getpgid(java_of(again.process.pid).pid) != os.getpgid(again.process.pid)
    os.killpg(again.process.pid, signal.SIGINT)
    assert again.end() == 0
    assert "Traceback" not in again.said


def test_command_ends_with_1_and_the_log_when_java_dies(commands: Callable[..., Command]) -> None:
    command = commands(free_port())
    command.wait_until_ready()
    java_of(command.process.pid).kill()
    assert command.end() == 1
    assert "Kafka ended by itself" in command.said
    assert "Kafka Server started" in command.said, "the end of its log"


def test_command_interrupted_while_it_starts_leaves_nothing(commands: Callable[..., Command]) -> None:
    command = commands(free_port())
    assert eventually(lambda: len(psutil.Process(command.process.pid).children(recursive=True)) == 2)
    java = java_of(command.process.pid)
    os.killpg(command.process.pid, signal.SIGINT)
    assert command.end() == 0
    assert gone(java)
    assert "ready on" not in command.said
