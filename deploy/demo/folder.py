"""The demo's own folder, made afresh for each run. Nothing is ever deleted that a demo did not make."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Final

from deploy.cli.errors import WrongUse
from sinks.clickhouse.engine_lock import EngineInUse, EngineLock

MARKER: Final = "made-by-pingstream-demo"
_TEXT: Final = "pingstream demo made this folder and empties it at its next run.\n"


@contextmanager
def fresh_folder(folder: Path) -> Iterator[Path]:
    """An empty folder, held against another demo for as long as the context lasts; what was made in it stays.

    Raises:
        WrongUse: the folder holds what no demo has made, or somebody works in it.
    """
    folder = folder.absolute()
    with ExitStack() as held:
        try:
            _refuse_foreign(folder)
            folder.mkdir(parents=True, exist_ok=True)
            marker = held.enter_context((folder / MARKER).open("a+"))
            _hold(marker, folder)
            _empty(folder)
            marker.truncate(0)
            marker.write(f"{_TEXT}process {os.getpid()}\n")
            marker.flush()
        except OSError as exc:
            raise WrongUse(
                f"the demo cannot work in {folder}: {exc.strerror or exc}; choose another --data-dir"
            ) from None
        yield folder


def _refuse_foreign(folder: Path) -> None:
    if folder.exists() and not (folder / MARKER).exists() and any(folder.iterdir()):
        raise WrongUse(
            f"{folder} is not the demo's own: the demo empties its folder, and did not make what is in this one. "
            "Choose another --data-dir, or remove it"
        )


def _hold(marker: IO[str], folder: Path) -> None:
    try:
        fcntl.flock(marker, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        marker.seek(0)
        process = marker.read().rpartition("process ")[2].strip() or "unknown"
        raise WrongUse(
            f"another demo (process {process}) runs in {folder}; end it, or give this one another --data-dir"
        ) from None


def _empty(folder: Path) -> None:
    """Deletes what the last demo left, unless a broker or a worker was started on it since."""
    kafka_lock = folder / "kafka" / "lock"
    if kafka_lock.exists():
        with kafka_lock.open() as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise WrongUse(
                    f"a Kafka broker (process {lock.read().strip() or 'unknown'}) runs on the last demo's data in {folder}; "
                    "end it, or give this demo another --data-dir"
                ) from None
    engine = EngineLock(folder / "clickhouse")
    try:
        engine.acquire(passing=True)
        engine.release()
    except EngineInUse as exc:
        raise WrongUse(
            f"the last demo's ClickHouse in {folder} is in use by {f'process {exc.pid}' if exc.pid else 'another process'}; "
            "end it, or give this demo another --data-dir"
        ) from None
    for path in folder.iterdir():
        if path.name == MARKER:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
