"""How kernels are compiled, kept on disk, and loaded again."""

from __future__ import annotations

import hashlib
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

    And it looks at the time of change of a kernel's own file, and not at the files of kernels that are compiled into it. Here what was
    compiled counts for as long as what stands in the ledger's files is the same: an image's layers cut times off.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        self._cache_file._source_stamp = _digest(Path(__file__).parent), _digest(Path(function.__code__.co_filename))

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """A kernel for these types; None where it has to be compiled."""
        rtsys.initialize(target_context)  # what a kernel that makes arrays is linked with
        with self._guard_against_spurious_io_errors():
            return self._load_overload(sig, target_context)


@cache
def _digest(place: Path) -> str:
    """Of what stands in a file, or in all Python files in a folder and below."""
    files = sorted(place.rglob("*.py")) if place.is_dir() else [place]
    texts = ((file.relative_to(place).as_posix().encode(), file.read_bytes()) for file in files)
    return hashlib.blake2b(b"\0".join(part for text in texts for part in text)).hexdigest()


def compiled(function: Callable[..., Any], *, lets_others_run: bool = True) -> Any:
    """Makes a kernel of a plain function over arrays; for each combination of types it is compiled once and kept on disk."""
    kernel = numba.njit(nogil=lets_others_run, error_model="numpy")(function)
    kernel._cache = _Kept(function)
    return kernel
