"""How kernels are compiled, kept on disk, and loaded again."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numba
from numba.core.caching import FunctionCache
from numba.core.runtime import rtsys


class _Kept(FunctionCache):  # type: ignore[misc]
    """What was compiled before, without what only compiling needs.

    Numba loads everything that it can compile (75 modules, thousands of declarations, a fifth of a second) before it takes the
    first kernel from the disk, where it is machine code already. It loads them again by itself when it does compile.

    And it looks only at the file of a kernel for whether that has changed, and not at those of the kernels that are compiled into
    it: what was compiled counts for as long as no file of the ledger's has changed.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        self._cache_file._source_stamp = self._cache_file._source_stamp, _sources()

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """A kernel for these types; None where it has to be compiled."""
        rtsys.initialize(target_context)  # what a kernel that makes arrays is linked with
        with self._guard_against_spurious_io_errors():
            return self._load_overload(sig, target_context)


@cache
def _sources() -> list[tuple[str, int, int]]:
    """Which files of this package there are, when they were changed, and their sizes."""
    folder = Path(__file__).parent
    files = [(path, path.stat()) for path in folder.rglob("*.py")]
    return sorted((path.relative_to(folder).as_posix(), stat.st_mtime_ns, stat.st_size) for path, stat in files)


def compiled(function: Callable[..., Any], *, lets_others_run: bool = True) -> Any:
    """Makes a kernel of a plain function over arrays; for each combination of types it is compiled once and kept on disk."""
    kernel = numba.njit(nogil=lets_others_run, error_model="numpy")(function)
    kernel._cache = _Kept(function)
    return kernel
