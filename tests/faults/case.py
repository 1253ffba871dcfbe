"""A case: a function that plays one fault on a stage, and is found by its name."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.faults.stage import USUAL, Stage, staged


@dataclass(frozen=True)
class Case:
    """One fault.

    Attributes:
        play: does it, and raises when something is not as it must be.
        minutes: that it takes in `make faults`, roughly; the longest begin first.
        options: of the stage (see `tests.faults.stage.staged`).
    """

    name: str
    play: Callable[[Stage], None]
    minutes: float
    options: dict[str, Any]

    @property
    def summary(self) -> str:
        """The first sentence of its docstring."""
        return (inspect.getdoc(self.play) or "").split("\n\n")[0].replace("\n", " ")

    def stage(self, folder: Path, seed: int, scale: int = USUAL) -> AbstractContextManager[Stage]:
        """The stage that it needs."""
        return staged(folder, seed, scale, **self.options)


_cases: dict[str, Case] = {}


def case(minutes: float = 1.0, **options: Any) -> Callable[[Callable[[Stage], None]], Callable[[Stage], None]]:
    """Makes a function a case under its own name; options are those of the stage."""

    def register(play: Callable[[Stage], None]) -> Callable[[Stage], None]:
        assert play.__name__ not in _cases, f"two cases are called {play.__name__}"
        _cases[play.__name__] = Case(play.__name__, play, minutes, options)
        return play

    return register


def cases() -> dict[str, Case]:
    """Every case of `tests/faults/cases`, by name, module by module."""
    package = importlib.import_module("tests.faults.cases")
    for module in sorted(pkgutil.iter_modules(package.__path__), key=lambda found: found.name):
        importlib.import_module(f"{package.__name__}.{module.name}")
    return dict(_cases)
