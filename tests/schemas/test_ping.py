"""What a ping may be: GitLab's fields leniently, our extension strictly."""

from __future__ import annotations

import datetime as dt

import msgspec
import pytest

from schemas.dead_letters import Reason, Unreadable
from schemas.ping import MAX_DEPTH, count, count_leaves, decode_identity, decode_ping, decode_users, micros, text

LIMIT = 8 * 1024 * 1024


def ping(tail: str = "") -> bytes:
    return ('{"uuid":"u","recorded_at":"2026-01-02T03:04:05.678Z"' + (f",{tail}" if tail else "") + "}").encode()


def test_the_least_there_can_be() -> None:
    found = decode_ping(ping(), LIMIT)
    assert (found.uuid, found.hostname, found.namespace_id) == ("u", None, None)
    assert micros(found.recorded_at) == int(dt.datetime(2026, 1, 2, 3, 4, 5, 678_000, dt.UTC).timestamp() * 1e6)


@pytest.mark.parametrize(
    ("value", "reason", "sentence"),
    [
        (b"", Reason.NOT_JSON, "Expecting value"),
        (ping()[:-5], Reason.NOT_JSON, "character"),
        (b"\xff\xfe", Reason.NOT_JSON, "not UTF-8 at byte 0"),
        (ping('"x":NaN'), Reason.NOT_JSON, "NaN is no JSON number"),
        (ping('"x":-Infinity'), Reason.NOT_JSON, "Infinity"),
        (ping('"uuid":7,"x":NaN'), Reason.NOT_JSON, "NaN"),
        (b"[]", Reason.INVALID, "Expected `object`, got `array` - at `$`"),
        (b"{}", Reason.INVALID, "missing required field `uuid`"),
        (ping('"uuid":""'), Reason.INVALID, "$.uuid"),
        (ping('"uuid":"' + "u" * 65 + '"'), Reason.INVALID, "$.uuid"),
        (ping('"recorded_at":"2026-01-02"'), Reason.INVALID, "$.recorded_at"),
        (ping('"recorded_at":"2026-01-02T03:04:05"'), Reason.INVALID, "timezone"),
        (ping('"recorded_at":"1969-12-31T23:59:59Z"'), Reason.INVALID, "1970"),
        (ping('"recorded_at":"0001-01-01T00:00:00+14:00"'), Reason.INVALID, "1970"),
        (ping('"hostname":"' + "h" * 256 + '"'), Reason.INVALID, "$.hostname"),
        (ping('"hostname":"\\ud800"'), Reason.INVALID, "surrogate"),
        (ping('"version":"\\ud800"'), Reason.INVALID, "$.version"),
        (ping('"namespace_id":9970'), Reason.INVALID, "$.namespace_id"),
        (ping('"activity":{}'), Reason.INVALID, "$.activity"),
        (ping('"sessions":[{"user":-1,"at":"2026-01-01T00:00:00Z","stage":"s","feature":"f"}]'), Reason.INVALID, "$.sessions[0].user"),
        (ping('"sessions":[{"user":18446744073709551616,"at":"2026-01-01T00:00:00Z","stage":"s","feature":"f"}]'), Reason.INVALID, "$.sessions[0].user"),
        (ping('"users_by":{"persona":{"developer":-1}}'), Reason.INVALID, "$.users_by.persona"),
        (ping('"x":' + "[" * MAX_DEPTH + "]" * MAX_DEPTH), Reason.TOO_DEEP, "101 levels"),
        (ping('"x":' + "[" * 100_000 + "]" * 100_000), Reason.TOO_DEEP, "100,001 levels"),
        (ping('"x":"' + "x" * LIMIT + '"'), Reason.TOO_LARGE, "bytes"),
    ],
)  # fmt: skip
def test_what_cannot_be_taken(value: bytes, reason: Reason, sentence: str) -> None:
    with pytest.raises(Unreadable) as caught:
        decode_ping(value, LIMIT)
    assert caught.value.reason is reason
    assert sentence in caught.value.sentence


@pytest.mark.parametrize(
    "tail",
    [
        '"x":"\\ud800"', '"x":"\\\\ud800"', '"x":"\\ud83d\\ude00"', '"x":1' + "0" * 5_000, '"hostname":5', '"version":{}',
        '"active_user_count":1' + "0" * 1_000, '"activity":null', '"x":' + "[" * (MAX_DEPTH - 1) + "]" * (MAX_DEPTH - 1),
        '"x":"[[[' + "[" * 500 + '"',
    ],
)  # fmt: skip
def test_what_is_out_of_the_way(tail: str) -> None:
    assert decode_ping(ping(tail), LIMIT).uuid == "u"


def test_unknown_values_are_none_and_never_zero() -> None:
    assert [count(value) for value in (0, 7, -1, -1000, 1.0, True, "7", None, 2**63)] == [0, 7] + [None] * 7
    assert [text(value) for value in ("x", "", None, 5, [])] == ["x", None, None, None, None]


def test_counters_are_numeric_leaves_of_any_depth() -> None:
    counts = msgspec.Raw(b'{"a":1,"b":{"c":0,"d":[2.5,-1,true,null,"3"]},"e":-1000}')
    assert count_leaves(counts) == (3, 2)
    assert count_leaves(msgspec.Raw(b"55")) == (0, 0)
    assert count_leaves(msgspec.Raw()) == (0, 0)


@pytest.mark.parametrize(
    "users",
    [b"[1.0]", b"[-1]", b"[true]", b'[""]', b"[18446744073709551616]", b"[null]", b"{}", b'["' + b"x" * 129 + b'"]'],
)
def test_users_that_are_none(users: bytes) -> None:
    with pytest.raises(msgspec.ValidationError):
        decode_users(msgspec.Raw(users))


def test_users_of_both_forms() -> None:
    assert decode_users(msgspec.Raw(b'[0, 18446744073709551615, "b7e1c0"]')) == [0, 2**64 - 1, "b7e1c0"]


def test_the_identity_of_an_invalid_ping_is_read_and_of_one_without_is_not() -> None:
    identity = decode_identity(ping('"hostname":"h","activity":5'))
    assert identity is not None and (identity.uuid, identity.hostname) == ("u", "h")
    assert decode_identity(b'{"uuid":"u"}') is None
    assert decode_identity(b"\xff") is None
