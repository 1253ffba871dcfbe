"""Rows of accounts for the sink, as columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from schemas.billing import Profile
from streams.ledger.billing.cells import DIMENSIONS, Cells
from streams.ledger.billing.columns import Column, Ints, Lists, Strings, Texts, ranges
from streams.ledger.billing.flow import flow_of_accounts
from streams.ledger.billing.history import CHANNELS, DEPLOYMENTS, KINDS, LINKS, MOTIONS, PLANS, History
from streams.ledger.billing.steps import (
    Cuts,
    family_of,
    hold,
    retention_of,
    windows_of,
)


@dataclass(frozen=True, slots=True)
class Group:
    """Columns of lists that have as many elements in each row: the elements of all rows, and how many each row has."""

    columns: Sequence[Column]
    lengths: Ints


@dataclass(frozen=True, slots=True)
class AccountRows:
    """Rows of `billing_account` and `billing_subscription`.

    accounts: account_id, home, first_day; subscriptions: account_id, subscription_id, home; a list or array each.
    of_account, of_subscription: groups of array columns by their names' first word, in the order of the tables' columns.
    version: of all rows.
    """

    accounts: tuple[Column, ...]
    of_account: dict[str, Group]
    subscriptions: tuple[Strings, Texts, Ints]
    of_subscription: dict[str, Group]
    version: int


def rows_of(history: History, cells: Cells, home: int, version: int) -> AccountRows:
    """The rows of accounts."""
    number, subscriptions = len(history.account_ids), len(history.sub_names)
    together = flow_of_accounts(history.sub_account, history.flow)
    cuts, held, spans = hold(history)
    windows = windows_of(history, spans)
    retention = retention_of(history, together)
    family = family_of(history, together)
    profiles, moves, links, actions = history.profiles, history.movements, history.links, history.actions
    bought = history.purchases
    profile_columns: list[Column] = [profiles.day, *_profile_columns(history.profiles.different, profiles.which)]
    per_account = np.bincount(profiles.account, minlength=number)

    def by_account(owners: Ints, *columns: Column) -> Group:
        return Group(columns, np.bincount(owners, minlength=number))

    def by_subscription(owners: Ints, *columns: Column) -> Group:
        return Group(columns, np.bincount(owners, minlength=subscriptions))

    of_account = {
        "tick": Group([history.ticks().reshape(-1)], np.full(number, len(MOTIONS))),
        "profile": Group(profile_columns, per_account),
        "link": by_account(
            history.sub_account[links.sub],
            Strings(LINKS, links.kind),
            Strings(links.names, links.name),
            Strings(history.sub_names, links.sub),
            Lists(links.times, links.lengths),
        ),
        "movement": by_account(
            history.sub_account[moves.sub],
            history.event_ids(moves.event),
            moves.at,
            Strings(history.sub_names, moves.sub),
            Strings(KINDS, moves.kind),
            Strings(CHANNELS, moves.channel),
            Strings(PLANS, moves.plan_from),
            Strings(PLANS, moves.plan_to),
            moves.seats_from,
            moves.seats_to,
            moves.mrr_from,
            moves.mrr_to,
            *moves.parts,
        ),
        "addon": by_account(
            bought.account,
            history.event_ids(bought.event),
            history.at[bought.event],
            Strings(CHANNELS, history.channel[bought.event]),
            bought.addon,
            bought.quantity,
            bought.amount,
        ),
        "action": by_account(
            actions.account,
            Strings(MOTIONS, actions.motion),
            history.event_ids(actions.event),
            history.at[actions.event],
            Strings(CHANNELS, history.channel[actions.event]),
        ),
        "cut": by_account(cuts.account, _cells(cuts, cells)),
        "held": by_account(held.account, held.cut, held.day, held.rows, held.seats, held.mrr),
        "window": by_account(windows.account, windows.movement, windows.start, windows.stop, windows.cut),
        "retention": by_account(
            retention.account,
            retention.level,
            retention.day,
            retention.base,
            retention.mrr,
            retention.current,
            retention.gross,
            retention.customers,
            retention.churned,
        ),
        "family": by_account(family.account, family.day, family.parent, family.base, family.mrr),
    }
    state, base, added, synced = history.held, history.base, history.added, history.synced
    first = (np.cumsum(per_account) - per_account)[history.sub_account]
    of_each = ranges(first, per_account[history.sub_account])
    of_subscription = {
        "state": by_subscription(
            state.sub,
            state.day,
            state.last,
            Strings(DEPLOYMENTS, state.deployment),
            Strings(PLANS, state.plan),
            state.seats,
            state.mrr,
        ),
        "base": by_subscription(base.sub, base.day, base.mrr),
        "added": by_subscription(added.sub, added.day, added.added, added.removed),
        "sync": by_subscription(synced.sub, synced.day, synced.billable_users, synced.max_users),
        "profile": Group(
            [
                profiles.day[of_each],
                *_profile_columns(profiles.different, profiles.which[of_each]),
            ],
            per_account[history.sub_account],
        ),
    }
    return AccountRows(
        (history.account_ids, np.full(number, home), history.first_day),
        of_account,
        (Strings(history.account_ids, history.sub_account), history.sub_names, np.full(subscriptions, home)),
        of_subscription,
        version,
    )


def _profile_columns(different: Sequence[Profile], which: Ints) -> list[Strings]:
    return [Strings([getattr(profile, name) for profile in different], which) for name in Profile.__struct_fields__]


def _cells(cuts: Cuts, cells: Cells) -> Lists:
    """The cells of each cut."""
    code = (cuts.market * len(PLANS) + cuts.plan) * len(DEPLOYMENTS) + cuts.deployment
    _, firsts, which = np.unique(code, return_index=True, return_inverse=True)
    numbers = [
        cells.cut(PLANS[plan], DEPLOYMENTS[deployment], cuts.markets[market])
        for plan, deployment, market in zip(
            cuts.plan[firsts].tolist(), cuts.deployment[firsts].tolist(), cuts.market[firsts].tolist(), strict=True
        )
    ]
    items = np.array(numbers, np.int64).reshape(len(firsts), len(DIMENSIONS))[which]
    return Lists(items.reshape(-1), np.full(len(items), len(DIMENSIONS)))
