"""What a fleet is made from, and what it makes."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Final

MAX_REORDER_DAYS: Final = 17
"""One message may come this much too early and its neighbour this much too late, so record timestamps run backwards by
twice as much: 34 days, inside the 36 that the contract allows."""

SHARES: Final = (
    "duplicates", "reordered", "late", "late_billing", "future", "broken", "wrong_keys", "conflicts",
)  # fmt: skip


LEAST: Final = {
    "days": 1, "installations": 0, "groups": 0, "users": 1, "leaves": 0, "accounts": 0, "billing_days": 1,
}  # fmt: skip


def usual_accounts(installations: int, groups: int) -> int:
    """How many accounts suit a fleet: two for three of its places, as many of these are nobody's and some share one."""
    return 2 * (installations + groups) // 3


@dataclass(frozen=True, kw_only=True)
class FleetSpec:
    """A fleet, whole. Shares are of pings and of billing events, from 0 to 1; with all of them 0 every message is one
    applied ping or event.

    Attributes:
        last_day: UTC day of the newest pings. A ping tells of the days before it, so the newest activity is a day older.
        days: how many days pings are sent on.
        seed: another seed, another fleet.
        installations: self-managed installations.
        groups: top-level groups of GitLab.com, which share a pool of users; with any there is GitLab.com's own ping too.
        users: people of the median installation (log-normal, at most 15 times as many).
        leaves: numbers in a ping of today's style beside those that its people make; real ones have some 4,800.
        accounts: who buys, and owns most of the licensed installations and the groups; 0 for a fleet without billing.
        billing_days: days of the accounts' history, which ends on `last_day` too.
        reporting_currency: the one that other currencies' rates lead to.
        duplicates: messages that are sent once more within three days, some of them written differently.
        reordered: messages that are delivered up to `reorder_days` too early or too late, under their own timestamp.
        late: pings with entries of more than 36 days ago.
        late_billing: billing events that are delivered up to 120 days after they occurred, under their own timestamp.
        future: pings with entries of more than a day ahead; a quarter of them come from a clock that is wrong as a whole.
            For billing, events of a wrong clock, sent in addition.
        broken: messages that are no pings and no events, sent in addition.
        wrong_keys: messages with no key or with another's.
        conflicts: billing events whose id is sent once more with another content.
    """

    last_day: dt.date
    days: int = 60
    seed: int = 1
    installations: int = 50
    groups: int = 0
    users: int = 40
    leaves: int = 100
    accounts: int = 0
    billing_days: int = 548
    reporting_currency: str = "USD"
    duplicates: float = 0.0
    reordered: float = 0.0
    reorder_days: int = 3
    late: float = 0.0
    late_billing: float = 0.0
    future: float = 0.0
    broken: float = 0.0
    wrong_keys: float = 0.0
    conflicts: float = 0.0

    def __post_init__(self) -> None:
        """Refuses what makes no fleet.

        Raises:
            ValueError: a sentence that names the field.
        """
        for name in SHARES:
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is a share from 0 to 1, found {getattr(self, name)}")
        for name, least in LEAST.items():
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, found {getattr(self, name)}")
        if not 1 <= self.reorder_days <= MAX_REORDER_DAYS:
            raise ValueError(f"reorder_days must be 1 to {MAX_REORDER_DAYS}, found {self.reorder_days}")
        if self.first_day.year < 1971:
            raise ValueError(f"the fleet would begin on {self.first_day}; pings are of 1971 or younger")
        if self.accounts and self.first_billing_day.year < 1971:
            raise ValueError(f"billing would begin on {self.first_billing_day}; events are of 1971 or younger")

    @property
    def first_day(self) -> dt.date:
        """UTC day of the oldest pings."""
        return dt.date.fromordinal(max(1, self.last_day.toordinal() - self.days + 1))

    @property
    def first_billing_day(self) -> dt.date:
        """UTC day from which on accounts buy."""
        return dt.date.fromordinal(max(1, self.last_day.toordinal() - self.billing_days + 1))
