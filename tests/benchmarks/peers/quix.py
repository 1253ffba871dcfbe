"""Quix Streams in its dense layout, in a virtual environment of its own."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from tests.benchmarks.drain import say
from tests.benchmarks.peers.jobs import Figures
from tests.benchmarks.peers.systems import ResultTopic, Skipped, Spent, System, Task, cache, measured

PACKAGES = ("quixstreams==3.28.0", "orjson==3.13.0", "numpy==2.4.6")

_JOB = Path(__file__).with_name("quix_job.py")
_INSTALL_SECONDS = 600


class Quix(System):
    """One process; its state in RocksDB, with a changelog."""

    name = "quix"

    def __init__(self) -> None:
        self._python = Path()
        self._results: dict[Path, ResultTopic] = {}

    def prepare(self) -> None:
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        folder = cache("environments") / "-".join([*PACKAGES, version]).replace("==", "-")
        self._python = folder / "bin" / "python"
        ready = folder / ".ready"
        if ready.exists():
            return
        say(f"{self.name}: installing {PACKAGES[0]} (once)")
        shutil.rmtree(folder, ignore_errors=True)
        install = [str(self._python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *PACKAGES]
        try:
            for command in ([sys.executable, "-m", "venv", str(folder)], install):
                subprocess.run(command, check=True, capture_output=True, text=True, timeout=_INSTALL_SECONDS)
        except subprocess.CalledProcessError as exc:
            raise Skipped(f"{PACKAGES[0]} cannot be installed: {(exc.stderr or '').strip()[-500:]}") from None
        except subprocess.TimeoutExpired:
            raise Skipped(f"{PACKAGES[0]} was not installed within {_INSTALL_SECONDS} s") from None
        ready.touch()

    def run(self, task: Task) -> Spent:
        results = self._results[task.folder] = ResultTopic("quix-figures", task)
        return measured([str(self._python), str(_JOB), str(task.file(results=results.name))], task, results.there)

    def figures(self, task: Task) -> list[Figures]:
        return [self._results[task.folder].figures()]
