"""What a message may hold: values are counted outside of strings, and no further than needed."""

from __future__ import annotations

import pytest

from schemas.billing import read_billing_event
from schemas.crowd import MAX_ENTRIES, MAX_LONG_NUMBERS, MAX_VALUES, is_crowded
from schemas.dead_letters import Reason, Unreadable
from schemas.ping import decode_identity, decode_ping

LIMIT = 8 * 1024 * 1024
PING = b'"uuid":"u","recorded_at":"2026-03-20T10:00:00Z","hostname":"h"'
EVENT = (
    b'"event_id":"e","type":"subscription_created","occurred_at":"2026-03-20T10:00:00Z","account_id":"a","subscription":'
    b'{"subscription_id":"s","deployment":"self_managed","plan":"premium","seats":3,"mrr":"10.00","currency":"USD"}'
)
ENTRY = b'{"date":"2026-03-19","stage":"c","feature":"f","users":[%b]}'


def many(token: bytes, count: int) -> bytes:
    return b",".join([token] * count)


@pytest.mark.parametrize(
    ("text", "crowded"),
    [
        (many(b"1", 11), False),
        (many(b"1", 12), True),
        (many(b"[]", 6), True),
        (b'"' + b"," * 100 + b'"', False),
        (b'"' + b"," * 100, False),
        (b'"\\",' + b"," * 100 + b'"', False),
        (b'"a","' + b'\\"' * 20 + b'","b"' + b"," * 100, True),
        (b'"a\\', False),
        (b"", False),
    ],
)
def test_signs_are_counted_outside_of_strings(text: bytes, crowded: bool) -> None:
    assert is_crowded(text, 10) == crowded


@pytest.mark.parametrize(
    ("more", "reason", "words"),
    [
        (b'"counts":[' + many(b"[]", MAX_VALUES) + b"]", Reason.TOO_LARGE, "$.counts"),
        (b'"usage_activity_by_stage_monthly":{"a":[' + many(b"1", 2 * MAX_VALUES) + b"]}", Reason.TOO_LARGE, "$.usage_activity"),
        (b'"users_by":{"persona":{' + many(b'"x":1', 2 * MAX_VALUES) + b"}}", Reason.TOO_LARGE, "$.users_by"),
        (b'"activity":[' + many(ENTRY % b"1", MAX_ENTRIES + 1) + b"]", Reason.TOO_LARGE, "$.activity"),
        (b'"activity":[' + many(b"1", 2 * MAX_VALUES) + b"]", Reason.INVALID, "$.activity[0]"),
        (b'"x":[' + many(b"1", 2 * MAX_VALUES), Reason.NOT_JSON, "no JSON"),
        (b'"x":[' + many(b"01", 2 * MAX_VALUES) + b"]", Reason.NOT_JSON, "no JSON"),
        (b'"x":[' + many(b'"\\x"', 2 * MAX_VALUES) + b"]", Reason.NOT_JSON, "no JSON"),
        (b'"x":[' + many(b'"\\ud800"', 2 * MAX_VALUES) + b"]", Reason.TOO_LARGE, "escaped"),
        (b'"x":[' + many(b"[", 2 * MAX_VALUES), Reason.TOO_DEEP, "200,002 levels"),
        (b'"version":"\\udc00","x":[' + many(b"1", 2 * MAX_VALUES) + b"]", Reason.INVALID, "$.version"),
        (b'"uuid":1,"x":[' + many(b"1", 2 * MAX_VALUES) + b"]", Reason.INVALID, "$.uuid"),
    ],
    ids=range(12),
)  # fmt: skip
def test_a_crowded_ping_is_refused_for_what_is_read_of_it(more: bytes, reason: Reason, words: str) -> None:
    with pytest.raises(Unreadable) as refused:
        decode_ping(b"{" + PING + b"," + more + b"}", LIMIT)
    assert refused.value.reason is reason and words in refused.value.sentence


@pytest.mark.parametrize(
    "more",
    [
        b'"x":[' + many(b"[]", 10 * MAX_VALUES) + b"]",
        b'"version":[' + many(b"{}", 10 * MAX_VALUES) + b"]",
        b'"x":["\\ud800",' + many(b"{}", 10 * MAX_VALUES) + b"]",
        b'"x":[' + many(b"1e400", 5 * MAX_VALUES) + b"]",
        b'"activity":[' + many(b"null", 5 * MAX_VALUES) + b'],"activity":[]',
    ],
    ids=["lists", "version", "surrogate", "numbers", "twice"],
)
def test_what_nobody_reads_may_be_as_large_as_the_message(more: bytes) -> None:
    value = b"{" + PING + b',"edition":"EE","counts":{"a":1},' + more + b"}"
    ping = decode_ping(value, LIMIT)
    assert (ping.uuid, ping.edition, ping.hostname, bytes(ping.counts)) == ("u", "EE", "h", b'{"a":1}')
    assert not ping.version
    assert decode_identity(value) is not None or b"ud800" in value


def test_users_are_not_limited() -> None:
    users = many(b"17", 5 * MAX_VALUES)
    ping = decode_ping(b"{" + PING + b',"activity":[' + ENTRY % users + b"," + ENTRY % b"" + b"]}", LIMIT)
    assert ping.activity is not None and len(ping.activity) == 2


@pytest.mark.parametrize(
    "more",
    [many(b"{}", MAX_VALUES), many(b"1", MAX_VALUES + 1), many(b"1e4000", MAX_LONG_NUMBERS + 1)],
    ids=["objects", "numbers", "exponents"],
)
def test_a_crowded_event_is_refused(more: bytes) -> None:
    with pytest.raises(Unreadable) as refused:
        read_billing_event(b"{" + EVENT + b',"x":[' + more + b"]}", "USD", LIMIT)
    assert refused.value.reason is Reason.TOO_LARGE


@pytest.mark.parametrize(
    "more",
    [many(b"1", MAX_VALUES - 30), many(b"1e99", 5 * MAX_LONG_NUMBERS), many(b'"1e4000"', 5 * MAX_LONG_NUMBERS)],
    ids=["numbers", "exponents", "strings"],
)
def test_an_event_with_a_little_less_is_read(more: bytes) -> None:
    assert read_billing_event(b"{" + EVENT + b',"x":[' + more + b"]}", "USD", LIMIT).event_id == "e"
