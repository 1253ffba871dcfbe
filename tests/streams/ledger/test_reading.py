"""Users of an entry by the fast reader and the slow one; repeated days found by their bytes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.dead_letters import Unreadable
from schemas.ping import depth
from streams.ledger import kernels
from streams.ledger.pseudonym import Pseudonymiser
from streams.ledger.reading import Read, Reading, Told, Users
from streams.ledger.records import ScopeKey

KEY = Pseudonymiser(b"0123456789abcdef")


class Record(NamedTuple):
    value: bytes | None
    key: bytes | None = b"u"
    offset: int = 0
    timestamp: int = 0
    headers: Sequence[tuple[str, bytes]] = ()


def ping(*entries: tuple[str, str, str]) -> Record:
    """A ping of (date, feature, users as JSON)."""
    activity = ",".join(
        f'{{"date":"{date}","stage":"create","feature":"{feature}","users":{users}}}'
        for date, feature, users in entries
    )
    return Record(f'{{"uuid":"u","recorded_at":"2026-01-09T00:00:00Z","activity":[{activity}]}}'.encode())


def read(*records: Record, told: Told | None = None) -> tuple[list[Read | Unreadable], Users]:
    def last_told(_: ScopeKey) -> Told | None:
        return told

    reading = Reading(last_told, KEY, 2**20, frozenset({"gitlab.com"}))
    found = reading.read(records)
    return found, reading.users()


def pseudonyms(*ids: int) -> list[int]:
    some = np.array(ids, np.uint64)
    KEY.integers(some)
    return [int(one) for one in some]


@given(
    st.lists(st.lists(st.integers(0, 2**64 - 1) | st.integers(0, 99), max_size=9), min_size=1, max_size=6),
    st.sampled_from(["", " ", "\n\t "]),
)
def test_the_fast_reader_reads_what_the_standard_library_reads(lists: list[list[int]], space: str) -> None:
    texts = [json.dumps(one, separators=("," + space, ":")).replace("[", "[" + space).encode() for one in lists]
    sizes = np.array([len(text) for text in texts])
    ends = np.cumsum(sizes)
    ids, lengths, plain = (
        np.empty(int(ends[-1]) + 9, np.uint64),
        np.empty(len(texts), np.int64),
        np.empty(len(texts), np.bool_),
    )
    total = kernels.parse_ids(np.frombuffer(b"".join(texts), np.uint8), ends - sizes, ends, ids, lengths, plain)
    expected = [one for one in lists if all(user < 10**19 for user in one)]
    assert plain.tolist() == [one in expected for one in lists]
    assert ids[:total].tolist() == [user for one in expected for user in one]


@pytest.mark.parametrize(
    "users",
    [
        "5",
        "{}",
        "null",
        '"17"',
        "[[1]]",
        "[1,[2]]",
        "[[],1]",
        "[-1]",
        "[1.5]",
        "[1e2]",
        "[true]",
        "[{}]",
        "[18446744073709551616]",
    ],
)
def test_what_is_no_list_of_users_is_an_error_with_its_path(users: str) -> None:
    (message,), _ = read(ping(("2026-01-08", "good", "[1]"), ("2026-01-08", "bad", users)))
    assert isinstance(message, Read) and message.error is not None
    assert "$.activity[1].users" in message.error


def test_both_forms_of_ids_are_read() -> None:
    (message,), users = read(
        ping(
            ("2026-01-08", "a", "[3, 18446744073709551615]"), ("2026-01-08", "b", '["x",7]'), ("2026-01-08", "c", "[]")
        )
    )
    assert isinstance(message, Read)
    found = [
        users.ids[users.starts[entry.number] : users.starts[entry.number] + users.lengths[entry.number]].tolist()
        for entry in message.entries
    ]
    assert found == [pseudonyms(3, 2**64 - 1), [*pseudonyms(7), KEY.string("x")], []]


A, B, C = (("2026-01-06", "a", "[1]"), ("2026-01-07", "b", "[2]"), ("2026-01-08", "c", "[3]"))


@pytest.mark.parametrize(
    ("first", "second", "new"),
    [
        ([A, B], [B, C], 1),  # oldest first
        ([B, A], [C, B], 1),  # newest first
        ([A, B], [A, B], 0),
        ([A, B, A], [A, C], 2),  # found by the first of equal ones only: read again
        ([A, B], [A, C], 2),  # not at the end of the one before: read again
        ([A], [C], 1),
        ([A, B], [B], 0),
    ],
)
def test_repeated_entries_are_taken_over(
    first: list[tuple[str, str, str]], second: list[tuple[str, str, str]], new: int
) -> None:
    (one, two), _ = read(ping(*first), ping(*second))
    assert isinstance(one, Read) and isinstance(two, Read)
    assert sum(entry not in one.entries for entry in two.entries) == new
    assert [entry.feature for entry in two.entries] == [feature for _, feature, _ in second]
    (again,), _ = read(ping(*second), told=one.told)
    assert isinstance(again, Read)
    assert [entry.feature for entry in again.entries] == [feature for _, feature, _ in second]


@given(
    st.recursive(
        st.none() | st.text() | st.integers(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
@settings(deadline=None)
def test_the_compiled_depth_of_json_is_the_plain_one(value: object) -> None:
    for text in (json.dumps(value), json.dumps(value, ensure_ascii=False, indent=1)):
        data = text.encode(errors="surrogatepass")
        assert kernels.nesting(np.frombuffer(data, np.uint8)) == depth(data)


def test_brackets_and_quotes_in_strings_are_no_depth() -> None:
    for text in (rb'["[[[\"[[","]]",{"a\\":["[" ]}]', rb'{"\\\"":[1,"\\",[2]]}', b'"[[["', b"17"):
        assert kernels.nesting(np.frombuffer(text, np.uint8)) == depth(text)
