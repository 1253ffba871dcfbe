"""`pingstream` with something in it spoiled: `python -m tests.faults.spoil NAME[=VALUE]… -- worker …`.

What no outsider can do to a process at the right moment, it does to itself here.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import streams.worker
from deploy.cli.main import main
from streams.app import Source
from streams.ledger.book import Book
from streams.rows import RowSink
from streams.transport.consumer import FilteringThread
from streams.worker import Worker

CLOCK_SECONDS = 0.2


def stop_before_claim(_: str) -> None:
    """SIGSTOP between the recovery of the state and the claim on it, the first time."""
    _once_before(Book, "claim", _stop)


def stop_before_rows(_: str) -> None:
    """SIGSTOP between a flush's state and its rows, the first time."""
    _once_before(RowSink, "write", _stop)


def term_in_start(_: str) -> None:
    """SIGTERM while Faust starts, which fails over it: so it does when Kafka's word on a topic comes while it is being stopped."""

    async def join(worker: Worker, *_: Any) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        while not worker._stop.is_set():
            await asyncio.sleep(0)
        raise asyncio.InvalidStateError

    Worker._join = join  # type: ignore[method-assign]


def clock(file: str) -> None:
    """`time.time` is as many seconds ahead as the file says, and follows it."""
    real, shift = time.time, [float(Path(file).read_text())]

    def follow() -> None:
        while True:
            time.sleep(CLOCK_SECONDS)
            shift[0] = float(Path(file).read_text() or shift[0])

    threading.Thread(target=follow, daemon=True).start()
    time.time = lambda: real() + shift[0]


def ready_seconds(seconds: str) -> None:
    """Patience with a worker that does not become ready."""
    streams.worker.READY_SECONDS = float(seconds)


def never_recovered(_: str) -> None:
    """Recovery does not end."""

    async def recovered(self: Source) -> None:
        del self

    Source._on_recovered = recovered  # type: ignore[method-assign]


def commit_hangs(after: str) -> None:
    """Commits hang after so many."""
    done, commit = 0, FilteringThread.commit

    async def hang(self: Any, offsets: Any) -> Any:
        nonlocal done
        done += 1
        if done > int(after):
            await asyncio.sleep(3_600)
        return await commit(self, offsets)

    FilteringThread.commit = hang


def commit_seconds(seconds: str) -> None:
    """Patience with a commit."""
    streams.worker.COMMIT_SECONDS = float(seconds)


SPOILERS = {
    spoiler.__name__: spoiler
    for spoiler in (
        stop_before_claim, stop_before_rows, term_in_start, clock, ready_seconds, never_recovered, commit_hangs, commit_seconds,
    )
}  # fmt: skip


def _stop() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def _once_before(owner: Any, name: str, act: Callable[[], None]) -> None:
    """Does it before the first call of a method."""
    method = getattr(owner, name)
    done: list[bool] = []

    def spoiled(*args: Any, **kwargs: Any) -> Any:
        if not done:
            done.append(True)
            act()
        return method(*args, **kwargs)

    setattr(owner, name, spoiled)


def spoiled(*names: str) -> list[str]:
    """The program of a worker that is spoiled so (see `Stage.worker`)."""
    return ["-m", "tests.faults.spoil", *names, "--"]


def run() -> None:
    """Spoils what the arguments name, and runs the command behind them."""
    end = sys.argv.index("--")
    names, sys.argv[1:] = sys.argv[1:end], sys.argv[end + 1 :]
    for name in names:
        key, _, value = name.partition("=")
        SPOILERS[key](value)
    main()


if __name__ == "__main__":
    run()
