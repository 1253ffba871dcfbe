"""One subscription of an account: its state, and how an event tells it."""

from __future__ import annotations

import datetime as dt
from functools import lru_cache
from typing import Any

from deploy.fleet.market import PLANS_BY_RANK, money, price
from deploy.fleet.ownership import license_sha256
from deploy.fleet.sender import DAY_MS, EPOCH_DAY

Document = dict[str, Any]


class Subscription:
    """State after the newest event. Days are ordinals.

    Attributes:
        unit: list price of a seat and month in the smallest unit of `currency`; `discount` in percent.
        tells_list: its events carry `list_mrr`.
        licence: number of the newest licence, -1 before the first.
        term: days of a term, which ends on the day `ends`.
        known_users: height of users that the seats are reconciled with, 0 when unknown.
    """

    __slots__ = (
        "currency", "deployment", "discount", "ends", "known_users", "licence", "name", "namespace_id", "rank", "reconciles",
        "seats", "syncs", "tells_list", "term", "unit",
    )  # fmt: skip

    def __init__(self, name: str, deployment: str, rank: int, seats: int, currency: str, namespace_id: str) -> None:
        self.name = name
        self.deployment = deployment
        self.rank = rank
        self.seats = seats
        self.currency = currency
        self.namespace_id = namespace_id
        self.unit = price(rank, currency)
        self.discount = 0
        self.tells_list = True
        self.licence = -1
        self.term = 365
        self.ends = 0
        self.known_users = 0
        self.syncs = False
        self.reconciles = False

    def change_plan(self, deployment: str, rank: int) -> None:
        """Another plan, at its list price."""
        self.deployment, self.rank = deployment, rank
        self.unit = price(rank, self.currency)

    def change_currency(self, currency: str) -> None:
        """The same plan at the list price of another currency."""
        self.currency = currency
        self.unit = price(self.rank, currency)

    def block(self, rate: str, *, at_renewal: bool = False, seats: int | None = None) -> Document:
        """The block `subscription` of an event, with other seats where they are given. `rate` is '' for none."""
        seats = self.seats if seats is None else seats
        block: Document = {
            "subscription_id": self.name,
            "deployment": self.deployment,
            "plan": PLANS_BY_RANK[self.deployment][self.rank],
            "seats": seats,
            "mrr": money(seats * self.unit * (100 - self.discount) // 100, self.currency),
        }
        if self.tells_list:
            block["list_mrr"] = money(seats * self.unit, self.currency)
        block["currency"] = self.currency
        if rate:
            # Every second one as a number of JSON: both spellings are the contract's.
            block["fx_rate"] = rate if self.tells_list else float(rate)
        if self.namespace_id:
            block["namespace_id"] = self.namespace_id
        if self.licence >= 0 and self.deployment == "self_managed":
            block["license_sha256"] = _sha256(self.name, self.licence)
        block["term_start"] = _date(self.ends - self.term)
        block["term_end"] = _date(self.ends)
        if at_renewal:
            block["at_renewal"] = True
        return block


_sha256 = lru_cache(license_sha256)


@lru_cache(4096)
def _date(day: int) -> str:
    return dt.date.fromordinal(day).isoformat()


def midnight(day: int) -> int:
    """Unix time in milliseconds at which a day begins."""
    return (day - EPOCH_DAY) * DAY_MS
