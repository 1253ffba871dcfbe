"""What goes wrong between a sender and a topic."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from deploy.fleet.dice import Dice
from deploy.fleet.sender import DAY_MS, Ping, Told, rfc3339

STRANGER: Final = 7_000_000_000_000_000_000
"""User ids from here on stand only in entries and messages that must not count: seen in a figure, they show a fault."""

Document = dict[str, Any]


def with_late_entry(dice: Dice, ping: Ping) -> Ping:
    """The ping with one more entry, of 37 to 400 days before it was received."""
    return _with_entry(dice, ping, -dice.between(37, 400))


def with_future_entry(dice: Dice, ping: Ping) -> Ping:
    """The ping with one more entry, of 2 to 400 days after it was received."""
    return _with_entry(dice, ping, dice.between(2, 400))


def _with_entry(dice: Dice, ping: Ping, days: int) -> Ping:
    day = dt.datetime.fromtimestamp(ping.recorded / 1000, dt.UTC).date() + dt.timedelta(days=days)
    user = STRANGER + dice.below(1000)
    if ping.profile.form == "sessions":
        entry = f'{{"user":{user},"at":"{day}T12:00:00Z","stage":"create","feature":"wiki"}}'
        return replace(ping, told=Told(ping.told.activity, _join(ping.told.sessions, entry)))
    entry = f'{{"date":"{day}","stage":"create","feature":"wiki","users":[{user}],"sessions":3}}'
    return replace(ping, told=Told(_join(ping.told.activity, entry), ping.told.sessions))


def _join(entries: str, entry: str) -> str:
    return f"{entries},{entry}" if entries else entry


def with_wrong_clock(dice: Dice, ping: Ping) -> Ping:
    """The ping of a clock that is 3 to 400 days ahead."""
    return ping.moved(dice.between(3, 400) * DAY_MS)


def written_differently(ping: Ping) -> bytes:
    """The same ping in other bytes: other white space, other order of fields, escapes, another zone for `recorded_at`."""
    document = json.loads(ping.value())
    document["recorded_at"] = rfc3339(ping.recorded, 60 if ping.profile.zone is None else None)
    return json.dumps(dict(sorted(document.items())), ensure_ascii=True).encode()


def wrong_key(dice: Dice, others: list[bytes]) -> bytes | None:
    """No key, another's, or bytes that are no text."""
    return dice.pick((None, dice.pick(others), b"", b"\xff\x00key"))


def _entry(**changes: Any) -> Callable[[Document], bytes]:
    def broken(document: Document) -> bytes:
        return _dump({**document, "activity": [*document["activity"], {**document["activity"][0], **changes}]})

    return broken


def _field(**changes: Any) -> Callable[[Document], bytes]:
    return lambda document: _dump({**document, **changes})


def _without(name: str) -> Callable[[Document], bytes]:
    return lambda document: _dump({field: value for field, value in document.items() if field != name})


def _raw(field: bytes) -> Callable[[Document], bytes]:
    return lambda document: _dump(document)[:-1] + b"," + field + b"}"


def _dump(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


BREAKAGES: Final[dict[str, tuple[str, Callable[[Document], bytes]]]] = {
    "empty": ("not_json", lambda document: b""),
    "blank": ("not_json", lambda document: b" \n"),
    "cut_off": ("not_json", lambda document: _dump(document)[:-20]),
    "not_utf8": ("not_json", _raw(b'"note":"caf\xe9"')),
    "nan": ("not_json", _raw(b'"counts":{"boards":NaN}')),
    "infinity": ("not_json", _raw(b'"counts":{"boards":-Infinity}')),
    "two_documents": ("not_json", lambda document: _dump(document) * 2),
    "a_list": ("invalid", lambda document: _dump([document])),
    "a_string": ("invalid", lambda document: b'"ping"'),
    "null": ("invalid", lambda document: b"null"),
    "no_uuid": ("invalid", _without("uuid")),
    "no_recorded_at": ("invalid", _without("recorded_at")),
    "numeric_uuid": ("invalid", _field(uuid=17)),
    "long_uuid": ("invalid", _field(uuid="u" * 65)),
    "no_moment": ("invalid", _field(recorded_at="yesterday")),
    "no_offset": ("invalid", _field(recorded_at="2026-01-01T00:00:00")),
    "activity_is_object": ("invalid", _field(activity={})),
    "no_such_date": ("invalid", _entry(date="2026-02-30")),
    "no_stage": ("invalid", _entry(stage="")),
    "users_missing": ("invalid", _entry(users=None)),
    "negative_user": ("invalid", _entry(users=[STRANGER, -5])),
    "user_is_float": ("invalid", _entry(users=[1.5])),
    "user_is_true": ("invalid", _entry(users=[True])),
    "user_is_empty": ("invalid", _entry(users=[""])),
    "user_beyond_64_bits": ("invalid", _entry(users=[2**64])),
    "user_of_a_thousand_digits": ("invalid", _entry(users=[10**999])),
    "lone_surrogate": ("invalid", _entry(users=["\ud800"])),
    "negative_sessions": ("invalid", _entry(sessions=-1)),
    "session_without_user": (
        "invalid",
        _field(sessions=[{"at": "2026-01-01T00:00:00Z", "stage": "a", "feature": "b"}]),
    ),
    "too_deep": ("too_deep", _raw(b'"deep":' + b"[" * 300 + b"]" * 300)),
}
"""What may be wrong with a message: the reason it dies of, and how it is made from a good one."""


def broken(dice: Dice, ping: Ping) -> tuple[str, bytes]:
    """A message that dies, and the name of what is wrong with it.

    It is recorded a second before `ping`, so that it is never taken for it, and nobody in it may ever count.
    """
    name = dice.pick(tuple(BREAKAGES))
    profile = ping.profile
    document: Document = {
        "uuid": profile.uuid,
        "hostname": profile.hostname,
        "recorded_at": rfc3339(ping.recorded - 1000, None),
        "activity": [
            {
                "date": rfc3339(ping.recorded - DAY_MS, None)[:10],
                "stage": "create",
                "feature": "wiki",
                "users": [STRANGER + dice.below(1000)],
            }
        ],
    }
    if profile.namespace_id:
        document["namespace_id"] = profile.namespace_id
    return name, BREAKAGES[name][1](document)
