"""The jobs that all systems get, and every figure that must come out of them, computed from the seed with numpy alone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tests.benchmarks.shapes import DAYS, LARGE, SMALL, Shape, installation, names

WINDOWS = (1, 7, 28)
"""Days of `dau`, `wau` and `mau`."""

MAU = WINDOWS.index(28)

Figures = npt.NDArray[np.int32]
"""[installation, day, column]: how many users; 0 where there is no row. Columns are those of `Job.columns`."""


@dataclass(frozen=True)
class Job:
    """A shape and how many installations of it, each of which sends a ping a day."""

    name: str
    shape: Shape
    installations: int

    @property
    def pings(self) -> int:
        return self.installations * DAYS

    @property
    def columns(self) -> list[tuple[str, str]]:
        """(stage, feature) of each figure of a day: the total, the stages, the features."""
        features = names(self.shape)
        stages = list(dict.fromkeys(stage for stage, _ in features))
        return [("", ""), *((stage, "") for stage in stages), *features]

    def scaled(self, factor: float) -> Job:
        """The same with fewer (or more) installations, at least one."""
        return Job(self.name, self.shape, max(1, round(self.installations * factor)))


JOBS = (
    Job("d1", SMALL, SMALL.installations),
    Job("d1l", SMALL, 3 * SMALL.installations),
    Job("d2", LARGE, LARGE.installations),
)


def expected(job: Job) -> list[Figures]:
    """What every system must find, for each of `WINDOWS`."""
    shape = job.shape
    found = [np.zeros((job.installations, DAYS, len(job.columns)), np.int32) for _ in WINDOWS]
    bits = np.uint64(1) << np.arange(DAYS, dtype=np.uint64)
    for number in range(job.installations):
        present = installation(shape, number).present
        features = np.bitwise_or.reduce(np.where(present, bits[:, None, None], np.uint64(0)), axis=0)
        stages = np.bitwise_or.reduce(features.reshape(shape.users, shape.stages, shape.features), axis=2)
        total = np.bitwise_or.reduce(stages, axis=1, keepdims=True)
        masks = np.ascontiguousarray(np.concatenate([total, stages, features], axis=1).T)
        for figures, window in zip(found, WINDOWS, strict=True):
            for day in range(DAYS):
                seen = np.bitwise_or.reduce(bits[max(0, day - window + 1) : day + 1])
                figures[number, day] = np.count_nonzero(masks & seen, axis=1)
    return found


class Wrong(Exception):
    """A system's rows are not those that must come out. The sentence names the first one."""


def check(job: Job, window: int, wanted: Figures, found: Figures) -> int:
    """Compares every row; gives how many there are.

    Raises:
        Wrong: one is missing, is too many, or has another figure.
    """
    if wanted.shape != found.shape:
        raise Wrong(f"the figures have the shape {found.shape}, not {wanted.shape}")
    differing = np.argwhere(wanted != found)
    if len(differing):
        number, day, column = differing[0].tolist()
        raise Wrong(
            f"{len(differing):,} of {np.count_nonzero(wanted):,} rows are wrong: installation {number}, day {day}, "
            f"{'/'.join(job.columns[column]).strip('/') or 'total'}, {window} days is {found[number, day, column]}, "
            f"not {wanted[number, day, column]}"
        )
    return int(np.count_nonzero(wanted))


def by_position(job: Job, positions: Iterable[Any], counts: npt.NDArray[Any]) -> Figures:
    """Figures from rows: arrays of installation, day and column, and the count of each.

    Raises:
        Wrong: two rows are of the same figure, or one is of none.
    """
    shape = (job.installations, DAYS, len(job.columns))
    indices = [np.asarray(one, np.int64) for one in positions]
    if any(len(one) and (one.min() < 0 or one.max() >= size) for one, size in zip(indices, shape, strict=True)):
        raise Wrong("a row is of an installation, a day or a column that does not exist")
    flat = np.ravel_multi_index(tuple(indices), shape)
    if len(np.unique(flat)) != len(flat):
        raise Wrong(f"{len(flat) - len(np.unique(flat)):,} rows are there twice")
    figures = np.zeros(shape, np.int32)
    figures.reshape(-1)[flat] = counts
    return figures
