"""Where a ping reports MAU and the SMAU of each stage: the stage map, data with versions in `stage_map.csv`.

The file holds each version of the map completely; the highest is in force, and the others tell what it was before. To change the
map, append all its rows under the next number: what was read with an older map stays as it was read.

| column | |
| --- | --- |
| version | 1, 2, 3 … |
| level | `total` (MAU) or `stage` (SMAU) |
| stage | '' for the total. A stage without rows has no SMAU (`manage`, `release`) |
| rank | order of the search: 1 is today's metric, the higher ones are the choices before it |
| key_path | where in the ping, names joined by dots |
| since | GitLab milestone that brought the metric; `<13.9` is before metrics had definitions |

Source: the Service Ping metric definitions of GitLab that carry the performance indicators `umau` and `smau`, under the DevOps
stage of the group that owns them. The choice of before for `plan`, users who opened an issue, is in pings since 2020.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from importlib import resources
from types import MappingProxyType
from typing import Final, NamedTuple

COLUMNS: Final = ["version", "level", "stage", "rank", "key_path", "since"]

KeyPath = tuple[str, ...]


class StageMapError(ValueError):
    """The table is not a stage map. The text says in which line, and why."""


class StageMap(NamedTuple):
    """One version of the map.

    Attributes:
        version: its number.
        mau: key paths of MAU in the order of the search.
        smau: the same for each stage that has any, stages in the order of the table.
    """

    version: int
    mau: tuple[KeyPath, ...]
    smau: Mapping[str, tuple[KeyPath, ...]]

    @property
    def roots(self) -> frozenset[str]:
        """Top-level keys of a ping that the map looks into."""
        return frozenset(path[0] for paths in (self.mau, *self.smau.values()) for path in paths)


def read_stage_maps(text: str) -> tuple[StageMap, ...]:
    """All versions of the map, the one in force last.

    Args:
        text: the table, CSV with the header `COLUMNS`.

    Raises:
        StageMapError: at the first line that cannot be.
    """
    rows = csv.reader(io.StringIO(text), strict=True)
    if (header := next(rows, [])) != COLUMNS:
        raise StageMapError(f"line 1: the columns are {', '.join(header)}, not {', '.join(COLUMNS)}")
    searches: dict[int, dict[str, list[KeyPath]]] = {}
    for number, row in enumerate(rows, 2):
        try:
            version, stage, rank, path = _read_row(row)
        except ValueError as exc:
            raise StageMapError(f"line {number}: {exc}") from None
        if version not in (len(searches), len(searches) + 1) or version < 1:
            raise StageMapError(f"line {number}: version {version} where versions are 1, 2, 3 … and stand together")
        search = searches.setdefault(version, {}).setdefault(stage, [])
        if rank != len(search) + 1:
            raise StageMapError(f"line {number}: rank {rank} where {len(search) + 1} is next")
        if any(path in paths for paths in searches[version].values()):
            raise StageMapError(f"line {number}: {'.'.join(path)} stands twice in version {version}")
        search.append(path)
    if not searches:
        raise StageMapError("line 2: there is no row")
    return tuple(_make(version, search) for version, search in searches.items())


def _read_row(row: Iterable[str]) -> tuple[int, str, int, KeyPath]:
    version, level, stage, rank, key_path, since = row
    if level not in ("total", "stage") or (level == "stage") != bool(stage):
        raise ValueError(f"level {level!r} with stage {stage!r}; it is total without a stage, or stage with one")
    path = tuple(key_path.split("."))
    if len(path) < 2 or not all(path):
        raise ValueError(f"{key_path!r} is no key path of two names or more")
    if not since:
        raise ValueError("there is no milestone")
    return int(version), stage, int(rank), path


def _make(version: int, searches: Mapping[str, list[KeyPath]]) -> StageMap:
    if "" not in searches:
        raise StageMapError(f"version {version} has no row of level total")
    paths = {stage: tuple(search) for stage, search in searches.items()}
    return StageMap(version, paths.pop(""), MappingProxyType(paths))


STAGE_MAPS: Final = read_stage_maps(resources.files("schemas").joinpath("stage_map.csv").read_text("utf-8"))
"""Every version, the oldest first."""

STAGE_MAP: Final = STAGE_MAPS[-1]
"""The map in force."""
