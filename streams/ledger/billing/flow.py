"""MRR of 12 months ago and of today, as it changes from day to day."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from streams.ledger.billing.columns import (
    Ints,
    before,
    days_of,
    different,
    first_of_each,
    in_force,
    keys,
    owners_of,
    pick,
    running,
)


@dataclass(slots=True)
class Flow:
    """MRR of 12 months ago and of today, of accounts or subscriptions, from each day on that changes one of them; at first both
    are 0. By owner and day."""

    owner: Ints
    day: Ints
    base: Ints
    mrr: Ints


def flow_of_subscriptions(held: Ints, mrr: Ints, based: Ints, base: Ints) -> Flow:
    """The flow of each subscription.

    Args:
        held, mrr: keys of subscription and day from which on it has an MRR.
        based, base: the same of the MRR of 12 months ago.
    """
    asked = different(held, based)
    return _changes(asked, pick(base, in_force(based, asked)), pick(mrr, in_force(held, asked)))


def flow_of_accounts(sub_account: Ints, flow: Flow) -> Flow:
    """The flows of an account's subscriptions, added up.

    Args:
        sub_account: the account of each subscription.
        flow: of the subscriptions.
    """
    key = keys(sub_account[flow.owner], flow.day)
    order = np.argsort(key, kind="stable")
    starts = first_of_each(key[order])
    if not len(starts):
        return flow
    asked = key[order][starts]
    base, mrr = (
        running(np.add.reduceat((column - before(column, flow.owner))[order], starts), owners_of(asked))
        for column in (flow.base, flow.mrr)
    )
    return _changes(asked, base, mrr)


def _changes(asked: Ints, base: Ints, mrr: Ints) -> Flow:
    owner = owners_of(asked)
    kept = (base != before(base, owner)) | (mrr != before(mrr, owner))
    return Flow(owner[kept], days_of(asked[kept]), base[kept], mrr[kept])
