"""How far the demo is, on standard error: bars on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

_LINE_SECONDS = 2.0


class Steps(Protocol):
    """What is told while the demo runs; a context, to be left before the figures are printed."""

    def begin(self, sentence: str) -> None:
        """What is being done now, while there is nothing to count."""

    def say(self, sentence: str) -> None:
        """Something is done."""

    def count(self, sent: int, processed: int, expected: int) -> None:
        """How many messages are sent and processed of about how many."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def steps() -> Steps:
    """Bars if standard error is a terminal, else lines."""
    return _Bars() if sys.stderr.isatty() else _Lines()


class _Lines:
    def __init__(self) -> None:
        self._begun = time.monotonic()
        self._said = 0.0
        self._last = (0, 0)

    def begin(self, sentence: str) -> None:
        self.say(f"{sentence} …")

    def say(self, sentence: str) -> None:
        sys.stderr.write(f"{time.monotonic() - self._begun:5.1f} s  {sentence}\n")
        sys.stderr.flush()
        self._said = time.monotonic()

    def count(self, sent: int, processed: int, expected: int) -> None:
        if (sent, processed) != self._last and time.monotonic() - self._said >= _LINE_SECONDS:
            self._last = sent, processed
            self.say(f"{sent:,} of about {expected:,} messages sent, {processed:,} processed")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        sys.stderr.flush()


class _Bars:
    def __init__(self) -> None:
        columns = (
            SpinnerColumn(finished_text="✓"),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        self._console = Console(stderr=True, highlight=False)
        self._progress = Progress(*columns, console=self._console, transient=True)
        self._status = self._console.status("")
        self._tasks: tuple[TaskID, TaskID] | None = None
        self._waiting = False

    def begin(self, sentence: str) -> None:
        self._settle()
        self._status.update(f"{sentence} …")
        self._status.start()
        self._waiting = True

    def say(self, sentence: str) -> None:
        self._console.print(f"[green]✓[/green] {sentence}")

    def count(self, sent: int, processed: int, expected: int) -> None:
        if self._waiting:
            self._settle()
        if self._tasks is None:
            self._progress.start()
            self._tasks = (
                self._progress.add_task("pings sent", total=expected),
                self._progress.add_task("pings processed", total=expected),
            )
        for task, number in zip(self._tasks, (sent, processed), strict=True):
            # How many there will be is known roughly before and exactly after.
            self._progress.update(task, completed=number, total=max(expected, number))

    def _settle(self) -> None:
        """Ends what is alive on the screen: rich allows one at a time."""
        self._status.stop()
        self._progress.stop()
        self._tasks = None
        self._waiting = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._settle()
