"""Billing events as their messages, short to write down."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from schemas.billing import BillingEvent, read_billing_event
from streams.ledger.billing.digests import digests_of
from streams.ledger.billing.facts import Facts
from streams.ledger.billing.history import History
from streams.ledger.billing.state import Fact

_ids = itertools.count()
LIMIT = 8 * 1024 * 1024

Document = dict[str, Any]


def document(type_: str, occurred_at: str, account: str = "A", **fields: Any) -> Document:
    """An event; `occurred_at` may be a day."""
    moment = occurred_at if "T" in occurred_at else f"{occurred_at}T00:00:00Z"
    return {
        "event_id": f"e{next(_ids):06d}", "type": type_, "occurred_at": moment, "account_id": account,
    } | fields  # fmt: skip


def subscribed(type_: str, occurred_at: str, seats: int, mrr: str, *, plan: str = "premium", **more: Any) -> Document:
    """An event of a subscription, `S` of account `A` if nothing else is said."""
    account = more.pop("account", "A")
    common = {name: more.pop(name) for name in ("event_id", "sequence", "channel") if name in more}
    block = {
        "subscription_id": "S", "deployment": "self_managed", "plan": plan, "seats": seats, "mrr": mrr, "currency": "USD",
    } | more  # fmt: skip
    return document(type_, occurred_at, account, subscription=block, **common)


def event(of: Document) -> BillingEvent:
    """A document as the ledger takes it."""
    value = json.dumps(of).encode()
    return read_billing_event(value, "USD", LIMIT, digests_of([value])[0][0])


def history_of(accounts: Sequence[Sequence[BillingEvent]]) -> History:
    """The events of some accounts, at least one each, as they are read from what is kept."""
    encoded = [msgspec.msgpack.encode(Fact(one, 0, 0)) for events in accounts for one in events]
    data = [len(fact).to_bytes(4, "big") + fact for fact in encoded]
    sizes = np.array(list(map(len, data)))
    account_ids, lengths = [events[0].account_id for events in accounts], list(map(len, accounts))
    return History(Facts(account_ids, b"".join(data), np.cumsum(sizes) - sizes, lengths))
