"""What goes wrong between a billing system and a topic."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final

import msgspec

from deploy.fleet.account import Event
from deploy.fleet.dice import Dice
from deploy.fleet.sender import DAY_MS, rfc3339

STRANGE_SEATS: Final = 7_000_000
"""Seats, and the amount of money, that stand only in events that must not count: seen in a figure, they show a fault."""

Document = dict[str, Any]


def written_differently(document: Document) -> bytes:
    """The same JSON values in other bytes: other white space, other order of fields, escapes."""
    return json.dumps(dict(reversed(document.items())), ensure_ascii=True, separators=(" , ", "  :")).encode()


def conflicting(event: Event) -> bytes:
    """Another event under the same id."""
    return msgspec.json.encode(_strange(event.document))


def of_wrong_clock(dice: Dice, event: Event) -> bytes:
    """An event under an id of its own, 2 to 400 days ahead of `event`."""
    moment = event.moment + dice.between(2, 400) * DAY_MS
    ahead = {"event_id": f"{event.document['event_id']}-ahead", "occurred_at": rfc3339(moment, None)}
    return msgspec.json.encode(_strange(event.document) | ahead)


def _strange(document: Document) -> Document:
    """The document as a purchase that nobody has made."""
    return {**document, "type": "subscription_created", "subscription": strange_block()}


def strange_block() -> Document:
    """A subscription of `STRANGE_SEATS`."""
    return {
        "subscription_id": "stranger",
        "deployment": "gitlab_com",
        "plan": "gold",
        "seats": STRANGE_SEATS,
        "mrr": f"{STRANGE_SEATS}.00",
        "currency": "USD",
        "fx_rate": "1",
    }


def _field(**changes: object) -> Callable[[Document], bytes]:
    return lambda document: _dump({**document, **changes})


def _block(**changes: object) -> Callable[[Document], bytes]:
    return lambda document: _dump({**document, "subscription": {**document["subscription"], **changes}})


def _without(name: str) -> Callable[[Document], bytes]:
    return lambda document: _dump({field: value for field, value in document.items() if field != name})


def _block_without(name: str) -> Callable[[Document], bytes]:
    def broken(document: Document) -> bytes:
        left = {field: value for field, value in document["subscription"].items() if field != name}
        return _dump({**document, "subscription": left})

    return broken


def _raw(field: bytes) -> Callable[[Document], bytes]:
    return lambda document: _dump(document)[:-1] + b"," + field + b"}"


def _dump(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


BREAKAGES: Final[dict[str, tuple[str, Callable[[Document], bytes]]]] = {
    "empty": ("not_json", lambda document: b""),
    "cut_off": ("not_json", lambda document: _dump(document)[:-20]),
    "not_utf8": ("not_json", _raw(b'"note":"caf\xe9"')),
    "nan": ("not_json", lambda document: _dump(document).replace(b'"7000000.00"', b"NaN")),
    "two_documents": ("not_json", lambda document: _dump(document) * 2),
    "a_list": ("invalid", lambda document: _dump([document])),
    "no_event_id": ("invalid", _without("event_id")),
    "no_account_id": ("invalid", _without("account_id")),
    "no_type": ("invalid", _without("type")),
    "no_moment": ("invalid", _field(occurred_at="yesterday")),
    "no_block": ("invalid", _without("subscription")),
    "negative_seats": ("invalid", _block(seats=-1)),
    "seats_are_text": ("invalid", _block(seats="7000000")),
    "no_plan": ("invalid", _block_without("plan")),
    "another_plan": ("invalid", _block(plan="platinum")),
    "mrr_is_number": ("invalid", _block(mrr=7_000_000.0)),
    "mrr_is_nan": ("invalid", _block(mrr="NaN")),
    "mrr_is_infinite": ("invalid", _block(mrr="Infinity")),
    "lower_case_currency": ("invalid", _block(currency="usd")),
    "unknown_type": ("unknown_type", _field(type="subscription_paused")),
    "no_rate": ("unsupported_currency", lambda document: _block_without("fx_rate")(_foreign(document))),
    "too_deep": ("too_deep", _raw(b'"deep":' + b"[" * 300 + b"]" * 300)),
}
"""What may be wrong with an event: the reason it dies of, and how it is made from a good one (of `strange_block`)."""


def _foreign(document: Document) -> Document:
    return {**document, "subscription": {**document["subscription"], "currency": "XTS"}}


def broken(dice: Dice, event: Event) -> tuple[str, bytes]:
    """A message that dies, and the name of what is wrong with it. Nothing in it may ever count."""
    name = dice.pick(tuple(BREAKAGES))
    document: Document = {
        "event_id": f"{event.document['event_id']}-broken",
        "type": "subscription_created",
        "occurred_at": event.document["occurred_at"],
        "account_id": event.document["account_id"],
        "subscription": strange_block(),
    }
    return name, BREAKAGES[name][1](document)
