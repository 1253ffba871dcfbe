"""Messages that were good once: changed as documents, changed as bytes, or never messages at all."""

from __future__ import annotations

import datetime as dt
import json
from functools import cache
from typing import Any, Final

from hypothesis import strategies as st

from tests.strange import strange_records
from tests.strange_billing import strange_billing_records

DAY: Final = dt.date(2026, 3, 20)
BASES: Final = 300
LARGEST: Final = 8 * 1024 * 1024

TOKENS: Final = [
    b"null", b"true", b"-1", b"0", b"-0", b"1.5", b"1e400", b"-1e-400", b"1E+2", b"01", b"1.", b".5", b"NaN", b"-Infinity", b"1e", b"--1",
    b"9223372036854775807", b"9223372036854775808", b"18446744073709551615", b"18446744073709551616", b"1" * 400, b"9" * 5000,
    b"1e999999999999999999", b"0." + b"0" * 400 + b"1",
    b'""', b'"\\ud800"', b'"\\udc00\\ud800"', b'"\\ud83d\\ude00"', b'"\\u0000"', b'"\\ufdd0"', '"\ufdd0"'.encode(), b'"\\x"',
    b'"\n"', b'"\xff"', b'"\xed\xa0\x80"', b'"' + b"x" * 65 + b'"', b'"' + b"x" * 257 + b'"', b'"' + b"y" * 100_000 + b'"',
    b'"9999-12-31T23:59:59.999999999Z"', b'"0001-01-01T00:00:00Z"', b'"1969-12-31T23:59:59Z"', b'"2026-02-30"', b'"2026-03-20T24:00:00Z"',
    b'"2026-03-20T10:00:00+23:59"', b'"9999-12-31T23:59:59-14:00"', b'"2026-03-20T10:00:00.' + b"1" * 1000 + b'Z"', b'"0001-01-01"',
    b'"1e12"', b'"-0.005"', b'"1e-999"', b'"999999999999.995"', b'"EUR"', b'"gitlab.com"', b'"GitLab.com"', b'"free"',
    b"[]", b"{}", b"[[]]", b"[" * 120 + b"]" * 120, b'{"a":' * 120 + b"1" + b"}" * 120, b"[" * 3000, b'[{"": {"": ""}}]',
    b"[" + b"1," * 3000 + b"1]", b"[" + b'"u",' * 3000 + b'"u"]',
]  # fmt: skip
"""Values for any place."""

SPLINTERS: Final = [
    *b'{}[]":,\\/ \t\r\n0-.eE', 0, 0x1B, 0x80, 0xC3, 0xED, 0xF4, 0xFF,
]  # fmt: skip


@cache
def pings() -> list[bytes]:
    return [record.value for record in strange_records(11, BASES, last_day=DAY)]


@cache
def events() -> list[bytes]:
    return [record.value for record in strange_billing_records(11, BASES, last_day=DAY)]


def places(node: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths of everything in a document, the document first."""
    found = [path]
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for name, part in items:
        found += places(part, (*path, name))
    return found


def grafted(document: Any, path: tuple[Any, ...], token: bytes, how: str) -> bytes:
    """The document's JSON with a token instead of the part at a path, beside it, or the part gone or many times."""
    mark = "\x00here\x00"
    root = [document]
    node: Any = root
    where = (0, *path)
    for name in where[:-1]:
        node = node[name]
    last = where[-1]
    if how == "gone":
        del node[last]
        return json.dumps(root).encode()[1:-1]
    part = json.dumps(node[last]).encode()
    node[last] = mark
    text = json.dumps(root).encode()[1:-1]
    spot = json.dumps(mark).encode()
    if how == "twice" and isinstance(last, str):
        return text.replace(spot, part + b"," + json.dumps(last).encode() + b":" + token, 1)
    if how == "many":
        return text.replace(spot, b"[" + b",".join([part] * min(500, 1 + 200_000 // len(part))) + b"]", 1)
    return text.replace(spot, token, 1)


@st.composite
def messages(draw: st.DrawFn, bases: list[bytes]) -> bytes:
    """Any value of a record, most of them near to a message."""
    value = draw(st.sampled_from(bases))
    kind = draw(st.sampled_from(["document", "document", "document", "bytes", "both", "raw", "filled"]))
    if kind == "raw":
        return draw(st.binary(max_size=2000))
    if kind in ("document", "both"):
        for _ in range(draw(st.integers(1, 4))):
            try:
                document = json.loads(value)
            except (ValueError, RecursionError):
                break
            path = draw(st.sampled_from(places(document)))
            how = draw(st.sampled_from(["instead", "instead", "instead", "gone", "twice", "many"]))
            token = draw(st.sampled_from(TOKENS) | st.text(max_size=300).map(lambda text: json.dumps(text).encode()))
            value = grafted(document, path, token, how)
            if len(value) > LARGEST:
                break
    if kind in ("bytes", "both"):
        for _ in range(draw(st.integers(1, 5))):
            at = draw(st.integers(0, len(value)))
            to = min(len(value), at + draw(st.integers(0, 30)))
            put = draw(st.sampled_from(TOKENS) | st.lists(st.sampled_from(SPLINTERS), max_size=4).map(bytes))
            value = value[:at] + put + value[draw(st.sampled_from([at, to])) :]
    if kind == "filled":
        field = draw(st.sampled_from([b"filling", *FIELDS]))
        size = draw(st.sampled_from([2**12, 2**12, 2**16, 2**18, 2**20, LARGEST - len(value) - 100]))
        value = filled(value, field, draw(st.sampled_from(TOKENS)), size)
    return value[:LARGEST]


FIELDS: Final = [
    b"counts", b"usage_activity_by_stage_monthly", b"redis_hll_counters", b"users_by", b"activity", b"sessions", b"hostname",
    b"licensee", b"subscription", b"account", b"type",
]  # fmt: skip
"""Fields that are looked into."""


def filled(value: bytes, field: bytes, token: bytes, size: int) -> bytes:
    """A message with a list of tokens in a field, of some bytes."""
    more = b'{"%b":[' % field + b",".join([token] * max(1, size // (len(token) + 1))) + b"]"
    return more + b"," + value[1:] if value.startswith(b"{") else more + b"}" + value
