"""Runs jobs side by side, each a process with a folder of its own, and says what became of each."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import psutil

from tests.faults.play import SKIPPED
from tests.running import ROOT, environment

JOB_BYTES = 2 * 1024**3
"""Memory of a case: a broker, a ClickHouse, some workers, and the oracle."""

CLEAN_UP_SECONDS = 30.0
TAIL_LINES = 60


@dataclass(frozen=True)
class Job:
    """A process to run.

    Attributes:
        arguments: of Python; `{folder}` stands for the job's own folder.
        weight: minutes that it may take, roughly; those that take longest begin first.
        seconds: after which it is ended as one that hangs.
        again: how to run it again.
    """

    name: str
    arguments: Sequence[str]
    weight: float
    seconds: float
    again: str


class Result(NamedTuple):
    """What became of a job: `verdict` is passed, FAILED or skipped; `seen` its last words; `folder` stays when it failed."""

    job: Job
    verdict: str
    seconds: float
    seen: str
    folder: Path


def side_by_side() -> int:
    """How many jobs this machine does well at once: a case waits for a third of its time; memory is looked at, too."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(round(1.5 * cores), psutil.virtual_memory().available // JOB_BYTES))


class Pool:
    """Runs jobs, `places` of them at a time."""

    def __init__(self, places: int) -> None:
        self._places = places
        self._running: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()
        self._stopping = False

    def run(self, jobs: Sequence[Job], done: Callable[[Result], None]) -> list[Result]:
        """Runs all of them and returns when the last has ended; `done` is told of each. Interrupted, it ends what runs."""
        results: list[Result] = []
        with ThreadPoolExecutor(self._places) as threads:
            waiting = {threads.submit(self._run, job) for job in sorted(jobs, key=lambda job: -job.weight)}
            try:
                while waiting:
                    ended, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                    for future in ended:
                        results.append(future.result())
                        done(results[-1])
            except BaseException:
                self._stop()
                threads.shutdown(cancel_futures=True)
                raise
        return results

    def _run(self, job: Job) -> Result:
        folder = Path(tempfile.mkdtemp(prefix=f"pingstream-fault-{job.name.replace(' ', '-')}-"))
        output = folder / "output.txt"
        begun = time.monotonic()
        with output.open("wb") as file, self._lock:
            if self._stopping:
                return Result(job, "FAILED", 0.0, "interrupted", folder)
            # Not in our session: an interrupt from the keyboard is ours to pass on, once.
            process = subprocess.Popen(
                [sys.executable, *(argument.format(folder=folder) for argument in job.arguments)],
                cwd=ROOT, env=environment(), stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT,
                start_new_session=True,
            )  # fmt: skip
            self._running.add(process)
        try:
            code = process.wait(job.seconds)
        except subprocess.TimeoutExpired:
            _end(process)
            code = None
        with self._lock:
            self._running.discard(process)
        text = output.read_text(errors="replace")
        seen = next((line for line in reversed(text.splitlines()) if line.strip()), "")
        if code is None:
            seen = f"not done in {job.seconds:.0f} s"
        verdict = {0: "passed", SKIPPED: "skipped"}.get(-1 if code is None else code, "FAILED")
        if verdict != "FAILED":
            shutil.rmtree(folder, ignore_errors=True)
        return Result(job, verdict, time.monotonic() - begun, seen.strip(), folder)

    def _stop(self) -> None:
        with self._lock:
            self._stopping = True
            running = list(self._running)
        for process in running:
            process.send_signal(signal.SIGINT)
        for process in running:
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends a job with time to clean up behind it."""
    process.send_signal(signal.SIGINT)
    try:
        process.wait(CLEAN_UP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def tail(result: Result) -> str:
    """The end of what a job has said."""
    lines = (result.folder / "output.txt").read_text(errors="replace").splitlines()
    return "\n".join(f"    {line}" for line in lines[-TAIL_LINES:])
