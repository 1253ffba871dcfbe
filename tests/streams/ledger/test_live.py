"""Live figures are sums over what was counted last of each scope, whatever is counted together, and in which order."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from deploy.fleet import Fleet, FleetSpec
from schemas.ping import EPOCH
from sinks.topics import USAGE_PINGS
from streams.forwarder import partition_of
from streams.ledger.book import Book, Rules, UsageRows
from streams.ledger.live import LiveFigures
from streams.ledger.names import Names
from streams.ledger.pseudonym import Pseudonymiser
from streams.ledger.reading import GITLAB_COM
from streams.ledger.scope import Scope
from streams.ledger.usage import Figures
from tests.faults.world import LAST_DAY
from tests.streams.ledger.record import Record

END = (LAST_DAY - EPOCH.date()).days
PARTITIONS = 2


def books(names: Names, seed: int) -> list[Book]:
    """Those of a small fleet's pings; what they send each other is left out."""
    spec = FleetSpec(last_day=LAST_DAY, days=12, seed=seed, installations=8, groups=3, users=5, leaves=20)
    found = []
    for partition in range(PARTITIONS):
        rules = Rules(partitions=PARTITIONS, partition_of=lambda key: partition_of(key, PARTITIONS))
        book = Book(partition, {}, names, Pseudonymiser(b"0123456789abcdef"), rules)
        book.claim(END)
        sent = [one for one in Fleet(spec).messages() if one.topic == USAGE_PINGS and one.key is not None]
        own = [one for one in sent if partition_of(one.key or b"", PARTITIONS) == partition]
        book.fold([Record(one.key, one.value, at, one.timestamp_ms) for at, one in enumerate(own)], END)
        found.append(book)
    return found


def slowly(scope: Scope, day: int) -> dict[int, int]:
    """A scope's figures above 0, by themselves."""
    out = Figures(64)
    if scope.ledger.reach >= 0:
        scope.ledger.count_days(day, day, out)
    return {
        name: mau
        for name, mau in zip(out.name[: out.length].tolist(), out.mau[: out.length].tolist(), strict=True)
        if mau
    }


@pytest.mark.parametrize("seed", range(4))
def test_sums_are_those_of_what_was_counted_last(seed: int) -> None:
    chance = random.Random(seed)
    names = Names()
    live = LiveFigures(names.is_stage)
    every = [(book, scope) for book in books(names, seed) for scope in book.all_scopes()]
    assert {scope.key.population for _, scope in every} >= {"self_managed", "group"} and len(every) > 8
    last: dict[tuple[int, object], tuple[int, dict[int, int]]] = {}
    for _ in range(12):
        day = END + chance.choice((-3, 0, 5, 20, 40))
        partition = chance.randrange(PARTITIONS)
        own = [(book, scope) for book, scope in every if book.partition == partition]
        some = chance.sample(own, chance.randint(0, len(own)))
        directory = own[0][0].directory
        if chance.random() < 0.5:
            live.count(partition, directory, [scope for _, scope in some], day)
        else:  # from the rows of a flush, of which some do not reach up to the day
            ends = [day - chance.randint(0, 1) for _ in some]
            rows = UsageRows()
            first = [
                max(end - chance.randint(0, 9), scope.ledger.first_day)
                for (_, scope), end in zip(some, ends, strict=True)
            ]
            rows.add(directory, [(scope, a, b) for (_, scope), a, b in zip(some, first, ends, strict=True)], partition)
            live.take(rows, ends, day)
            some = [one for one, end in zip(some, ends, strict=True) if end == day]
        last |= {(partition, scope.key): (day, slowly(scope, day)) for _, scope in some}
        sums: Counter[tuple[str, int]] = Counter()
        by_stages: Counter[tuple[str, int]] = Counter()
        for (_, key), (_, figures) in last.items():
            for name, users in figures.items():
                sums[key.population, name] += users  # type: ignore[attr-defined]
            if figures and key.population != GITLAB_COM:  # type: ignore[attr-defined]
                by_stages[key.population, sum(map(names.is_stage, figures))] += 1  # type: ignore[attr-defined]
        assert +Counter(live.sums) == sums and set(sums) <= set(live.sums)
        assert +live.by_stages == by_stages
        behind = list(live.behind(partition, [scope for _, scope in own], day))
        assert behind == [scope for _, scope in own if last.get((partition, scope.key), (None,))[0] != day]
