"""Kafka's jars: only what `jars.lock` names, only as it was, from wherever the user's jgo is told to look."""

from __future__ import annotations

import functools
import hashlib
import os
import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from deploy.kafka import distribution
from deploy.kafka.distribution import DistributionError

CONTENTS = {"one-1.0.jar": b"first" * 1000, "two-2.5.jar": b"second" * 1000}


class Mirror:
    """A Maven repository on loopback that counts what it is asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked: list[str] = []
        mirror = self

        class Handler(SimpleHTTPRequestHandler):
            def log_message(self, format: str, *args: object) -> None:
                if self.path.endswith(".jar"):
                    mirror.asked.append(self.path.rsplit("/", 1)[1])

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder)))
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}"


def put(repository: Path, name: str, content: bytes) -> None:
    artifact, release = name.removesuffix(".jar").split("-")
    path = repository / "org" / "example" / artifact / release / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    """Two small jars in a lock of their own, an empty cache, and a mirror that jgo's configuration names."""
    lock = tmp_path / "jars.lock"
    lines = ["# a comment"]
    for name, content in CONTENTS.items():
        put(tmp_path / "mirror", name, content)
        artifact, release = name.removesuffix(".jar").split("-")
        lines.append(f"{hashlib.sha256(content).hexdigest()}  org.example:{artifact}:{release}")
    lock.write_text("\n".join(lines) + "\n")
    mirror = Mirror(tmp_path / "mirror")
    (tmp_path / "jgo.conf").write_text(f"[repositories]\ncentral = {mirror.url}\n")
    monkeypatch.setattr(distribution, "LOCK", lock)
    monkeypatch.setattr(distribution, "_ATTEMPTS", 2)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("M2_REPO", str(tmp_path / "m2"))
    monkeypatch.setenv("JGO_CONFIG_FILE", str(tmp_path / "jgo.conf"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield mirror
    mirror.server.shutdown()
    mirror.server.server_close()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def test_jars_come_from_the_configured_mirror_once(mirror: Mirror, capsys: pytest.CaptureFixture[str]) -> None:
    folder = distribution.ensure()

    assert {name: (folder / name).read_bytes() for name in names(folder)} == CONTENTS
    assert sorted(mirror.asked) == sorted(CONTENTS)
    captured = capsys.readouterr()
    assert "fetching 2 jars" in captured.err
    assert captured.out == ""

    assert distribution.ensure() == folder
    assert sorted(mirror.asked) == sorted(CONTENTS)
    assert capsys.readouterr().err == "", "progress is for fetching only"


def test_only_locked_jars_are_on_the_class_path(mirror: Mirror) -> None:
    folder = distribution.ensure()
    (folder / "intruder-1.0.jar").write_bytes(b"anything")

    assert distribution.classpath().split(os.pathsep) == [str(folder / name) for name in CONTENTS]


@pytest.mark.parametrize("damage", ["flipped", "cut", "gone"])
def test_a_damaged_jar_is_found_and_fetched_again(mirror: Mirror, damage: str) -> None:
    folder = distribution.ensure()
    jar = folder / "two-2.5.jar"
    archive = distribution.startup_archive()
    archive.write_bytes(b"made from the jars as they were")
    if damage == "flipped":  # the same size and a time of no interest
        stat = jar.stat()
        content = bytearray(jar.read_bytes())
        content[100] ^= 1
        jar.write_bytes(content)
        os.utime(jar, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    elif damage == "cut":
        jar.write_bytes(jar.read_bytes()[:-1])
    else:
        jar.unlink()
    mirror.asked.clear()

    distribution.ensure()

    assert jar.read_bytes() == CONTENTS["two-2.5.jar"]
    assert mirror.asked == ["two-2.5.jar"], "the jar that is whole stays"
    assert not archive.exists()


def test_a_jar_of_another_hash_is_refused_and_not_kept(mirror: Mirror) -> None:
    put(mirror.folder, "two-2.5.jar", b"not what was locked")

    with pytest.raises(DistributionError, match=r"cannot get org\.example:two:2\.5: its SHA-256 is [0-9a-f]{64}"):
        distribution.ensure()

    folder = distribution.cache_folder()
    assert not (folder / "two-2.5.jar").exists()
    assert not (folder / ".fetching").exists()


def test_no_connection_is_said_with_what_to_do(mirror: Mirror) -> None:
    mirror.server.shutdown()
    mirror.server.server_close()

    with pytest.raises(DistributionError, match=r"org\.example.*Maven Central.*python -m deploy\.kafka\.distribution"):
        distribution.ensure()


def test_the_users_maven_repository_is_used_and_not_written_to(mirror: Mirror, tmp_path: Path) -> None:
    put(tmp_path / "m2", "one-1.0.jar", CONTENTS["one-1.0.jar"])
    put(tmp_path / "m2", "two-2.5.jar", b"damaged")

    folder = distribution.ensure()

    assert {name: (folder / name).read_bytes() for name in names(folder)} == CONTENTS
    assert mirror.asked == ["two-2.5.jar"]
    assert (tmp_path / "m2/org/example/two/2.5/two-2.5.jar").read_bytes() == b"damaged"


def test_several_at_once_fetch_once(mirror: Mirror) -> None:
    with ThreadPoolExecutor(4) as pool:
        folders = {future.result() for future in [pool.submit(distribution.ensure) for _ in range(4)]}

    assert len(folders) == 1
    assert sorted(mirror.asked) == sorted(CONTENTS)


def test_what_a_killed_fetch_left_is_cleared(mirror: Mirror) -> None:
    leftover = distribution.cache_folder() / ".fetching" / "0-one-1.0.jar"
    leftover.mkdir(parents=True)

    folder = distribution.ensure()

    assert {name: (folder / name).read_bytes() for name in names(folder)} == CONTENTS
    assert not leftover.exists()


def test_a_cache_that_cannot_be_written_is_said(
    mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))

    with pytest.raises(DistributionError, match="XDG_CACHE_HOME"):
        distribution.ensure()


def test_the_committed_lock_is_kafka_with_one_hash_a_jar() -> None:
    jars = distribution.manifest()

    assert all(re.fullmatch(r"[0-9a-f]{64}", jar.sha256) for jar in jars)
    assert len({jar.file for jar in jars}) == len(jars)
    assert f"kafka_2.13-{distribution.KAFKA}.jar" in {jar.file for jar in jars}
    assert f"kafka-clients-{distribution.KAFKA}.jar" in {jar.file for jar in jars}
