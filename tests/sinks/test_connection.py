"""The embedded engine belongs to one process; the others are let in or told what to do."""

from __future__ import annotations

import datetime as dt
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from deploy.clickhouse.door import Door
from sinks.clickhouse.connection import ConnectionFailed, EngineInUse, connect, open_engine
from sinks.clickhouse.engine_lock import EngineLock, beside, find_door, publish_door

ROOT = Path(__file__).parents[2]
UTC = dt.UTC

# Another process that runs the engine, does as its argument says, and stays until its input ends.
OWNER = """
import sys, time
from pathlib import Path
from deploy.clickhouse.door import Door
from sinks.clickhouse.connection import open_engine

path, does = Path(sys.argv[1]), sys.argv[2]
with open_engine(path) as engine:
    client = engine.client()
    client.command("CREATE TABLE IF NOT EXISTS kept (n UInt64) ENGINE = MergeTree ORDER BY n")
    if does == "insert":
        n = 0
        while True:
            client.insert("kept", [[n]], column_names=["n"])
            print(n, flush=True)
            n += 1
    client.insert("kept", [[7]], column_names=["n"])
    print("ready", flush=True)
    if does == "no door":
        sys.stdin.read()
    elif does in ("door", "late door"):
        if does == "late door":
            time.sleep(1)
        with Door(path, password="open sesame") as door:
            engine.publish_door(door.address, "open sesame")
            print("open", flush=True)
            sys.stdin.read()
"""

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "clickhouse"


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts Python code in a process of its own and waits for its first line."""
    started: list[subprocess.Popen[str]] = []

    def run(code: str, *args: object, wait_for: str | None = None, **env: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", code, *map(str, args)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=env.pop("cwd", None),
            env=os.environ | {"PYTHONPATH": str(ROOT)} | env,
        )
        started.append(process)
        if wait_for is not None:
            assert process.stdout is not None
            for line in process.stdout:
                if line.strip() == wait_for:
                    break
            else:
                pytest.fail(f"ended with {process.wait()} before it said {wait_for}")
        return process

    yield run
    for process in started:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            pipe.close()


def test_a_second_process_is_refused_at_once_and_told_how_to_share(path: Path, start: Start) -> None:
    owner = start(OWNER, path, "no door", wait_for="ready")
    begun = time.monotonic()
    with pytest.raises(EngineInUse) as refused:
        open_engine(path)
    assert time.monotonic() - begun < 1
    text = str(refused.value)
    assert str(path) in text
    assert f"process {owner.pid}" in text
    assert "`pingstream clickhouse`" in text
    assert "PINGSTREAM_CLICKHOUSE=http://127.0.0.1:8123" in text


def test_whoever_only_asks_goes_through_the_owners_door(path: Path, start: Start) -> None:
    start(OWNER, path, "door", wait_for="open")
    client = connect(f"chdb://{path}", "default")
    try:
        assert client.query("SELECT n FROM kept").result_rows == [(7,)]
    finally:
        client.close()


def test_a_door_that_is_not_open_yet_is_waited_for(path: Path, start: Start) -> None:
    start(OWNER, path, "late door", wait_for="ready")
    with pytest.raises(EngineInUse):
        connect(f"chdb://{path}")
    client = connect(f"chdb://{path}", wait=20)
    assert client.command("SELECT count() FROM kept") == 1
    client.close()


def test_without_a_door_the_wait_ends_with_the_sentence(path: Path, start: Start) -> None:
    start(OWNER, path, "no door", wait_for="ready")
    begun = time.monotonic()
    with pytest.raises(EngineInUse, match="pingstream clickhouse"):
        connect(f"chdb://{path}", wait=0.5)
    assert 0.5 <= time.monotonic() - begun < 3


def test_after_the_owner_is_killed_the_engine_opens_again_with_all_it_accepted(path: Path, start: Start) -> None:
    owner = start(OWNER, path, "insert", wait_for="5")
    assert owner.stdout is not None
    publish_door(path, "http://127.0.0.1:9", "left behind")
    time.sleep(0.3)
    owner.send_signal(signal.SIGKILL)
    accepted = int(owner.stdout.read().split()[-1])
    assert find_door(path) is None, "the door of a process that is gone is believed"
    client = connect(f"chdb://{path}")
    try:
        numbers = [row[0] for row in client.query("SELECT n FROM kept ORDER BY n").result_rows]
        # the last one may have been written and not been reported
        assert numbers in (list(range(accepted + 1)), list(range(accepted + 2)))
    finally:
        client.close()


def test_a_door_left_behind_does_not_send_anybody_to_the_wrong_place(path: Path, start: Start) -> None:
    path.parent.mkdir(parents=True)
    publish_door(path, "http://127.0.0.1:9", "of a process that is gone")
    start(OWNER, path, "no door", wait_for="ready")
    with pytest.raises(EngineInUse):
        connect(f"chdb://{path}")


def test_of_processes_that_race_exactly_one_gets_the_engine(path: Path, start: Start) -> None:
    code = """
import sys
from pathlib import Path
from sinks.clickhouse.connection import EngineInUse, open_engine
print("here", flush=True)
sys.stdin.readline()
try:
    engine = open_engine(Path(sys.argv[1]))
except EngineInUse:
    print("refused", flush=True)
else:
    print("got it", flush=True)
    sys.stdin.read()
"""
    racers = [start(code, path, wait_for="here") for _ in range(4)]
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    said = [racer.stdout.readline().strip() for racer in racers if racer.stdout is not None]
    assert sorted(said) == ["got it", "refused", "refused", "refused"]


def test_closing_the_last_client_lets_go_of_the_engine(path: Path, start: Start) -> None:
    client = connect(f"chdb://{path}")
    client.close()
    client.close()
    start(OWNER, path, "no door", wait_for="ready")


def test_the_lock_goes_with_the_last_share(path: Path) -> None:
    first, second = open_engine(path), open_engine(path)
    other = EngineLock(path)
    first.close()
    first.close()
    with pytest.raises(EngineInUse, match=f"process {os.getpid()}"):
        other.acquire()
    assert second.client().command("SELECT 1") == 1
    second.close()
    other.acquire()
    other.release()


def test_a_worker_waits_for_a_command_that_holds_the_engine_for_a_moment(path: Path, start: Start) -> None:
    code = """
import sys, time
from sinks.clickhouse.connection import connect
client = connect("chdb://" + sys.argv[1])
print("ready", flush=True)
time.sleep(1)
client.close()
"""
    start(code, path, wait_for="ready")
    with open_engine(path) as engine:
        assert engine.client().command("SELECT 1") == 1


def test_one_folder_has_one_lock_whatever_it_is_called(path: Path, tmp_path: Path, start: Start) -> None:
    start(OWNER, path, "no door", wait_for="ready")
    (tmp_path / "link").symlink_to(path.parent)
    with pytest.raises(EngineInUse):
        open_engine(tmp_path / "link" / "." / "clickhouse")


def test_a_path_with_blanks_and_umlauts(tmp_path: Path) -> None:
    client = connect(f"chdb://{tmp_path}/my däta/clickhouse")
    assert client.command("SELECT 1") == 1
    client.close()


def test_the_password_in_the_door_file_is_its_users_own_and_goes_with_the_engine(path: Path) -> None:
    with open_engine(path) as engine:
        engine.publish_door("http://127.0.0.1:1", "secret")
        file = beside(path, ".door")
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        door = find_door(path)
        assert door is not None
        assert (door.address, door.password) == ("http://127.0.0.1:1", "secret")
        assert "secret" not in repr(door)
    assert not file.exists()
    assert [entry.name for entry in path.parent.iterdir() if entry.name.startswith("clickhouse.door")] == []


def test_a_process_has_one_engine_and_says_so(path: Path, tmp_path: Path) -> None:
    with open_engine(path), pytest.raises(ConnectionFailed, match="runs in this process"):
        open_engine(tmp_path / "other")
    with open_engine(tmp_path / "other") as engine:
        assert engine.client().command("SELECT 1") == 1


def test_handles_work_side_by_side(path: Path) -> None:
    with open_engine(path) as engine:
        reading, writing = engine.client(), engine.client()
        writing.command("CREATE TABLE t (n UInt64) ENGINE = MergeTree ORDER BY n")
        slow = threading.Thread(
            target=reading.query,
            args=("SELECT sum(sleepEachRow(0.1)) FROM numbers(20) SETTINGS max_block_size = 1",),
        )
        slow.start()
        for n in range(10):
            writing.insert("t", [[n]], column_names=["n"])
        assert slow.is_alive(), "ten inserts waited for a query on another handle"
        slow.join()
        assert writing.command("SELECT count() FROM t") == 10


def test_the_engine_is_small_and_writes_no_logs(path: Path) -> None:
    with open_engine(path) as engine:
        client = engine.client()
        found = client.query(
            "SELECT name, value FROM system.server_settings WHERE name IN ('background_pool_size', 'mark_cache_size')"
        )
        assert dict(found.result_rows) == {"background_pool_size": "2", "mark_cache_size": str(64 << 20)}
        client.command("SYSTEM FLUSH LOGS")
        stored = client.query(
            "SELECT name FROM system.tables WHERE database = 'system' AND name LIKE '%_log' AND engine LIKE '%MergeTree'"
        )
        assert stored.result_rows == []


ZONE = """
import datetime as dt, os, sys
from sinks.clickhouse.connection import connect

client = connect(sys.argv[1])
client.command("DROP TABLE IF EXISTS zone")
client.command(
    "CREATE TABLE zone (a UInt8, plain DateTime, fine DateTime64(6), named DateTime64(3, 'UTC')) "
    "ENGINE = MergeTree ORDER BY a PARTITION BY toYYYYMMDD(plain)"
)
naive = dt.datetime(2026, 11, 20, 1, 30)
aware = naive.replace(tzinfo=dt.timezone.utc)
for a, value in ((1, naive), (2, aware)):
    client.insert("zone", [[a, value, value, value]], column_names=["a", "plain", "fine", "named"])
client.command("INSERT INTO zone VALUES (3, '2026-11-20 01:30:00', '2026-11-20 01:30:00', '2026-11-20 01:30:00')")
client.command("OPTIMIZE TABLE zone FINAL")
print(client.query("SELECT DISTINCT plain, fine, named, toUnixTimestamp(plain), timezone() FROM zone").result_rows)
print(client.query("SELECT DISTINCT partition FROM system.parts WHERE table = 'zone' AND active").result_rows)
print(os.environ["TZ"], dt.datetime.fromtimestamp(0).hour)
client.close()
"""
IN_UTC = (
    "[(datetime.datetime(2026, 11, 20, 1, 30), datetime.datetime(2026, 11, 20, 1, 30), "
    "datetime.datetime(2026, 11, 20, 1, 30), 1795138200, 'UTC')]\n[('20261120',)]\nAmerica/New_York 19\n"
)


@pytest.mark.parametrize("through", ["engine", "door"])
def test_nothing_depends_on_the_machines_time_zone(path: Path, start: Start, through: str) -> None:
    if through == "engine":
        process = start(ZONE, f"chdb://{path}", TZ="America/New_York")
        assert process.communicate(timeout=60)[0] == IN_UTC
        return
    with Door(path, password="x") as door:
        dsn = door.address.replace("://", "://default:x@")
        process = start(ZONE, dsn, TZ="America/New_York")
        assert process.communicate(timeout=60)[0] == IN_UTC


def test_nothing_is_left_in_the_current_folder(path: Path, tmp_path: Path, start: Start) -> None:
    cwd = tmp_path / "cwd"
    cwd.mkdir()
    owner = start(OWNER, path, "door", wait_for="open", cwd=str(cwd))
    owner.communicate("", timeout=30)
    assert owner.returncode == 0
    assert list(cwd.iterdir()) == []
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["clickhouse", "clickhouse.lock"]


def test_a_server_that_does_not_answer_is_named_without_the_password() -> None:
    with pytest.raises(ConnectionFailed) as failed:
        connect("http://someone:hidden@127.0.0.1:1/default")
    assert "http://127.0.0.1:1" in str(failed.value)
    assert "PINGSTREAM_CLICKHOUSE" in str(failed.value)
    assert "hidden" not in str(failed.value)


def test_a_wrong_password_is_said_to_be_one(path: Path) -> None:
    with Door(path, password="right") as door:
        with pytest.raises(ConnectionFailed, match="refuses this user name and password") as failed:
            connect(door.address.replace("://", "://default:wrong@"))
        assert "wrong" not in str(failed.value).replace("password", "")
        client = connect(door.address.replace("://", "://default:right@"))
        assert client.command("SELECT 1") == 1
        client.close()


def test_a_client_over_http_serves_several_threads(path: Path) -> None:
    with Door(path) as door:
        client = connect(door.address, "default")
        answers: list[object] = []
        threads = [
            threading.Thread(target=lambda: answers.append(client.command("SELECT sum(number) FROM numbers(1000000)")))
            for _ in range(6)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        client.close()
        assert answers == [499999500000] * 6


def test_a_proxy_of_the_environment_is_not_asked_for_this_machine(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with Door(path) as door:
        client = connect(door.address)
        assert client.command("SELECT 1") == 1
        client.close()
