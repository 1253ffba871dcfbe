"""Today's seats and MRR of the accounts that this worker owns, added up for Prometheus."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np

from streams.ledger.billing.columns import Ints, days_of, in_force, keys, owners_of, pick
from streams.ledger.billing.days import FOR_EVER
from streams.ledger.billing.history import PLANS, History

AccountKey = tuple[int, str]
"""Partition and account id."""


class LiveBilling:
    """Sums over accounts of one day.

    Attributes:
        seats, seats_added: by plan; seats_added are the 28 days' growth.
        mrr, base, retained: MRR; that of 12 months ago; that of the accounts that had some then. Cents.
    """

    def __init__(self) -> None:
        self.seats: Counter[str] = Counter()
        self.seats_added: Counter[str] = Counter()
        self.mrr = self.base = self.retained = 0
        self._accounts: dict[AccountKey, tuple[int, _Today]] = {}

    def knows(self, key: AccountKey, day: int) -> bool:
        """Whether the account's part is that of `day`."""
        known = self._accounts.get(key)
        return known is not None and known[0] > day

    def count(self, partition: int, history: History, day: int) -> None:
        """Takes the parts of `day` of accounts of a partition."""
        for account_id, (today, until) in zip(history.account_ids, _today(history, day), strict=True):
            key = partition, account_id
            known = self._accounts.get(key)
            if known is not None:
                self._add(known[1], -1)
            self._add(today, 1)
            self._accounts[key] = until, today

    def _add(self, today: _Today, sign: int) -> None:
        plans, mrr, base, retained = today
        for plan, seats, added in plans:
            self.seats[plan] += sign * seats
            self.seats_added[plan] += sign * added
        self.mrr += sign * mrr
        self.base += sign * base
        self.retained += sign * retained


_Today = tuple[list[tuple[str, int, int]], int, int, int]
"""([(plan, seats, seats added), …], MRR, base, retained)."""


def _today(history: History, day: int) -> Iterator[tuple[_Today, int]]:
    """The part of `day` of each account, and the first day on which it is another."""
    number, subscriptions = len(history.account_ids), len(history.sub_names)
    held, grown, flow = history.held, history.added, history.flow
    asked = keys(np.arange(subscriptions), np.full(subscriptions, day))
    until = np.full(subscriptions, FOR_EVER)
    for owners, days in ((held.sub, held.day), (grown.sub, grown.day), (flow.owner, flow.day)):
        until = np.minimum(until, _next(keys(owners, days), asked))
    state = in_force(keys(held.sub, held.day), asked)
    last = pick(held.last, state, -1)
    until = np.where(last >= day, np.minimum(until, last + 1), until)
    added = pick(grown.added, in_force(keys(grown.sub, grown.day), asked))
    now = in_force(keys(flow.owner, flow.day), asked)
    base, mrr, ends = np.zeros(number, np.int64), np.zeros(number, np.int64), np.full(number, FOR_EVER)
    np.add.at(base, history.sub_account, pick(flow.base, now))
    np.add.at(mrr, history.sub_account, pick(flow.mrr, now))
    np.minimum.at(ends, history.sub_account, until)
    plans: list[list[tuple[str, int, int]]] = [[] for _ in range(number)]
    shown = np.flatnonzero(last >= day)
    places = state[shown]
    for account, plan, seats, more in zip(
        history.sub_account[shown].tolist(), held.plan[places].tolist(), held.seats[places].tolist(),
        added[shown].tolist(), strict=True,
    ):  # fmt: skip
        plans[account].append((PLANS[plan], seats, more))
    for some, has, had, end in zip(plans, mrr.tolist(), base.tolist(), ends.tolist(), strict=True):
        yield (some, has, had, has if had else 0), end


def _next(series: Ints, asked: Ints) -> Ints:
    """The first day in the sorted series that is behind the one asked, of the same owner; FOR_EVER is none."""
    if not len(series):
        return np.full(len(asked), FOR_EVER)
    places = np.searchsorted(series, asked, "right")
    found = series[np.minimum(places, len(series) - 1)]
    return np.where((places < len(series)) & (owners_of(found) == owners_of(asked)), days_of(found), FOR_EVER)
