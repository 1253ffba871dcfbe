"""Today's seats and MRR of the accounts that this worker owns, added up for Prometheus."""

from __future__ import annotations

from collections import Counter

from streams.ledger.billing.account import Account
from streams.ledger.billing.days import FOR_EVER
from streams.ledger.billing.steps import mrr_flow

AccountKey = tuple[int, bytes]
"""Partition and digest."""


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

    def count(self, key: AccountKey, account: Account, day: int) -> None:
        """Takes the account's part of `day`."""
        known = self._accounts.get(key)
        if known is not None:
            self._add(known[1], -1)
        today, until = _today(account, day)
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


_Today = tuple[tuple[tuple[str, int, int], ...], int, int, int]
"""((plan, seats, seats added), …), MRR, base, retained."""


def _today(account: Account, day: int) -> tuple[_Today, int]:
    """The account's part of `day`, and the first day on which it is another."""
    until = FOR_EVER
    plans = []
    mrr = base = 0
    for subscription in account.subscriptions.values():
        state = None
        for held in subscription.held:
            if held.day > day:
                until = min(until, held.day)
                break
            state = held
        if state is not None and state.last >= day:
            until = min(until, state.last + 1)
            added = 0
            for at, seats, _ in subscription.seats_changed():
                if at > day:
                    until = min(until, at)
                    break
                added = seats
            plans.append((state.plan, state.seats, added))
        was = has = 0
        for at, was_then, has_then in mrr_flow(subscription):
            if at > day:
                until = min(until, at)
                break
            was, has = was_then, has_then
        base, mrr = base + was, mrr + has
    return (tuple(plans), mrr, base, mrr if base else 0), until
