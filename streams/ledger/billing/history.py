"""What the events of accounts say: the fold of all of them in the order in which they took effect, for many accounts at once.

Nothing is carried on from the last time: an older event that comes in changes everything behind it, so an account is read
from its first event again. Days are days since 1970, UTC; times microseconds since 1970; money cents of the reporting
currency. Accounts and subscriptions are numbered from 0 on, an account's subscriptions next to each other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from schemas.billing import PLAN_RANK, Profile
from streams.ledger.billing import kernels
from streams.ledger.billing.columns import (
    Bools,
    Ints,
    Strings,
    Texts,
    after,
    before,
    days_of,
    first_of_each,
    ints,
    keys,
    last_of_each,
    owners_of,
    running,
)
from streams.ledger.billing.days import FOR_EVER, KEPT_MONTHS, WINDOW, a_year_on, months_after
from streams.ledger.billing.facts import Facts
from streams.ledger.billing.flow import flow_of_subscriptions
from streams.ledger.records import DAY_US

KINDS = ("new", "growth", "renewal_growth", "contraction", "churn", "none")
NEW, GROWTH, RENEWAL_GROWTH, CONTRACTION, CHURN, NONE = range(6)

MOTIONS = ("trial", "purchase", "growth", "upgrade", "renew", "outreach")
TRIAL, PURCHASE, GROWING, UPGRADE, RENEW, OUTREACH = range(6)

CHANNELS = ("", "self_service", "sales_assisted", "automatic", "partner")
SELF_SERVICE = CHANNELS.index("self_service")
PLANS = ("", *PLAN_RANK)
"""'' stands for no earlier state."""
RANK = np.array([-1, *PLAN_RANK.values()])
DEPLOYMENTS = ("self_managed", "gitlab_com")
SELF_MANAGED = DEPLOYMENTS.index("self_managed")
LINKS = ("subscription", "license", "namespace", "namespace_left")
"""The last: namespaces that a subscription has no more, from those times on."""

CANCELLED = "subscription_cancelled"
RENEWED = "subscription_renewed"
MOTION_OF_TYPE = {
    "trial_started": TRIAL,
    "subscription_created": PURCHASE,
    "addon_purchased": GROWING,
    RENEWED: RENEW,
    "outreach_requested": OUTREACH,
}

_CHANNEL = {channel: code for code, channel in enumerate(CHANNELS)}
_PLAN = {plan: code for code, plan in enumerate(PLANS)}
_DEPLOYMENT = {deployment: code for code, deployment in enumerate(DEPLOYMENTS)}

SAFE = float(2**61)
"""Products of seats and money up to here are computed in 64 bits, larger ones in as many as they have."""


@dataclass(slots=True)
class Movements:
    """Changes of state, a row of `seat_movement` each, in the order of their accounts and of time.

    event: its place among the events; sub: the subscription. Plans, kinds and channels are codes. parts: seat, tier,
    discount and price, which add up to the change in MRR; of Python's integers where one has more than 64 bits.
    """

    event: Ints
    sub: Ints
    at: Ints
    day: Ints
    kind: Ints
    channel: Ints
    plan_from: Ints
    plan_to: Ints
    seats_from: Ints
    seats_to: Ints
    mrr_from: Ints
    mrr_to: Ints
    parts: tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]


@dataclass(slots=True)
class Held:
    """What subscriptions are from the end of `day` on, by subscription and day. last: the last day that shows it."""

    sub: Ints
    day: Ints
    last: Ints
    deployment: Ints
    plan: Ints
    seats: Ints
    mrr: Ints


@dataclass(slots=True)
class Base:
    """MRR of 12 months ago from `day` on, by subscription and day."""

    sub: Ints
    day: Ints
    mrr: Ints


@dataclass(slots=True)
class Added:
    """Seats added and removed in 28 days from `day` on, both 0 or more, by subscription and day."""

    sub: Ints
    day: Ints
    added: Ints
    removed: Ints


@dataclass(slots=True)
class Synced:
    """Users that a subscription's installations told of, from the end of `day` on; -1 is unknown."""

    sub: Ints
    day: Ints
    billable_users: Ints
    max_users: Ints


@dataclass(slots=True)
class Profiles:
    """Profiles from the end of `day` on, by account and day. which: place in `different`, where equal ones are one."""

    account: Ints
    day: Ints
    which: Ints
    different: list[Profile]


@dataclass(slots=True)
class Actions:
    """What accounts did, rows of `self_service_action`. motion, channel: codes."""

    account: Ints
    event: Ints
    motion: Ints


@dataclass(slots=True)
class Links:
    """Ids that events of a subscription carry, cancellations apart: by subscription, kind and id.

    name: place in `names`; lengths: how many `times`, ascending, an element has.
    """

    sub: Ints
    kind: Ints
    name: Ints
    names: Texts
    times: Ints
    lengths: Ints


@dataclass(slots=True)
class Purchases:
    """Addons that accounts bought, rows of `addon_purchase`."""

    account: Ints
    event: Ints
    addon: Strings
    quantity: Ints
    amount: Ints


class History:
    """The events of some accounts, read.

    Attributes:
        account_ids, first_day: of each account.
        account, at, day, channel: of each event, by account and time; the channel by its code.
        sub_names, sub_account: of each subscription that has a state.
        flow: of each subscription.
    """

    def __init__(self, facts: Facts) -> None:
        self.account_ids = facts.account_ids
        self.account = facts.account
        self._facts = facts
        self.at = facts.number(kernels.AT)
        self.day = self.at // DAY_US
        self.channel = _codes(facts.strings(kernels.CHANNEL), _CHANNEL.__getitem__)
        self.first_day = self.day[first_of_each(self.account)]
        types = facts.strings(kernels.TYPE)
        where = np.flatnonzero(facts.has(kernels.HAS_STATE))
        told = np.flatnonzero(facts.has(kernels.HAS_SYNC))
        (sub, synced), names, owners = facts.numbered_by_account(
            [(kernels.SUBSCRIPTION, where), (kernels.SYNCED, told)]
        )
        number = int(sub.max(initial=-1)) + 1  # what is behind them has no state
        self.sub_names, self.sub_account = names.first(number), owners[:number]
        self._read_states(where, types, sub)
        self.profiles = self._read_profiles()
        of_sub = synced < number
        self.synced = self._read_syncs(synced[of_sub], told[of_sub])
        self.actions = self._read_actions(where, types)
        self.purchases = self._read_purchases()

    def event_ids(self, events: Ints) -> Texts:
        """Ids of events by their places."""
        return self._facts.texts(kernels.EVENT_ID, events)

    # ---- states --------------------------------------------------------------------------------------------------------

    def _read_states(self, where: Ints, types: tuple[list[str], Ints], sub: Ints) -> None:
        facts = self._facts
        cancelled = _codes(types, CANCELLED.__eq__)[where] == 1
        renewal = (_codes(types, RENEWED.__eq__)[where] == 1) | (facts.number(kernels.AT_RENEWAL)[where] == 1)
        plan = _codes(facts.strings(kernels.PLAN, where), _PLAN.__getitem__)
        seats, mrr, listed = (
            np.where(cancelled, 0, facts.number(row)[where]) for row in (kernels.SEATS, kernels.MRR, kernels.LIST_MRR)
        )
        order = np.argsort(sub, kind="stable")
        sub_sorted = sub[order]

        def of_before(values: Ints) -> Ints:
            found = np.empty(len(values), np.int64)
            found[order] = before(values[order], sub_sorted)
            return found

        plan_from, seats_from, mrr_from, list_from = map(of_before, (plan, seats, mrr, listed))
        kind = np.select(
            [seats == seats_from, seats_from == 0, seats == 0, seats < seats_from, renewal],
            [NONE, NEW, CHURN, CONTRACTION, RENEWAL_GROWTH],
            GROWTH,
        )
        day = self.day[where]
        parts = parts_of(RANK[plan_from], RANK[plan], seats_from, seats, mrr_from, mrr, list_from, listed)
        self.movements = Movements(
            where, sub, self.at[where], day, kind, self.channel[where], plan_from, plan, seats_from, seats, mrr_from, mrr,
            parts,
        )  # fmt: skip
        deployment = _codes(facts.strings(kernels.DEPLOYMENT, where), _DEPLOYMENT.__getitem__)
        kept = order[last_of_each(keys(sub_sorted, day[order]))]
        held_sub, held_day = sub[kept], day[kept]
        shown = np.where(cancelled[kept], _of_each_day(held_day, _last_shown), FOR_EVER)
        last = np.minimum(shown, after(held_day, held_sub, FOR_EVER + 1) - 1)
        self.held = Held(held_sub, held_day, last, deployment[kept], plan[kept], seats[kept], mrr[kept])
        year_on = _of_each_day(held_day, a_year_on)
        stands = last_of_each(keys(held_sub, year_on))
        self.base = Base(held_sub[stands], year_on[stands], mrr[kept][stands])
        self.flow = flow_of_subscriptions(
            keys(held_sub, held_day), self.held.mrr, keys(self.base.sub, self.base.day), self.base.mrr
        )
        self.added = _added(sub, day, kind, seats - seats_from)
        self.links = self._read_links(where, sub, deployment, ~cancelled)

    def _read_links(self, where: Ints, sub: Ints, deployment: Ints, counted: Bools) -> Links:
        rows = (kernels.SUBSCRIPTION, kernels.LICENSE, kernels.NAMESPACE)
        columns, names = self._facts.numbered([(row, where[counted]) for row in rows])
        parts = [(sub[counted], self.at[where[counted]], column) for column in columns]
        parts.append(_left(*parts[-1], deployment[counted]))
        kind = np.repeat(np.arange(len(LINKS)), [len(part[0]) for part in parts])
        sub, at, name = (np.concatenate(column) for column in zip(*parts, strict=True))
        sub, at, name, kind = (column[name > 0] for column in (sub, at, name, kind))
        order = np.lexsort((at, name, kind, sub))
        sub, kind, name = sub[order], kind[order], name[order]
        new = np.ones(len(order), np.bool_)
        new[1:] = (sub[1:] != sub[:-1]) | (kind[1:] != kind[:-1]) | (name[1:] != name[:-1])
        starts = np.flatnonzero(new)
        lengths = np.diff(np.append(starts, len(order)))
        return Links(sub[starts], kind[starts], name[starts], names, at[order], lengths)

    # ---- the rest ------------------------------------------------------------------------------------------------------

    def _read_profiles(self) -> Profiles:
        where = np.flatnonzero(self._facts.has(kernels.HAS_PROFILE))
        account, day = self.account[where], self.day[where]
        kept = last_of_each(keys(account, day))
        which, different = self._facts.profiles(where[kept])
        return Profiles(account[kept], day[kept], which, different)

    def _read_syncs(self, subs: Ints, places: Ints) -> Synced:
        order = np.argsort(subs, kind="stable")
        subs, places = subs[order], places[order]
        kept = last_of_each(keys(subs, self.day[places]))
        subs, places = subs[kept], places[kept]
        billable, most = (self._facts.number(row)[places] for row in (kernels.BILLABLE, kernels.MOST))
        return Synced(subs, self.day[places], billable, most)

    def _read_purchases(self) -> Purchases:
        facts = self._facts
        where = np.flatnonzero(facts.has(kernels.HAS_ADDON))
        quantity, amount = (facts.number(row)[where] for row in (kernels.QUANTITY, kernels.AMOUNT))
        return Purchases(self.account[where], where, Strings(*facts.strings(kernels.ADDON, where)), quantity, amount)

    def _read_actions(self, where: Ints, types: tuple[list[str], Ints]) -> Actions:
        moves = self.movements
        changed = _codes(types, "plan_changed".__eq__)[where] == 1
        upgraded = changed & (moves.plan_from > 0) & (RANK[moves.plan_to] > RANK[moves.plan_from])
        motions = _codes(types, lambda type_: MOTION_OF_TYPE.get(type_, -1))
        typed = np.flatnonzero(motions >= 0)
        grown, upgrades = where[moves.kind == GROWTH], where[upgraded]
        event = np.concatenate((grown, upgrades, typed))
        motion = np.concatenate((np.full(len(grown), GROWING), np.full(len(upgrades), UPGRADE), motions[typed]))
        order = np.argsort(event, kind="stable")
        return Actions(self.account[event[order]], event[order], motion[order])

    def ticks(self) -> Ints:
        """For each account and motion the first day on which it was done by self-service, FOR_EVER is never: (accounts, 6)."""
        ticks = np.full((len(self.account_ids), len(MOTIONS)), FOR_EVER, np.int64)
        own = self.channel[self.actions.event] == SELF_SERVICE
        places = self.actions.event[own]
        np.minimum.at(ticks, (self.account[places], self.actions.motion[own]), self.day[places])
        return ticks


def _codes(few: tuple[list[str], Ints], code: Callable[[str], int]) -> Ints:
    """The code of each of many strings that are given by the number of one of a few."""
    names, numbers = few
    return ints([code(name) for name in names])[numbers]


def _left(sub: Ints, at: Ints, namespace: Ints, deployment: Ints) -> tuple[Ints, Ints, Ints]:
    """(subscription, time, namespace) where a subscription leaves a namespace: its state names another one, or it moves to an
    installation. A state that names none keeps it otherwise.

    Args:
        sub, at, namespace, deployment: of states in the order of time; namespaces by number, 0 is none.
    """
    order = np.argsort(sub, kind="stable")
    sub, at, namespace, deployment = (column[order] for column in (sub, at, namespace, deployment))
    told = (namespace > 0) | (deployment == SELF_MANAGED)
    place = np.maximum.accumulate(np.where(told, np.arange(len(sub)), -1))
    same = place >= first_of_each(sub).repeat(np.diff(np.append(first_of_each(sub), len(sub))))
    has = np.where(same, namespace[place], 0)
    had = before(has, sub)
    ends = np.append((sub[1:] != sub[:-1]) | (at[1:] != at[:-1]), True)[: len(sub)]
    last = np.flatnonzero(ends)
    in_the_end = has[last[np.searchsorted(last, np.arange(len(sub)))]]  # of states at one time
    leaves = (had > 0) & (has != had) & (in_the_end != had)
    return sub[leaves], at[leaves], had[leaves]


def _of_each_day(days: Ints, function: Any) -> Ints:
    """A function of days, called once for each different day."""
    different, which = np.unique(days, return_inverse=True)
    return ints([function(day) for day in different.tolist()])[which]


def _last_shown(day: int) -> int:
    return months_after(day, KEPT_MONTHS)


def parts_of(
    rank_from: Ints,
    rank_to: Ints,
    seats_from: Ints,
    seats_to: Ints,
    mrr_from: Ints,
    mrr_to: Ints,
    list_from: Ints,
    list_to: Ints,
) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]:
    """The change in MRR by its causes: seats, tier, discount, price (contract, 2.2)."""
    products = (
        np.abs(seats_to - seats_from).astype(float) * mrr_from,
        mrr_to.astype(float) * list_from,
        list_to.astype(float) * mrr_from,
    )
    columns: list[npt.NDArray[Any]] = [seats_from, seats_to, mrr_from, mrr_to, list_from, list_to]
    if any((product > SAFE).any() for product in products):
        columns = [column.astype(object) for column in columns]
    seats_from, seats_to, mrr_from, mrr_to, list_from, list_to = columns
    change = mrr_to - mrr_from
    whole = (seats_from == 0) | (seats_to == 0)
    tier = ~whole & (rank_from != rank_to)
    listed = ~whole & ~tier & (list_from != 0) & (list_to != 0)
    by_seats = half_even((seats_to - seats_from) * mrr_from, np.where(whole, 1, seats_from))
    seat = np.where(whole, change, by_seats)
    rest = change - seat
    discount = np.where(listed, half_even(mrr_to * list_from - list_to * mrr_from, np.where(listed, list_from, 1)), 0)
    return seat, np.where(tier, rest, 0), discount, np.where(tier | whole, 0, rest - discount)


def half_even(numerator: npt.NDArray[Any], denominator: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The nearest integer to each quotient, of two equally near ones the even one. Denominators are positive."""
    quotient = numerator // denominator
    twice = 2 * (numerator - quotient * denominator)
    odd = quotient % 2 == 1
    nearest: npt.NDArray[Any] = quotient + ((twice > denominator) | ((twice == denominator) & odd))
    return nearest


def _added(sub: Ints, day: Ints, kind: Ints, seats: Ints) -> Added:
    """`growth` comes in on its day and goes 28 days later, so do contraction and churn, as positive numbers."""
    grown = np.where(kind == GROWTH, seats, 0)
    lost = np.where((kind == CONTRACTION) | (kind == CHURN), -seats, 0)
    moved = (grown != 0) | (lost != 0)
    sub, day, grown, lost = sub[moved], day[moved], grown[moved], lost[moved]
    key = np.concatenate((keys(sub, day), keys(sub, day + WINDOW)))
    order = np.argsort(key, kind="stable")
    key = key[order]
    starts = first_of_each(key)
    added, removed = (np.concatenate((column, -column))[order] for column in (grown, lost))
    if len(starts):
        added, removed = np.add.reduceat(added, starts), np.add.reduceat(removed, starts)
    key = key[starts]
    changed = (added != 0) | (removed != 0)
    key, added, removed = key[changed], added[changed], removed[changed]
    owner = owners_of(key)
    return Added(owner, days_of(key), running(added, owner), running(removed, owner))
