"""An event loop in virtual time, and processes on it that can be killed and paused between any two of their steps.

Nothing here sleeps, reads a clock or starts a thread: the same callbacks in the same order for the same seed. A process is a
context: every task that is made in it, every callback and every timer of those tasks belongs to it. What a process has sent
out belongs to nobody and arrives, whatever becomes of the process.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import heapq
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

from aiokafka.errors import KafkaError

from tests.simulation.faults import Faults

_process: contextvars.ContextVar[Process | None] = contextvars.ContextVar("process", default=None)


class Stuck(Exception):
    """Nothing will ever happen again, and the simulation waits for something."""


class Process:
    """What a kill and a pause are for.

    Attributes:
        dies_at, pauses_at: number of the step before which it is killed, or stands still for `pause` seconds; 0 is never.
        ended: called once when it is killed.
    """

    def __init__(self, loop: VirtualLoop, name: str) -> None:
        self.name = name
        self.dead = False
        self.paused = False
        self.dies_at = 0
        self.pauses_at = 0
        self.pause = 0.0
        self.steps = 0
        self.ended: Callable[[], None] = lambda: None
        self._loop = loop
        self._held: deque[asyncio.Handle] = deque()
        self._tasks: list[asyncio.Task[Any]] = []
        self._context = contextvars.copy_context()
        self._context.run(_process.set, self)

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """A task of this process."""
        return self._loop.create_task(work, context=self._context.copy())

    def keep(self, task: asyncio.Task[Any]) -> None:
        """Its tasks are kept when it dies: what is collected would run its `finally`."""
        self._tasks.append(task)
        if len(self._tasks) > 200:
            self._tasks = [task for task in self._tasks if not task.done()]

    def may_run(self, handle: asyncio.Handle) -> bool:
        """Whether its next step is taken. The steps of a paused process wait, those of a dead one never come."""
        if self.dead:
            return False
        if self.paused:
            self._held.append(handle)
            return False
        self.steps += 1
        if self.steps == self.dies_at:
            self.kill()
            return False
        if self.steps == self.pauses_at:
            self._loop.note("paused", f"{self.pause:.1f} s", self.name)
            self.paused = True
            self._held.append(handle)
            self._loop.later(self.pause, self.resume)
            return False
        return True

    def resume(self) -> None:
        """Goes on where it stood."""
        if self.paused and not self.dead:
            self._loop.note("resumed", "", self.name)
            self.paused = False
            self._loop.run_next(self._held)
        self._held = deque()

    def kill(self) -> None:
        """SIGKILL."""
        if not self.dead:
            self._loop.note("killed", "", self.name)
            self.dead = True
            self.ended()

    def close(self) -> None:
        """At the end of the simulation: nothing of it may run later."""
        self.dead = True
        for task in self._tasks:
            work = task.get_coro()
            if not task.done() and work is not None:
                with contextlib.suppress(RuntimeError):  # it awaits on its way out
                    work.close()


def current() -> Process | None:
    """The process whose step this is, None outside of all."""
    return _process.get()


class VirtualLoop(asyncio.BaseEventLoop):
    """Time stands still while there is something to do, and jumps to the next timer when there is not."""

    def __init__(self, faults: Faults) -> None:
        super().__init__()
        self.faults = faults
        self.trace: list[str] = []
        self._now = 0.0
        self._outside = contextvars.copy_context()
        self.set_task_factory(self._make_task)  # type: ignore[arg-type]
        self.set_exception_handler(self._failed)
        self.failures: list[str] = []

    def time(self) -> float:
        return self._now

    def note(self, what: str, more: object = "", who: str | None = None) -> None:
        """A line of the trace."""
        if who is None:
            process = current()
            who = process.name if process is not None else "-"
        self.trace.append(f"{self._now:10.4f} {who:8} {what} {more}".rstrip())

    def later(self, seconds: float, act: Callable[..., object], *args: Any) -> asyncio.TimerHandle:
        """A timer that belongs to no process."""
        return self.call_later(seconds, act, *args, context=self._outside)

    def run_next(self, handles: deque[asyncio.Handle]) -> None:
        """Puts steps that were held back in line, in their order."""
        self._ready.extend(handles)  # type: ignore[attr-defined]

    async def ask(self, act: Callable[[], Any], there: float, back: float) -> Any:
        """What another machine does `there` seconds from now, answered `back` seconds later; it happens in any case."""
        answer: asyncio.Future[Any] = self.create_future()

        def happens() -> None:
            try:
                result = act()
            except Exception as exc:
                self.later(back, _fail, answer, exc)
            else:
                self.later(back, _answer, answer, result)

        self.later(there, happens)
        return await answer

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:  # type: ignore[override]
        """A thread: a single step that happens some time from now, even when its process is killed meanwhile."""
        answer: asyncio.Future[Any] = self.create_future()
        there, back = self.faults.delay(), self.faults.delay()

        def happens() -> None:
            try:
                result = func(*args)
            except Exception as exc:
                self.later(back, _fail, answer, exc)
            else:
                self.later(back, _answer, answer, result)

        self.later(there, happens)
        return answer

    def _make_task(self, loop: Any, work: Any, **more: Any) -> asyncio.Task[Any]:
        task = asyncio.Task(work, loop=self, **more)
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        process = more["context"].get(_process) if more.get("context") is not None else current()
        if process is not None:
            process.keep(task)
        return task

    def _failed(self, loop: Any, context: dict[str, Any]) -> None:
        if isinstance(context.get("exception"), KafkaError) and "never retrieved" in str(context.get("message")):
            return  # of an acknowledgement that nobody lived to hear of: what follows from it is seen in the figures
        self.failures.append(f"{context.get('message')}: {context.get('exception')!r}")

    def _run_once(self) -> None:
        ready: deque[asyncio.Handle] = self._ready  # type: ignore[attr-defined]
        timers: list[asyncio.TimerHandle] = self._scheduled  # type: ignore[attr-defined]
        while timers and timers[0].cancelled():
            heapq.heappop(timers)._scheduled = False  # type: ignore[attr-defined]
        if not ready:
            if not timers:
                raise Stuck("no timer is left")
            self._now = max(self._now, timers[0].when())
        while timers and timers[0].when() <= self._now:
            timer = heapq.heappop(timers)
            timer._scheduled = False  # type: ignore[attr-defined]
            if not timer.cancelled():
                ready.append(timer)
        for _ in range(len(ready)):
            handle = ready.popleft()
            if handle.cancelled():
                continue
            process = handle._context.get(_process)  # type: ignore[attr-defined]
            if process is None or process.may_run(handle):
                handle._run()

    def _write_to_self(self) -> None:
        """Nobody waits in a selector."""

    def _process_events(self, event_list: Any) -> None:
        """There are none."""


def _answer(future: asyncio.Future[Any], result: Any) -> None:
    if not future.done():
        future.set_result(result)


def _fail(future: asyncio.Future[Any], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
        future.exception()  # its process may be dead: nobody else retrieves it
