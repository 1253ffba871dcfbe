"""Keeps a worker running, as a service manager would."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from typing import Self

from tests.running import START_SECONDS, WorkerProcess, wait_until

POLL_SECONDS = 0.05
END_SECONDS = 5.0


class Supervisor:
    """Starts a worker, and starts it again whenever it ends: after a signal and exit code 1, not after 0 and 2.

    Args:
        start: starts the process and does not wait.
        pause: seconds between an end and the next start.
    """

    def __init__(self, start: Callable[[], WorkerProcess], pause: float = 0.2) -> None:
        self._start = start
        self._pause = pause
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._watch, name="supervisor", daemon=True)
        self.ends: list[int] = []
        """Exit codes in their order, below 0 for the number of a signal."""
        self.processes: list[WorkerProcess] = []

    @property
    def worker(self) -> WorkerProcess:
        """The present process, or the last one."""
        with self._lock:
            return self.processes[-1]

    @property
    def starts(self) -> int:
        return len(self.processes)

    def log(self) -> str:
        """What all of its processes have said, one after the other."""
        return "".join(process.log() for process in self.processes)

    def wait_ready(self, seconds: float = START_SECONDS) -> None:
        """Returns when the worker has its partitions; one that ended on the way, as when another was faster, is started again."""

        def ready() -> bool:
            assert 2 not in self.ends, self.log()[-4000:]
            worker = self.worker
            return worker.code is None and worker.has_address and worker.get("/readyz")[0] == 200

        wait_until(ready, f"the worker is ready\n{self.log()[-2000:]}", seconds)

    def kill(self) -> None:
        """SIGKILL; it is started again."""
        self.worker.signal(signal.SIGKILL)

    def end(self) -> float:
        """Ends the worker in order and for good: SIGTERM, exit code 0 within 5 s. Gives the seconds that it took.

        One that has not said yet that it started dies of the signal, as any program does that is still being loaded.
        """
        self._stop.set()
        self._thread.join()
        worker = self.worker
        begun = time.monotonic()
        if worker.code is None:
            worker.signal(signal.SIGTERM)
        code = worker.wait(END_SECONDS + 5)
        seconds = time.monotonic() - begun
        loading = "worker started" not in worker.log()
        assert (code == 0 or (loading and code == -signal.SIGTERM)) and seconds < END_SECONDS, (
            f"ended with {code} after {seconds:.1f} s:\n{worker.log()[-3000:]}"
        )
        return seconds

    def abandon(self) -> None:
        """Ends it at once and for good."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        for process in self.processes:
            process.kill()

    def __enter__(self) -> Self:
        self.processes.append(self._start())
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.abandon()

    def _watch(self) -> None:
        while not self._stop.wait(POLL_SECONDS):
            code = self.worker.code
            if code is None:
                continue
            self.ends.append(code)
            if code in (0, 2) or self._stop.wait(self._pause):
                return
            with self._lock:
                self.processes.append(self._start())
