"""Today's figures of the scopes that this worker owns, added up for Prometheus."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from streams.ledger.book import UsageRows
from streams.ledger.directory import Directory
from streams.ledger.kernels import WINDOW
from streams.ledger.reading import GITLAB_COM
from streams.ledger.records import ScopeKey
from streams.ledger.scope import Scope

Numbers = npt.NDArray[np.int64]

USERS_BITS = 32
NOTHING = np.empty(0, np.int64)


class _Known(NamedTuple):
    """The figures of a scope that are in the sums: of a day, those above 0, column and users in one number each."""

    day: int
    figures: Numbers


class LiveFigures:
    """Sums of mau over scopes, by population and figure, and scopes by stages used."""

    def __init__(self, is_stage: Callable[[int], bool]) -> None:
        self._is_stage = is_stage
        self._scopes: dict[tuple[int, ScopeKey], _Known] = {}
        self._names: npt.NDArray[np.uint64] = np.empty(0, np.uint64)
        self._columns: Numbers = NOTHING
        """The names so far in their order, and the column of each: columns are in the order in which names came."""
        self._stages: npt.NDArray[np.bool_] = np.empty(0, np.bool_)
        self._sums: dict[str, Numbers] = {}
        """Of each population, by column; -1 where none of its scopes ever had that figure."""
        self.by_stages: Counter[tuple[str, int]] = Counter()

    @property
    def sums(self) -> dict[tuple[str, int], int]:
        """mau of all scopes, by population and the figure's number."""
        names = dict(zip(self._columns.tolist(), self._names.tolist(), strict=True))
        return {
            (population, names[column]): users
            for population, sums in self._sums.items()
            for column, users in enumerate(sums.tolist())
            if users >= 0
        }

    def behind(self, partition: int, scopes: Iterable[Scope], day: int) -> Iterator[Scope]:
        """Those of a partition's scopes whose figures here are not of `day`."""
        for scope in scopes:
            known = self._scopes.get((partition, scope.key))
            if known is None or known.day != day:
                yield scope

    def take(self, rows: UsageRows, last: Sequence[int], day: int) -> None:
        """Takes the figures of `day` from rows that were counted already; `last`: the day up to which each of their scopes was
        asked for. Those that were not asked for `day` stay as they are."""
        if max(last, default=day - 1) < day:
            return
        told = zip(rows.shards, rows.scopes, self._of_day(rows, day), last, strict=True)
        self._replace([(shard, key, figures) for shard, key, figures, end in told if end >= day], day)

    def count(self, partition: int, directory: Directory, scopes: Sequence[Scope], day: int) -> None:
        """Counts the figures of `day` of a partition's scopes."""
        active = [scope for scope in scopes if day - WINDOW < scope.ledger.newest]
        rows = UsageRows()
        rows.add(directory, [(scope, day, day) for scope in active], partition)
        silent = [(partition, scope.key, NOTHING) for scope in scopes if day - WINDOW >= scope.ledger.newest]
        told = zip(active, self._of_day(rows, day), strict=True)
        self._replace([*silent, *((partition, scope.key, figures) for scope, figures in told)], day)

    def _of_day(self, rows: UsageRows, day: int) -> list[Numbers]:
        """The figures of each scope that stands in rows."""
        found = [NOTHING] * len(rows.scopes)
        if not rows.rows:
            return found
        lengths = np.concatenate(rows.lengths)
        chosen = np.concatenate(rows.days) == day
        users = rows.figures.mau[: rows.figures.length].astype(np.int64)
        some = np.repeat(chosen, lengths) & (users > 0)
        packed = self._find(rows.figures.name[: rows.figures.length][some]) << USERS_BITS | users[some]
        owners = np.repeat(np.arange(len(rows.scopes)), rows.repeats)[chosen].tolist()
        ends = np.append(0, np.cumsum(some))[np.cumsum(lengths)][chosen].tolist()
        for owner, (start, end) in zip(owners, pairwise([0, *ends]), strict=True):
            found[owner] = packed[start:end].copy()  # or each would keep all of them in memory
        return found

    def _replace(self, told: Iterable[tuple[int, ScopeKey, Numbers]], day: int) -> None:
        """What is known of scopes gives way to this."""
        by_population: dict[str, list[tuple[Numbers, Numbers]]] = {}
        for partition, key, now in told:
            before = self._scopes.get((partition, key))
            by_population.setdefault(key.population, []).append((before.figures if before else NOTHING, now))
            self._scopes[partition, key] = _Known(day, now)
        for population, pairs in by_population.items():
            for sign, figures in zip((-1, 1), zip(*pairs, strict=True), strict=True):
                self._add(population, sign, figures)

    def _find(self, names: npt.NDArray[np.uint64]) -> Numbers:
        """The columns of names; new ones are made."""
        places = np.searchsorted(self._names, names)
        known = places < len(self._names)
        known[known] = self._names[places[known]] == names[known]
        if not known.all():
            new = np.unique(names[~known])
            columns = np.append(self._columns, np.arange(len(self._columns), len(self._columns) + len(new)))
            self._stages = np.append(self._stages, [self._is_stage(name) for name in new.tolist()])
            joined = np.append(self._names, new)
            order = np.argsort(joined)
            self._names, self._columns = joined[order], columns[order]
            places = np.searchsorted(self._names, names)
        found: Numbers = self._columns[places]
        return found

    def _add(self, population: str, sign: int, figures: Sequence[Numbers]) -> None:
        """Adds or takes away the figures of some scopes of a population."""
        joined = np.concatenate(figures)
        columns = joined >> USERS_BITS
        sums = self._sums.get(population, NOTHING)
        sums = self._sums[population] = np.append(sums, np.full(len(self._stages) - len(sums), -1))
        sums[columns] = np.maximum(sums[columns], 0)
        np.add.at(sums, columns, sign * (joined & ((1 << USERS_BITS) - 1)))
        if population != GITLAB_COM:  # which is one scope, in shards
            lengths = np.array([len(one) for one in figures])
            owners = np.repeat(np.arange(len(figures)), lengths)
            used = np.bincount(owners[self._stages[columns]], minlength=len(figures))[lengths > 0]
            for stages, scopes in zip(*map(np.ndarray.tolist, np.unique(used, return_counts=True)), strict=True):
                self.by_stages[population, stages] += sign * scopes
