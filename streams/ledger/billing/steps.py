"""What an account adds to the sums of the KPI views, as differences on the days on which it changes.

A sum over all accounts on a day is the sum of all their differences up to and with that day. Those of one account depend on its
own events alone, so they are replaced as a whole when one comes in. Days are days since 1970, money is in cents.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from schemas.billing import Profile
from streams.ledger.billing.account import NO_PROFILE, Account, Subscription
from streams.ledger.billing.cells import Cells, Cut
from streams.ledger.billing.days import FOR_EVER, WINDOW, a_year_on
from streams.ledger.records import DAY_US

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
            cut = cells.cut(state.plan, state.deployment, profile)
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
