"""Kernels on disk: loaded without what compiling needs, and compiled where they are not there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from streams.ledger import compiled

KERNEL = """
import numpy as np
from streams.ledger.compiled import compiled

@compiled
def doubled(numbers):
    made = np.empty(len(numbers), numbers.dtype)
    for i in range(len(numbers)):
        made[i] = 2 * numbers[i]
    return made
"""

RUN = """
import sys
from numba.core.cpu import CPUContext
from kernel import doubled, np
loaded = []
load = CPUContext.load_additional_registries
CPUContext.load_additional_registries = lambda self: (loaded.append(1), load(self))[1]
print(doubled(np.array([1, 2])).tolist(), bool(loaded), dict(doubled.stats.cache_hits) != {})
print(doubled(np.array([1.5])).tolist(), bool(loaded))
"""


def test_a_kept_kernel_is_loaded_without_a_compiler_and_another_is_compiled_behind_it(tmp_path: Path) -> None:
    (tmp_path / "kernel.py").write_text(KERNEL)
    path = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[3])])

    def run() -> list[str]:
        done = subprocess.run(
            [sys.executable, "-c", RUN],
            env=os.environ | {"PYTHONPATH": path},
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.splitlines()

    assert run() == ["[2, 4] True False", "[3.0] True"]
    for kept in (tmp_path / "__pycache__").glob(
        "*.2.nbc"
    ):  # the second kernel's: it is to be compiled behind a loaded one
        kept.unlink()
    assert run() == ["[2, 4] False True", "[3.0] True"]


PART = """
from ledger.compiled import compiled

@compiled
def part(number):
    return number + 1
"""

WHOLE = """
from ledger.compiled import compiled
from ledger.part import part

@compiled
def whole(number):
    return 10 * part(number)
"""


def test_a_kernel_is_compiled_anew_when_what_it_calls_says_something_else_and_not_for_a_file_s_time(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "ledger"
    folder.mkdir()
    (folder / "compiled.py").write_text(Path(compiled.__file__).read_text())
    (folder / "whole.py").write_text(WHOLE)

    def run() -> str:
        code = "from ledger.whole import whole; print(whole(1), dict(whole.stats.cache_hits) != {})"
        return subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
        ).stdout.strip()

    (folder / "part.py").write_text(PART)
    assert [run(), run()] == ["20 False", "20 True"]
    for file in folder.glob("*.py"):  # as a layer of an image does, or a checkout
        os.utime(file, (1_700_000_000, 1_700_000_000))
    assert run() == "20 True"
    (folder / "part.py").write_text(PART.replace("+ 1", "+ 20"))
    assert [run(), run()] == ["210 False", "210 True"]
