"""What the changelogs hold, read from their records and nothing else."""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Iterable, Iterator

from aiokafka.structs import ConsumerRecord

from streams.ledger.billing.book import Book as BillingBook
from streams.ledger.billing.book import Rules as BillingRules
from streams.ledger.book import Book, Rules
from streams.ledger.names import Names
from streams.ledger.pseudonym import Pseudonymiser
from streams.ledger.state import VERSION
from streams.ledger.usage import Figures
from tests.oracle.usage import Expected
from tests.running import KEY

EPOCH = dt.date(1970, 1, 1)

Figure = tuple[dt.date, str, str, str]
"""Day, scope_id, stage, feature."""


def values(changelog: Iterable[ConsumerRecord]) -> Iterator[tuple[int, dict[bytes, bytes]]]:
    """Each partition, and of each of its keys the value of the highest version."""
    found: dict[int, dict[bytes, bytes]] = defaultdict(dict)
    for record in changelog:
        assert record.key is not None and record.value is not None
        some = found[record.partition]
        known = some.get(record.key)
        if known is None or known[VERSION] <= record.value[VERSION]:
            some[record.key] = record.value
    yield from found.items()


def usage_figures(changelog: Iterable[ConsumerRecord], as_of: dt.date) -> dict[Figure, tuple[int, int, int]]:
    """(dau, wau, mau) of every scope, day and feature that the usage state knows."""
    names, figures_of = Names(), defaultdict[Figure, tuple[int, int, int]](lambda: (0, 0, 0))
    for partition, some in values(changelog):
        for scope in Book(partition, some, names, Pseudonymiser(KEY.encode()), Rules()).all_scopes():
            ledger = scope.ledger
            if ledger.newest < 0:
                continue
            last = min((as_of - EPOCH).days, ledger.last_day)
            figures = Figures()
            lengths, counted = ledger.count_days(ledger.oldest, last, figures)
            at = 0
            for back, (length, number) in enumerate(zip(lengths.tolist(), counted.tolist(), strict=True)):
                day = EPOCH + dt.timedelta(days=ledger.oldest + back)
                for i in range(at, at + number):
                    key = (day, scope.key.scope_id, *names.name(int(figures.name[i])))
                    dau, wau, mau = figures_of[key]  # of another shard
                    figures_of[key] = dau + int(figures.dau[i]), wau + int(figures.wau[i]), mau + int(figures.mau[i])
                at += length
    return dict(figures_of)


def oracle_figures(wanted: Expected) -> dict[Figure, tuple[int, int, int]]:
    """The same from the oracle."""
    return {
        (row["as_of"], row["scope_id"], row["stage"], row["feature"]): (row["dau"], row["wau"], row["mau"])
        for row in wanted.usage_kpi
        if row["basis"] == "exact"
    }


def billing_events(changelog: Iterable[ConsumerRecord]) -> int:
    """How many events the billing state holds."""
    return sum(
        len(book.events(account))
        for book in (BillingBook(partition, some, BillingRules()) for partition, some in values(changelog))
        for account in book.accounts
    )
