"""How kernels are compiled, kept on disk, and loaded again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
from numba.core.caching import FunctionCache
from numba.core.runtime import rtsys


class _Kept(FunctionCache):  # type: ignore[misc]
    """What was compiled before, without what only compiling needs.

    Numba loads everything that it can compile (75 modules, thousands of declarations, a fifth of a second) before it takes the
    first kernel from the disk, where it is machine code already. It loads them again by itself when it does compile.
    """

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """A kernel for these types; None where it has to be compiled."""
        rtsys.initialize(target_context)  # what a kernel that makes arrays is linked with
        with self._guard_against_spurious_io_errors():
            return self._load_overload(sig, target_context)


def compiled(function: Callable[..., Any], *, lets_others_run: bool = True) -> Any:
    """Makes a kernel of a plain function over arrays; for each combination of types it is compiled once and kept on disk."""
    kernel = numba.njit(nogil=lets_others_run, error_model="numpy")(function)
    kernel._cache = _Kept(function)
    return kernel
