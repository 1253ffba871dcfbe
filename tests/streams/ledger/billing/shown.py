"""Tables as the rows of the books show them, without ClickHouse: what the views of the facts do, in plain Python."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any

from schemas.ping import EPOCH
from tests.streams.ledger.billing.world import BillingWorld

EPOCH_DAY = EPOCH.date()
Row = dict[str, Any]

MOVEMENT = (
    "event_id", "occurred_at", "subscription_id", "kind", "channel", "plan_from", "plan_to", "seats_from", "seats_to",
    "mrr_from", "mrr_to", "seat_mrr", "tier_mrr", "discount_mrr", "price_mrr",
)  # fmt: skip
PURCHASE = ("event_id", "occurred_at", "channel", "addon", "quantity", "amount")
ACTION = ("motion", "event_id", "occurred_at", "channel")
PROFILE = (
    "parent_account_id", "country", "geo", "territory", "segment", "buyer_persona", "acquisition_channel",
    "acquisition_source",
)  # fmt: skip
DIMENSIONS = (
    "total", "plan", "geo", "territory", "segment", "buyer_persona", "acquisition_channel", "deployment",
)  # fmt: skip


def facts(world: BillingWorld, table: str, as_of: dt.date) -> list[Row]:
    """Rows of `seat_movement`, `addon_purchase` or `self_service_action`."""
    group, columns = {
        "seat_movement": ("movement", MOVEMENT),
        "addon_purchase": ("addon", PURCHASE),
        "self_service_action": ("action", ACTION),
    }[table]
    found = []
    for (account_id,), row in world.rows()["account"].items():
        for element in row[group]:
            fact = {"account_id": account_id} | dict(zip(columns, element, strict=True))
            fact["occurred_at"] = EPOCH + dt.timedelta(microseconds=fact["occurred_at"])
            for name in fact:
                if "mrr" in name or name == "amount":
                    fact[name] = Decimal(fact[name]).scaleb(-2)
            if fact["occurred_at"].date() <= as_of:
                found.append(fact)
    return found


def account_kpi(world: BillingWorld, as_of: dt.date) -> list[Row]:
    """Rows of `account_kpi` without what comes from pings: `billable_users` and `max_users` of `seats_synced` alone."""
    found = []
    last = (as_of - EPOCH_DAY).days
    for (account_id, subscription_id), row in world.rows()["subscription"].items():
        for day in range(row["state"][0][0], last + 1):
            _, until, deployment, plan, seats, mrr = _at(row["state"], day)
            if until < day:
                continue
            profile = _at(row["profile"], day) or ("",) * 9
            _, added, removed = _at(row["added"], day) or (0, 0, 0)
            _, base = _at(row["base"], day) or (0, 0)
            synced = _at(row["sync"], day)
            found.append(
                {
                    "as_of": EPOCH_DAY + dt.timedelta(day), "account_id": account_id, "subscription_id": subscription_id,
                    "deployment": deployment, "plan": plan, "seats": seats, "seats_added_28d": added,
                    "seats_removed_28d": removed, "mrr": Decimal(mrr).scaleb(-2), "mrr_12m_ago": Decimal(base).scaleb(-2),
                    "billable_users": None if synced is None or synced[1] < 0 else synced[1],
                    "max_users": None if synced is None or synced[2] < 0 else synced[2],
                }
                | dict(zip(PROFILE, profile[1:] if len(profile) == 9 else profile, strict=True))
            )  # fmt: skip
    return found


def held(world: BillingWorld, as_of: dt.date) -> dict[tuple[dt.date, str, str], tuple[int, Decimal]]:
    """(seats, MRR) by (day, dimension, value), from the steps: `kpi_seats` and `kpi_mrr`."""
    sums: dict[tuple[int, int], list[int]] = {}
    names = {number: (dimension, value) for number, dimension, value in world.cells.unwritten()}
    for row in world.rows()["account"].values():
        for cut, day, *more in row["held"]:
            for cell in row["cut"][cut - 1][0]:
                _add(sums, (cell, day), more)
    found = {}
    last = (as_of - EPOCH_DAY).days
    for cell in {cell for cell, _ in sums}:
        for day, (rows, seats, mrr) in _running(sums, cell, last):
            if rows:
                found[EPOCH_DAY + dt.timedelta(day), *names[cell]] = seats, Decimal(mrr).scaleb(-2)
    return found  # type: ignore[return-value]


def added(world: BillingWorld, as_of: dt.date) -> dict[tuple[dt.date, str, str], int]:
    """Seats added in 28 days by (day, dimension, value), where there are any, from the windows of the movements."""
    sums: dict[tuple[int, int], list[int]] = {}
    names = {number: (dimension, value) for number, dimension, value in world.cells.unwritten()}
    for row in world.rows()["account"].values():
        for movement, start, stop, cut in row["window"]:
            move = row["movement"][movement - 1]
            if move[MOVEMENT.index("kind")] == "growth":
                seats = move[MOVEMENT.index("seats_to")] - move[MOVEMENT.index("seats_from")]
                for cell in row["cut"][cut - 1][0]:
                    _add(sums, (cell, start), [seats])
                    _add(sums, (cell, stop), [-seats])
    last = (as_of - EPOCH_DAY).days
    return {
        (EPOCH_DAY + dt.timedelta(day), *names[cell]): seats
        for cell in {cell for cell, _ in sums}
        for day, (seats,) in _running(sums, cell, last)
        if seats
    }  # type: ignore[misc]


def retention(world: BillingWorld, as_of: dt.date) -> dict[tuple[dt.date, str], tuple[Decimal, ...]]:
    """(base, current, gross, customers, churned) by (day, level) of the levels subscription and account, where not all 0."""
    sums: dict[tuple[int, int], list[int]] = {}
    for row in world.rows()["account"].values():
        for level, day, base, _, *more in row["retention"]:
            for one in (0, 1) if level == 2 else (level,):
                _add(sums, (one, day), [base, *more])
    last = (as_of - EPOCH_DAY).days
    return {
        (EPOCH_DAY + dt.timedelta(day), ("subscription", "account")[level]): (
            *(Decimal(money).scaleb(-2) for money in (base, current, gross)), customers, churned,
        )
        for level in (0, 1)
        for day, (base, current, gross, customers, churned) in _running(sums, level, last)
        if base
    }  # fmt: skip


def _at(series: Sequence[tuple[Any, ...]], day: int) -> tuple[Any, ...] | None:
    found = None
    for element in series:
        if element[0] > day:
            break
        found = element
    return found


def _add(sums: dict[tuple[int, int], list[int]], key: tuple[int, int], more: Sequence[int]) -> None:
    known = sums.setdefault(key, [0] * len(more))
    for place, number in enumerate(more):
        known[place] += number


def _running(sums: dict[tuple[int, int], list[int]], cell: int, last: int) -> Iterator[tuple[int, list[int]]]:
    days = sorted(day for one, day in sums if one == cell)
    running = [0] * len(sums[cell, days[0]]) if days else []
    for day, following in zip(days, [*days[1:], last + 1], strict=True):
        for place, number in enumerate(sums[cell, day]):
            running[place] += number
        for one in range(day, min(following, last + 1)):
            yield one, list(running)
