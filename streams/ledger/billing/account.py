"""An account as its events make it: the fold of all of them in the order in which they took effect.

Nothing is carried on from the last time: an older event that comes in changes everything behind it, so the account is read
from its first event again. Days are days since 1970, UTC; times microseconds since 1970; money cents of the reporting
currency.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from schemas.billing import PLAN_RANK, Addon, BillingEvent, Profile, State
from streams.ledger.billing.days import FOR_EVER, KEPT_MONTHS, WINDOW, months_after
from streams.ledger.records import DAY_US

NEW, GROWTH, RENEWAL_GROWTH, CONTRACTION, CHURN, NONE = (
    "new", "growth", "renewal_growth", "contraction", "churn", "none",
)  # fmt: skip
MOTIONS = ("trial", "purchase", "growth", "upgrade", "renew", "outreach")
SELF_SERVICE = "self_service"

CANCELLED = "subscription_cancelled"
RENEWED = "subscription_renewed"
MOTION_OF_TYPE = {
    "trial_started": "trial",
    "subscription_created": "purchase",
    "addon_purchased": "growth",
    RENEWED: "renew",
    "outreach_requested": "outreach",
}

NO_PROFILE = Profile("", "", "", "", "", "", "", "")


class Movement(NamedTuple):
    """A change of a subscription's state, a row of `seat_movement`. The four parts add up to the change in MRR."""

    event_id: str
    occurred_at: int
    subscription_id: str
    kind: str
    channel: str
    plan_from: str
    plan_to: str
    seats_from: int
    seats_to: int
    mrr_from: int
    mrr_to: int
    seat_mrr: int
    tier_mrr: int
    discount_mrr: int
    price_mrr: int


class Held(NamedTuple):
    """What a subscription is from the end of `day` on. `last`: the last day that shows it."""

    day: int
    last: int
    deployment: str
    plan: str
    seats: int
    mrr: int


class Purchase(NamedTuple):
    """A row of `addon_purchase`."""

    event_id: str
    occurred_at: int
    channel: str
    addon: str
    quantity: int
    amount: int


class Action(NamedTuple):
    """A row of `self_service_action`."""

    motion: str
    event_id: str
    occurred_at: int
    channel: str


class Synced(NamedTuple):
    """Users that a subscription's installations told of, from the end of `day` on; None is unknown."""

    day: int
    billable_users: int | None
    max_users: int | None


@dataclass(slots=True)
class Subscription:
    """One subscription, by day.

    held: its states, one for each day that ends with another event's.
    movements: all changes of state, in order.
    synced: what `seats_synced` said, one for each day that ends with another event's.
    """

    held: list[Held] = field(default_factory=list)
    movements: list[Movement] = field(default_factory=list)
    synced: list[Synced] = field(default_factory=list)

    def seats_changed(self) -> list[tuple[int, int, int]]:
        """(day, added, removed) of the 28-day sums from that day on: `growth` comes in on its day and goes 28 days later, so
        do contraction and churn, as positive numbers."""
        changes: dict[int, list[int]] = {}
        for move in self.movements:
            seats = move.seats_to - move.seats_from
            if move.kind == GROWTH:
                column = 0
            elif move.kind in (CONTRACTION, CHURN):
                column, seats = 1, -seats
            else:
                continue
            day = move.occurred_at // DAY_US
            changes.setdefault(day, [0, 0])[column] += seats
            changes.setdefault(day + WINDOW, [0, 0])[column] -= seats
        added = removed = 0
        found = []
        for day in sorted(changes):
            more = changes[day]
            if more != [0, 0]:
                added, removed = added + more[0], removed + more[1]
                found.append((day, added, removed))
        return found


@dataclass(slots=True)
class Account:
    """Everything that the events of an account say.

    profiles: (day, profile) from the end of that day on.
    links: for each (kind, id, subscription) the times of the events that carry it, ascending, but for cancellations; kinds
        `subscription`, `license` and `namespace`.
    ticks: for each of `MOTIONS` the first day on which it was done by self-service.
    """

    account_id: str
    first_day: int
    profiles: list[tuple[int, Profile]] = field(default_factory=list)
    subscriptions: dict[str, Subscription] = field(default_factory=dict)
    movements: list[Movement] = field(default_factory=list)
    purchases: list[Purchase] = field(default_factory=list)
    actions: list[Action] = field(default_factory=list)
    links: dict[tuple[str, str, str], list[int]] = field(default_factory=dict)
    ticks: list[int] = field(default_factory=lambda: [FOR_EVER] * len(MOTIONS))


def order(event: BillingEvent) -> tuple[int, int, str]:
    """What events of an account are sorted by."""
    return event.occurred_at, event.sequence, event.event_id


def read_account(events: Iterable[BillingEvent]) -> Account:
    """Folds all events of one account, in any order; there is at least one."""
    ordered = sorted(events, key=order)
    account = Account(ordered[0].account_id, ordered[0].occurred_at // DAY_US)
    states: dict[str, State] = {}
    for event in ordered:
        if event.state is not None:
            _take_state(account, states, event, event.state)
        elif event.profile is not None:
            _take(account.profiles, (event.occurred_at // DAY_US, event.profile))
        elif event.sync is not None:
            sync = event.sync
            if sync.subscription_id:
                synced = account.subscriptions.setdefault(sync.subscription_id, Subscription()).synced
                _take(synced, Synced(event.occurred_at // DAY_US, sync.billable_users, sync.max_users))
        elif event.addon is not None:
            account.purchases.append(_purchase(event, event.addon))
        motion = MOTION_OF_TYPE.get(event.type)
        if motion is not None:
            _act(account, event, motion)
    return account


def _take(series: list, new: tuple) -> None:  # type: ignore[type-arg]
    """Appends to a series by day; of several of a day the last stands."""
    if series and series[-1][0] == new[0]:
        series[-1] = new
    else:
        series.append(new)


def _take_state(account: Account, states: dict[str, State], event: BillingEvent, block: State) -> None:
    name = block.subscription_id
    at, day = event.occurred_at, event.occurred_at // DAY_US
    cancelled = event.type == CANCELLED
    if not cancelled:  # it keeps what it has, and takes nothing from one that came after it
        _link(account, name, block, at)
    seats, mrr = (0, 0) if cancelled else (block.seats, block.mrr)
    before = states.get(name)
    plan_from, seats_from, mrr_from = ("", 0, 0) if before is None else (before.plan, before.seats, before.mrr)
    list_from = 0 if before is None else before.list_mrr
    list_to = 0 if cancelled else block.list_mrr
    kind = _kind(seats_from, seats, event.type == RENEWED or block.at_renewal)
    move = Movement(
        event.event_id, at, name, kind, event.channel, plan_from, block.plan, seats_from, seats, mrr_from, mrr,
        *_parts(plan_from, block.plan, seats_from, seats, mrr_from, mrr, list_from, list_to),
    )  # fmt: skip
    states[name] = State(name, block.deployment, block.plan, seats, mrr, list_to, "", "", False)
    subscription = account.subscriptions.get(name)
    if subscription is None:
        subscription = account.subscriptions[name] = Subscription()
    account.movements.append(move)
    subscription.movements.append(move)
    held = subscription.held
    if held and held[-1].day == day:
        held.pop()
    elif held and held[-1].last >= day:
        held[-1] = held[-1]._replace(last=day - 1)
    last = months_after(day, KEPT_MONTHS) if cancelled else FOR_EVER
    held.append(Held(day, last, block.deployment, block.plan, seats, mrr))
    if kind == GROWTH:
        _act(account, event, "growth")
    if event.type == "plan_changed" and before is not None and PLAN_RANK[block.plan] > PLAN_RANK[plan_from]:
        _act(account, event, "upgrade")


def _link(account: Account, name: str, block: State, at: int) -> None:
    for kind, linked in (("subscription", name), ("license", block.license_sha256), ("namespace", block.namespace_id)):
        if linked:
            account.links.setdefault((kind, linked, name), []).append(at)


def _kind(seats_from: int, seats_to: int, renewal: bool) -> str:
    if seats_to == seats_from:
        return NONE
    if seats_from == 0:
        return NEW
    if seats_to == 0:
        return CHURN
    if seats_to < seats_from:
        return CONTRACTION
    return RENEWAL_GROWTH if renewal else GROWTH


def _parts(
    plan_from: str,
    plan_to: str,
    seats_from: int,
    seats_to: int,
    mrr_from: int,
    mrr_to: int,
    list_from: int,
    list_to: int,
) -> tuple[int, int, int, int]:
    """The change in MRR by its causes: seats, tier, discount, price."""
    change = mrr_to - mrr_from
    if seats_from == 0 or seats_to == 0:
        return change, 0, 0, 0
    by_seats = half_even((seats_to - seats_from) * mrr_from, seats_from)
    rest = change - by_seats
    if PLAN_RANK[plan_from] != PLAN_RANK[plan_to]:
        return by_seats, rest, 0, 0
    discount = half_even(mrr_to * list_from - list_to * mrr_from, list_from) if list_from and list_to else 0
    return by_seats, 0, discount, rest - discount


def half_even(numerator: int, denominator: int) -> int:
    """The nearest integer to a quotient, of two equally near ones the even one. The denominator is positive."""
    quotient, rest = divmod(numerator, denominator)
    if 2 * rest > denominator or (2 * rest == denominator and quotient & 1):
        quotient += 1
    return quotient


def _purchase(event: BillingEvent, addon: Addon) -> Purchase:
    return Purchase(event.event_id, event.occurred_at, event.channel, addon.addon, addon.quantity, addon.amount)


def _act(account: Account, event: BillingEvent, motion: str) -> None:
    account.actions.append(Action(motion, event.event_id, event.occurred_at, event.channel))
    if event.channel == SELF_SERVICE:
        which = MOTIONS.index(motion)
        account.ticks[which] = min(account.ticks[which], event.occurred_at // DAY_US)
