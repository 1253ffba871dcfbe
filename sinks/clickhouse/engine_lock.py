"""Who holds the embedded engine, and how others reach it meanwhile.

The engine lives in one process at a time. Two files stand beside its folder `<path>`:

- `<path>.lock`: held with flock by the process that runs the engine; the kernel lets go of it when that process
  ends, however it ends. It holds the owner's process id, for the sentence that a second process prints.
- `<path>.door`: where the owner answers ClickHouse's HTTP protocol, and the password. Readable by its user only.
  Believed only while the process that wrote it holds the lock, so one left behind by a kill does no harm.
"""

from __future__ import annotations

import fcntl
import json
import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path


class EngineInUse(Exception):
    """Another process runs the engine. The text says which, and how to share the data."""

    def __init__(
        self, path: Path, pid: int | None, *, passing: bool = False, door: PublishedDoor | None = None
    ) -> None:
        holder = f"process {pid}" if pid else "another process"
        if door is not None and not door.password:
            share = f"That one is a `pingstream clickhouse`: set PINGSTREAM_CLICKHOUSE={door.address} to share it"
        else:
            share = (
                "To share it, stop that one, run `pingstream clickhouse` with the same --data-dir and set "
                "PINGSTREAM_CLICKHOUSE=http://127.0.0.1:8123 for every worker"
            )
        super().__init__(
            f"embedded ClickHouse at {path} is in use by {holder}, and only one process at a time can run it. {share}"
        )
        self.path = path
        self.pid = pid
        self.passing = passing


@dataclass(frozen=True)
class Owner:
    """The process that wrote itself into the lock; `passing` when it is a command that ends in moments."""

    pid: int
    passing: bool


@dataclass(frozen=True)
class PublishedDoor:
    """Where the engine's owner answers: an address like `http://127.0.0.1:41234` and the password."""

    address: str
    password: str = field(repr=False)


class EngineLock:
    """The exclusive right to run the engine at `path`; not reentrant, and not inherited by programs started."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: int | None = None

    def acquire(self, *, passing: bool = False) -> None:
        """Takes the lock, creating the folder's parent, or fails at once.

        Raises:
            EngineInUse: another holder has it.
        """
        lock = beside(self.path, ".lock")
        lock.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = _owner(file)
            os.close(file)
            if owner is None:
                raise EngineInUse(self.path, None) from None
            raise EngineInUse(self.path, owner.pid, passing=owner.passing, door=find_door(self.path)) from None
        except OSError:
            os.close(file)
            raise
        # The file is never removed: a process that waits on a removed file would hold a lock nobody else sees.
        os.ftruncate(file, 0)
        os.pwrite(file, json.dumps({"pid": os.getpid(), "passing": passing}).encode(), 0)
        self._file = file

    def lasting(self) -> None:
        """The holder is here to stay after all; others need not wait for it."""
        if self._file is not None:
            text = json.dumps({"pid": os.getpid(), "passing": False}).encode()
            os.pwrite(self._file, text, 0)
            os.ftruncate(self._file, len(text))

    def release(self) -> None:
        """Lets go; harmless when it is not held."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


def publish_door(path: Path, address: str, password: str) -> None:
    """Tells other processes of this user where the owner of the engine at `path` answers; replaces what stood there."""
    target = beside(path, ".door")
    text = json.dumps({"pid": os.getpid(), "address": address, "password": password})
    # mkstemp makes the file 0600 before the secret is in it; the rename shows it whole or not at all.
    file, name = tempfile.mkstemp(prefix=target.name + ".", dir=target.parent)
    try:
        with os.fdopen(file, "w") as out:
            out.write(text)
        os.replace(name, target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def withdraw_door(path: Path) -> None:
    """Removes what `publish_door` wrote, at a clean end."""
    beside(path, ".door").unlink(missing_ok=True)


def find_door(path: Path) -> PublishedDoor | None:
    """The door of the process that holds the lock now; None when there is no such process or it has published none."""
    try:
        found = json.loads(beside(path, ".door").read_text())
        lock = os.open(beside(path, ".lock"), os.O_RDONLY | os.O_CLOEXEC)
    except (OSError, ValueError):
        return None
    try:
        owner = _owner(lock)
    finally:
        os.close(lock)
    if owner is None or owner.pid != found.get("pid"):
        return None
    return PublishedDoor(str(found["address"]), str(found["password"]))


def beside(path: Path, suffix: str) -> Path:
    """The file next to the engine's folder: `data/clickhouse` and `.lock` give `data/clickhouse.lock`."""
    return path.with_name(path.name + suffix)


def _owner(file: int) -> Owner | None:
    try:
        text = json.loads(os.pread(file, 4096, 0))
        return Owner(int(text["pid"]), bool(text["passing"]))
    except (ValueError, KeyError, TypeError):
        return None  # read in the moment between its taking the lock and its writing
