"""The slow form of `history`, `steps` and `rows`: one account, an event at a time, in plain Python. Days are days since 1970, UTC; times microseconds since 1970; money cents of the reporting
currency.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple

from schemas.billing import PLAN_RANK, Addon, BillingEvent, Profile, State
from streams.ledger.billing.cells import Cells, Cut, market_of
from streams.ledger.billing.days import FOR_EVER, KEPT_MONTHS, WINDOW, a_year_on, months_after
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
    _leave(account, ordered)
    return account


def _leave(account: Account, ordered: list[BillingEvent]) -> None:
    """Namespaces that a subscription has no more: its state names another one, or it moves to an installation."""
    has: dict[str, list[tuple[int, str]]] = {}
    for event in ordered:
        if event.state is not None and event.type != CANCELLED:
            series = has.setdefault(event.state.subscription_id, [(-1, "")])
            kept = event.state.namespace_id == "" and event.state.deployment == "gitlab_com"
            series.append((event.occurred_at, series[-1][1] if kept else event.state.namespace_id))
    for name, series in has.items():
        in_the_end = dict(series)
        for (_, had), (at, now) in pairwise(series):
            if had not in ("", now, in_the_end[at]):
                account.links.setdefault(("namespace_left", had, name), []).append(at)


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


OF_SUBSCRIPTION, OF_ACCOUNT, OF_BOTH = 0, 1, 2
"""Levels of retention; of an account with one subscription both are one."""


@dataclass(slots=True)
class Steps:
    """Columns of `billing_account`, an element a step.

    cuts: the cells of each combination of plan, deployment and profile; below they are counted from 1.
    held: (cut, day, rows, seats, mrr).
    window: (movement, from, to, cut): the days from..to - 1 that see a movement, counted from 1.
    retention: (level, day, base, mrr, current, gross, customers, churned), from `current` on of customers with a base.
    family: (day, parent, base, mrr) of an account that has had a parent; parent '' is the account itself.
    """

    cuts: list[Cut] = field(default_factory=list)
    held: list[tuple[int, int, int, int, int]] = field(default_factory=list)
    window: list[tuple[int, int, int, int]] = field(default_factory=list)
    retention: list[tuple[int, int, int, int, int, int, int, int]] = field(default_factory=list)
    family: list[tuple[int, str, int, int]] = field(default_factory=list)


Span = tuple[int, int, int]
"""(from, to, cut): what cut a subscription has on the days from..to - 1."""


def steps_of(account: Account, cells: Cells) -> Steps:
    """The steps of an account."""
    out = Steps()
    places: dict[int, int] = {}
    spans: dict[str, list[Span]] = {}
    flows = []
    for name, subscription in account.subscriptions.items():
        if subscription.held:
            spans[name] = _hold(subscription, account.profiles, cells, places, out)
            flows.append(list(mrr_flow(subscription)))
    for number, move in enumerate(account.movements, 1):
        day = move.occurred_at // DAY_US
        end = day + WINDOW
        for start, stop, place in spans[move.subscription_id]:
            if start < end and stop > day:
                out.window.append((number, max(start, day), min(stop, end), place))
    if len(flows) == 1:
        flow = flows[0]
        _retain(OF_BOTH, flow, out)
    else:
        for flow in flows:
            _retain(OF_SUBSCRIPTION, flow, out)
        flow = _together(flows)
        _retain(OF_ACCOUNT, flow, out)
    if any(profile.parent_account_id not in ("", account.account_id) for _, profile in account.profiles):
        _family(account, flow, out)
    return out


def _hold(
    subscription: Subscription,
    profiles: Sequence[tuple[int, Profile]],
    cells: Cells,
    places: dict[int, int],
    out: Steps,
) -> list[Span]:
    """Seats and MRR, by the cut that the subscription has on each day; returns the days of each cut."""
    held = subscription.held
    days = {state.day for state in held}
    days.update(state.last + 1 for state in held if state.last < FOR_EVER)
    days.update(day for day, _ in profiles if day > held[0].day)
    spans: list[Span] = []
    place = seats = mrr = since = 0
    state_at = profile_at = -1
    for day in sorted(days):
        while state_at + 1 < len(held) and held[state_at + 1].day <= day:
            state_at += 1
        while profile_at + 1 < len(profiles) and profiles[profile_at + 1][0] <= day:
            profile_at += 1
        state = held[state_at]
        new_place, new_seats, new_mrr = 0, 0, 0
        if state.last >= day:
            profile = profiles[profile_at][1] if profile_at >= 0 else NO_PROFILE
            cut = cells.cut(state.plan, state.deployment, market_of(profile))
            new_place = places.get(id(cut), 0)
            if not new_place:
                out.cuts.append(cut)
                new_place = places[id(cut)] = len(out.cuts)
            new_seats, new_mrr = state.seats, state.mrr
        if new_place == place:
            if new_seats != seats or new_mrr != mrr:
                out.held.append((place, day, 0, new_seats - seats, new_mrr - mrr))
        else:
            if place:
                out.held.append((place, day, -1, -seats, -mrr))
                spans.append((since, day, place))
            if new_place:
                out.held.append((new_place, day, 1, new_seats, new_mrr))
            since = day
        place, seats, mrr = new_place, new_seats, new_mrr
    if place:
        spans.append((since, FOR_EVER, place))
    return spans


def mrr_flow(subscription: Subscription) -> Iterator[tuple[int, int, int]]:
    """(day, base, current): the MRR of 12 months ago and of today, from each day on that changes one of them; at first both
    are 0."""
    changes = [(state.day, state.mrr) for state in subscription.held]
    current = dict(changes)
    base = {a_year_on(day): mrr for day, mrr in changes}  # of two days that meet the later one stands
    was = has = 0
    for day in sorted({*current, *base}):
        new = base.get(day, was), current.get(day, has)
        if new != (was, has):
            was, has = new
            yield day, was, has


def _together(flows: Iterable[Iterable[tuple[int, int, int]]]) -> list[tuple[int, int, int]]:
    """The sum of several flows."""
    changes: dict[int, list[int]] = {}
    for flow in flows:
        was = has = 0
        for day, base, current in flow:
            more = changes.setdefault(day, [0, 0])
            more[0] += base - was
            more[1] += current - has
            was, has = base, current
    was = has = 0
    found = []
    for day in sorted(changes):
        more = changes[day]
        was, has = was + more[0], has + more[1]
        found.append((day, was, has))
    return found


def _retain(level: int, flow: Iterable[tuple[int, int, int]], out: Steps) -> None:
    b = m = c = g = n = x = 0  # base, mrr; of customers with a base: current, gross, their number, churned
    for day, base, mrr in flow:
        if base:
            current, gross, customers, churned = mrr, min(base, mrr), 1, int(mrr == 0)
        else:
            current = gross = customers = churned = 0
        out.retention.append((level, day, base - b, mrr - m, current - c, gross - g, customers - n, churned - x))
        b, m, c, g, n, x = base, mrr, current, gross, customers, churned


def _family(account: Account, flow: Sequence[tuple[int, int, int]], out: Steps) -> None:
    """The account's MRR under the parent that it has on each day."""
    profiles = account.profiles
    parent, base, mrr = "", 0, 0
    flow_at = profile_at = -1
    for day in sorted({day for day, _, _ in flow} | {day for day, _ in profiles}):
        while flow_at + 1 < len(flow) and flow[flow_at + 1][0] <= day:
            flow_at += 1
        while profile_at + 1 < len(profiles) and profiles[profile_at + 1][0] <= day:
            profile_at += 1
        _, new_base, new_mrr = flow[flow_at] if flow_at >= 0 else (day, 0, 0)
        new_parent = profiles[profile_at][1].parent_account_id if profile_at >= 0 else ""
        if new_parent == account.account_id:
            new_parent = ""
        if new_parent == parent:
            if (new_base, new_mrr) != (base, mrr):
                out.family.append((day, parent, new_base - base, new_mrr - mrr))
        else:
            if base or mrr:
                out.family.append((day, parent, -base, -mrr))
            if new_base or new_mrr:
                out.family.append((day, new_parent, new_base, new_mrr))
        parent, base, mrr = new_parent, new_base, new_mrr


def rows_of(account: Account, cells: Cells) -> tuple[dict[str, list[Any]], dict[str, dict[str, list[Any]]]]:
    """The groups of the account's row, and those of the row of each subscription, an element a tuple."""
    steps = steps_of(account, cells)
    profiles = [
        (day, *(getattr(profile, name) for name in Profile.__struct_fields__)) for day, profile in account.profiles
    ]
    of_account: dict[str, list[Any]] = {
        "tick": [(day,) for day in account.ticks],
        "profile": profiles,
        "link": [(*link, tuple(times)) for link, times in account.links.items()],
        "movement": list(account.movements),
        "addon": list(account.purchases),
        "action": list(account.actions),
        "cut": [(tuple(cut),) for cut in steps.cuts],
        "held": steps.held,
        "window": steps.window,
        "retention": steps.retention,
        "family": steps.family,
    }
    of_subscription = {
        name: {
            "state": list(subscription.held),
            "base": list({a_year_on(one.day): (a_year_on(one.day), one.mrr) for one in subscription.held}.values()),
            "added": subscription.seats_changed(),
            "sync": [tuple(-1 if part is None else part for part in one) for one in subscription.synced],
            "profile": profiles,
        }
        for name, subscription in account.subscriptions.items()
        if subscription.held
    }
    return of_account, of_subscription
