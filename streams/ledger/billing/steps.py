"""What accounts add to the sums of the KPI views, as differences on the days on which it changes.

A sum over all accounts on a day is the sum of all their differences up to and with that day. Those of one account depend on its
own events alone, so they are replaced as a whole when one comes in. Days are days since 1970, money is in cents.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from streams.ledger.billing.cells import NO_MARKET, Market, market_of
from streams.ledger.billing.columns import (
    Bools,
    Ints,
    Strings,
    after,
    before,
    days_of,
    different,
    in_force,
    ints,
    keys,
    owners_of,
    pick,
    ranges,
    running,
)
from streams.ledger.billing.days import FOR_EVER, WINDOW
from streams.ledger.billing.flow import Flow
from streams.ledger.billing.history import DEPLOYMENTS, PLANS, History

OF_SUBSCRIPTION, OF_ACCOUNT, OF_BOTH = 0, 1, 2
"""Levels of retention; of an account with one subscription both are one."""


@dataclass(slots=True)
class Cuts:
    """The combinations of plan, deployment and market that an account's subscriptions had: by account, counted from 1 in each.

    plan, deployment: codes; market: place in `markets`.
    """

    account: Ints
    plan: Ints
    deployment: Ints
    market: Ints
    markets: list[Market]


@dataclass(slots=True)
class HeldSteps:
    """What an account's subscriptions add, by account. cut: counted from 1 in the account."""

    account: Ints
    cut: Ints
    day: Ints
    rows: Ints
    seats: Ints
    mrr: Ints


@dataclass(slots=True)
class Spans:
    """On which days, `start` to the one before `stop`, a subscription has a cut; by subscription and day."""

    sub: Ints
    start: Ints
    stop: Ints
    cut: Ints


@dataclass(slots=True)
class Windows:
    """The days, `start` to the one before `stop`, that see a movement under a cut. movement, cut: counted from 1 in the account."""

    account: Ints
    movement: Ints
    start: Ints
    stop: Ints
    cut: Ints


@dataclass(slots=True)
class Retention:
    """What owners add to the sums of net retention, by account. From `current` on: of customers with a base."""

    account: Ints
    level: Ints
    day: Ints
    base: Ints
    mrr: Ints
    current: Ints
    gross: Ints
    customers: Ints
    churned: Ints


def retention_of(history: History, together: Flow) -> Retention:
    """The steps of net retention of each account: one flow for both levels where it has one subscription."""
    subscriptions = np.bincount(history.sub_account, minlength=len(history.account_ids))
    flow = history.flow
    account = history.sub_account[flow.owner]
    lone, several = subscriptions[account] == 1, subscriptions[together.owner] > 1
    parts = [
        _retain(account, np.where(lone, OF_BOTH, OF_SUBSCRIPTION), flow, np.ones(len(account), np.bool_)),
        _retain(together.owner, np.full(len(together.owner), OF_ACCOUNT), together, several),
    ]
    return Retention(*_joined(*parts))


def _retain(account: Ints, level: Ints, flow: Flow, kept: Bools) -> tuple[Ints, ...]:
    has_base = flow.base > 0
    current = np.where(has_base, flow.mrr, 0)
    sums = (
        flow.base, flow.mrr, current, np.minimum(flow.base, current), has_base.astype(np.int64),
        (has_base & (flow.mrr == 0)).astype(np.int64),
    )  # fmt: skip
    steps = [column - before(column, flow.owner) for column in sums]
    return tuple(column[kept] for column in (account, level, flow.day, *steps))


def hold(history: History) -> tuple[Cuts, HeldSteps, Spans]:
    """Rows, seats and MRR of subscriptions by the cut that they have on each day, and which one that is."""
    held, profiles = history.held, history.profiles
    held_keys, profile_keys = keys(held.sub, held.day), keys(profiles.account, profiles.day)
    ends = held.last < FOR_EVER
    of_account = np.bincount(profiles.account, minlength=len(history.account_ids))
    count = of_account[history.sub_account]
    first = (np.cumsum(of_account) - of_account)[history.sub_account]
    profile_days = keys(np.repeat(np.arange(len(count)), count), profiles.day[ranges(first, count)])
    asked = different(held_keys, keys(held.sub[ends], held.last[ends] + 1), profile_days)
    state = in_force(held_keys, asked)
    asked, state = asked[state >= 0], state[state >= 0]  # profiles from before the subscription
    sub, day = owners_of(asked), days_of(asked)
    account = history.sub_account[sub]
    shown = held.last[state] >= day
    numbers = {NO_MARKET: 0}
    market_of_profile = ints([numbers.setdefault(market_of(profile), len(numbers)) for profile in profiles.different])
    profile = pick(profiles.which, in_force(profile_keys, keys(account, day)), -1)
    market = pick(market_of_profile, profile)
    combined = (market * len(PLANS) + held.plan[state]) * len(DEPLOYMENTS) + held.deployment[state]
    seats, mrr = np.where(shown, held.seats[state], 0), np.where(shown, held.mrr[state], 0)
    cuts, cut = _cuts(account[shown], combined[shown], list(numbers))
    has = np.zeros(len(asked), np.int64)
    has[shown] = cut
    had, had_seats, had_mrr = (before(column, sub) for column in (has, seats, mrr))
    same = (has == had) & (has > 0) & ((seats != had_seats) | (mrr != had_mrr))
    leaves, comes = (has != had) & (had > 0), (has != had) & (has > 0)
    zeros, ones = np.zeros(len(asked), np.int64), np.ones(len(asked), np.int64)
    steps = _joined(
        (account[same], has[same], day[same], zeros[same], (seats - had_seats)[same], (mrr - had_mrr)[same]),
        (account[leaves], had[leaves], day[leaves], -ones[leaves], -had_seats[leaves], -had_mrr[leaves]),
        (account[comes], has[comes], day[comes], ones[comes], seats[comes], mrr[comes]),
    )
    turns = np.flatnonzero(has != had)
    spans = Spans(sub[turns], day[turns], after(day[turns], sub[turns], FOR_EVER), has[turns])
    within = spans.cut > 0
    spans = Spans(spans.sub[within], spans.start[within], spans.stop[within], spans.cut[within])
    return cuts, HeldSteps(*steps), spans


def _cuts(account: Ints, combined: Ints, markets: list[Market]) -> tuple[Cuts, Ints]:
    """The different cuts of each account, and the number of each that is asked."""
    several, which = np.unique(account << 40 | combined, return_inverse=True)
    owner, code = several >> 40, several & ((1 << 40) - 1)
    number = running(np.ones(len(owner), np.int64), owner)
    code, deployment = np.divmod(code, len(DEPLOYMENTS))
    market, plan = np.divmod(code, len(PLANS))
    return Cuts(owner, plan, deployment, market, markets), number[which]


def windows_of(history: History, spans: Spans) -> Windows:
    """The 28 days of each movement, in pieces by the cut that its subscription has on them."""
    moves = history.movements
    end = moves.day + WINDOW
    first = np.searchsorted(keys(spans.sub, spans.stop), keys(moves.sub, moves.day), "right")
    behind = np.searchsorted(keys(spans.sub, spans.start), keys(moves.sub, end), "left")
    count = np.maximum(behind - first, 0)
    move = np.repeat(np.arange(len(count)), count)
    span = ranges(first, count)
    account = history.sub_account[moves.sub]
    number = running(np.ones(len(account), np.int64), account)
    return Windows(
        account[move],
        number[move],
        np.maximum(spans.start[span], moves.day[move]),
        np.minimum(spans.stop[span], end[move]),
        spans.cut[span],
    )


@dataclass(slots=True)
class Family:
    """MRR under the parent of the day, as differences, by account; parent '' is the account itself."""

    account: Ints
    day: Ints
    parent: Strings
    base: Ints
    mrr: Ints


def family_of(history: History, together: Flow) -> Family:
    """The MRR of accounts that have had another one as parent, under the parent that they have on each day."""
    profiles = history.profiles
    numbers = {"": 0}
    named = [numbers.setdefault(profile.parent_account_id, len(numbers)) for profile in profiles.different]
    own = ints([numbers.get(account_id, 0) for account_id in history.account_ids])[profiles.account]
    parent = ints(named)[profiles.which] if named else np.empty(0, np.int64)
    parent = np.where(parent == own, 0, parent)
    member = np.zeros(len(history.account_ids), np.bool_)
    member[profiles.account[parent > 0]] = True
    told, flowing = member[profiles.account], member[together.owner]
    profile_keys = keys(profiles.account[told], profiles.day[told])
    flow_keys = keys(together.owner[flowing], together.day[flowing])
    asked = different(profile_keys, flow_keys)
    account, day = owners_of(asked), days_of(asked)
    under = pick(parent[told], in_force(profile_keys, asked))
    flow = in_force(flow_keys, asked)
    base, mrr = pick(together.base[flowing], flow), pick(together.mrr[flowing], flow)
    was_under, had_base, had_mrr = (before(column, account) for column in (under, base, mrr))
    same = (under == was_under) & ((base != had_base) | (mrr != had_mrr))
    leaves = (under != was_under) & ((had_base != 0) | (had_mrr != 0))
    comes = (under != was_under) & ((base != 0) | (mrr != 0))
    columns = _joined(
        (account[same], day[same], under[same], (base - had_base)[same], (mrr - had_mrr)[same]),
        (account[leaves], day[leaves], was_under[leaves], -had_base[leaves], -had_mrr[leaves]),
        (account[comes], day[comes], under[comes], base[comes], mrr[comes]),
    )
    return Family(columns[0], columns[1], Strings(list(numbers), columns[2]), columns[3], columns[4])


def _joined(*parts: tuple[Ints, ...]) -> list[Ints]:
    """The columns of several parts as one, by the first column."""
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    order = np.argsort(columns[0], kind="stable")
    return [column[order] for column in columns]
