"""Today's figures of the scopes that this worker owns, added up for Prometheus."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from streams.ledger.kernels import WINDOW
from streams.ledger.reading import GITLAB_COM
from streams.ledger.records import ScopeKey
from streams.ledger.scope import Scope
from streams.ledger.usage import Figures


class LiveFigures:
    """Sums of mau over scopes, by population and figure, and scopes by stages used."""

    def __init__(self, is_stage: Callable[[int], bool]) -> None:
        self._is_stage = is_stage
        self._scopes: dict[tuple[int, ScopeKey], tuple[int, dict[int, int]]] = {}
        self.sums: Counter[tuple[str, int]] = Counter()
        self.by_stages: Counter[tuple[str, int]] = Counter()

    def behind(self, partition: int, scopes: Iterable[Scope], day: int) -> Iterator[Scope]:
        """Those of a partition's scopes whose figures here are not of `day`."""
        for scope in scopes:
            known = self._scopes.get((partition, scope.key))
            if known is None or known[0] != day:
                yield scope

    def count(self, partition: int, scope: Scope, day: int) -> None:
        """Takes the figures of `day` of a partition's scope."""
        out = Figures(64)
        if day - WINDOW < scope.ledger.newest:
            scope.ledger.count_days(day, day, out)
        mau = out.mau[: out.length]
        some = np.flatnonzero(mau)
        self._replace(partition, scope.key, day, dict(zip(out.name[some].tolist(), mau[some].tolist(), strict=True)))

    def _replace(self, partition: int, key: ScopeKey, day: int, figures: dict[int, int]) -> None:
        _, old = self._scopes.get((partition, key), (0, {}))
        for sign, some in ((-1, old), (1, figures)):
            used = 0
            for name, users in some.items():
                self.sums[key.population, name] += sign * users
                used += self._is_stage(name)
            if some and key.population != GITLAB_COM:  # which is one scope, in shards
                self.by_stages[key.population, used] += sign
        self._scopes[partition, key] = day, figures
