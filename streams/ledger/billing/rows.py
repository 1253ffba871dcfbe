"""Rows of accounts for the sink, as columns."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from streams.ledger.billing.account import Account
from streams.ledger.billing.cells import Cells
from streams.ledger.billing.days import a_year_on
from streams.ledger.billing.steps import steps_of

UNKNOWN = -1


@dataclass
class Group:
    """Columns that have as many elements in each row: elements of all rows one after the other, and how many each row has."""

    elements: list[tuple[Any, ...]] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)

    def add(self, elements: list[Any]) -> None:
        """The next row's."""
        self.elements += elements
        self.lengths.append(len(elements))


@dataclass
class AccountRows:
    """Rows of `billing_account` and `billing_subscription`.

    accounts: (account_id, home, first_day) of each row; subscriptions: (account_id, subscription_id, home).
    versions, subscription_versions: of each row.
    of_account, of_subscription: groups of array columns by their names' first word, in the order of the tables' columns.
    """

    accounts: list[tuple[str, int, int]] = field(default_factory=list)
    versions: list[int] = field(default_factory=list)
    subscriptions: list[tuple[str, str, int]] = field(default_factory=list)
    subscription_versions: list[int] = field(default_factory=list)
    of_account: dict[str, Group] = field(
        default_factory=lambda: {name: Group() for name in (
            "tick", "profile", "link", "movement", "addon", "action", "cut", "held", "window", "retention", "family",
        )}
    )  # fmt: skip
    of_subscription: dict[str, Group] = field(
        default_factory=lambda: {name: Group() for name in ("state", "base", "added", "sync", "profile")}
    )

    def add(self, account: Account, cells: Cells, home: int, version: int) -> None:
        """The rows of an account."""
        steps = steps_of(account, cells)
        profiles = [
            (
                day, profile.parent_account_id, profile.country, profile.geo, profile.territory, profile.segment,
                profile.buyer_persona, profile.acquisition_channel, profile.acquisition_source,
            )
            for day, profile in account.profiles
        ]  # fmt: skip
        self.accounts.append((account.account_id, home, account.first_day))
        self.versions.append(version)
        groups = self.of_account
        groups["tick"].add([(day,) for day in account.ticks])
        groups["profile"].add(profiles)
        groups["link"].add([(*link, times) for link, times in account.links.items()])
        groups["movement"].add(account.movements)
        groups["addon"].add(account.purchases)
        groups["action"].add(account.actions)
        groups["cut"].add([(cut,) for cut in steps.cuts])
        groups["held"].add(steps.held)
        groups["window"].add(steps.window)
        groups["retention"].add(steps.retention)
        groups["family"].add(steps.family)
        for name, subscription in account.subscriptions.items():
            if not subscription.held:
                continue
            self.subscriptions.append((account.account_id, name, home))
            self.subscription_versions.append(version)
            parts = self.of_subscription
            parts["state"].add(subscription.held)
            parts["base"].add(
                list({a_year_on(state.day): (a_year_on(state.day), state.mrr) for state in subscription.held}.values())
            )
            parts["added"].add(subscription.seats_changed())
            parts["sync"].add(
                [
                    (day, UNKNOWN if billable is None else billable, UNKNOWN if most is None else most)
                    for day, billable, most in subscription.synced
                ]
            )
            parts["profile"].add(profiles)
