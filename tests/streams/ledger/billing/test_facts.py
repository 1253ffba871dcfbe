"""The compiled reading of kept events against what msgspec decodes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.billing import Addon, BillingEvent, Profile, SeatSync, State
from streams.ledger.billing import kernels
from streams.ledger.billing.facts import Facts
from streams.ledger.billing.state import Fact
from streams.ledger.state import StateError
from tests.streams.ledger.billing import shape

EDGES = sorted(
    {sign * (1 << bits) + more for bits in (0, 5, 7, 8, 15, 16, 31, 32, 62) for sign in (1, -1) for more in (-1, 0, 1)}
    | {-(2**63), 2**63 - 1}
)
LENGTHS = (0, 1, 31, 32, 255, 256, 1_000)

integers = st.sampled_from(EDGES) | st.integers(-(2**63), 2**63 - 1)
texts = st.text(max_size=6) | st.sampled_from(LENGTHS).map("é".__mul__)
counts = st.none() | integers.filter(lambda number: number >= 0)
events = st.builds(
    BillingEvent,
    event_id=texts,
    type=texts,
    occurred_at=integers,
    sequence=st.sampled_from([0, 1, -(2**63), 2**63 - 1]),
    account_id=texts,
    channel=texts,
    digest=st.sampled_from([0, 2**63, 2**64 - 1]),
    profile=st.none() | st.builds(Profile, *[texts] * 8),
    state=st.none() | st.builds(State, texts, texts, texts, integers, integers, integers, texts, texts, st.booleans()),
    addon=st.none() | st.builds(Addon, texts, integers, integers),
    sync=st.none() | st.builds(SeatSync, texts, counts, counts),
)


def encoded(some: Sequence[BillingEvent]) -> list[bytes]:
    """Facts as a segment has them."""
    facts = [msgspec.msgpack.encode(Fact(one, 3, number)) for number, one in enumerate(some)]
    return [len(fact).to_bytes(4, "big") + fact for fact in facts]


def read(parts: Sequence[bytes], lengths: Sequence[int]) -> Facts:
    """Facts of accounts, between other bytes."""
    sizes = np.array([len(part) + 3 for part in parts])
    places = np.cumsum(sizes) - sizes + 3
    return Facts([f"A{n}" for n in range(len(lengths))], b"".join(b"???" + part for part in parts), places, lengths)


@given(st.lists(events, min_size=1, max_size=8))
def test_every_column_is_what_a_decoder_finds(some: list[BillingEvent]) -> None:
    facts = read(encoded(some), [1] * len(some))  # an account each: they stay in order
    every = np.arange(len(some))

    def number(row: int) -> Any:
        return facts.number(row).tolist()

    def text(row: int) -> list[str]:
        names, numbers = facts.strings(row)
        found = shape.values(facts.texts(row, every))
        assert found == [names[one] for one in numbers.tolist()] and len(set(names)) == len(names)
        return found

    assert number(kernels.AT) == [one.occurred_at for one in some]
    assert number(kernels.SEQUENCE) == [one.sequence for one in some]
    assert text(kernels.EVENT_ID) == [one.event_id for one in some]
    assert text(kernels.TYPE) == [one.type for one in some]
    assert text(kernels.CHANNEL) == [one.channel for one in some]
    states = [one.state or State("", "", "", 0, 0, 0, "", "", False) for one in some]
    for row, column in (
        (kernels.SUBSCRIPTION, [one.subscription_id for one in states]),
        (kernels.DEPLOYMENT, [one.deployment for one in states]),
        (kernels.PLAN, [one.plan for one in states]),
        (kernels.NAMESPACE, [one.namespace_id for one in states]),
        (kernels.LICENSE, [one.license_sha256 for one in states]),
        (kernels.ADDON, [one.addon.addon if one.addon else "" for one in some]),
        (kernels.SYNCED, [one.sync.subscription_id if one.sync else "" for one in some]),
    ):
        assert text(row) == column
    assert number(kernels.SEATS) == [one.seats for one in states]
    assert number(kernels.MRR) == [one.mrr for one in states]
    assert number(kernels.LIST_MRR) == [one.list_mrr for one in states]
    assert number(kernels.AT_RENEWAL) == [one.at_renewal for one in states]
    assert number(kernels.QUANTITY) == [one.addon.quantity if one.addon else 0 for one in some]
    assert number(kernels.AMOUNT) == [one.addon.amount if one.addon else 0 for one in some]
    for row, counted in (
        (kernels.BILLABLE, [one.sync.billable_users if one.sync else 0 for one in some]),
        (kernels.MOST, [one.sync.max_users if one.sync else 0 for one in some]),
    ):
        assert number(row) == [-1 if count is None else count for count in counted]
    for block, there in (
        (kernels.HAS_PROFILE, [one.profile for one in some]),
        (kernels.HAS_STATE, [one.state for one in some]),
        (kernels.HAS_ADDON, [one.addon for one in some]),
        (kernels.HAS_SYNC, [one.sync for one in some]),
    ):
        assert facts.has(block).tolist() == [one is not None for one in there]
    where = np.flatnonzero(facts.has(kernels.HAS_PROFILE))
    which, different = facts.profiles(where)
    assert [different[one] for one in which.tolist()] == [one.profile for one in some if one.profile is not None]
    assert len(set(different)) == len(different)


def told(event_id: str, at: int, sequence: int = 0, type_: str = "trial_started") -> BillingEvent:
    return BillingEvent(event_id, type_, at, sequence, "A", "", 0, None, None, None, None)


def test_events_stand_by_account_time_sequence_and_id_and_the_first_of_an_id() -> None:
    first = [told("b", 5), told("a", 5), told("é", 5), told("z", 5, -1), told("c", 1, 9), told("a", 0, type_="again")]
    second = [told("a", 3), told("a", 3), told("b", 2)]
    facts = read(encoded([*first, *second]), [6, 3])
    found = shape.values(facts.texts(kernels.EVENT_ID, np.arange(len(facts.account))))
    assert list(zip(facts.account.tolist(), found, strict=True)) == [
        (0, "c"), (0, "z"), (0, "a"), (0, "b"), (0, "é"), (1, "b"), (1, "a"),
    ]  # fmt: skip
    assert facts.strings(kernels.TYPE)[0] == ["trial_started"]


def test_strings_are_numbered_in_the_order_in_which_they_come() -> None:
    facts = read(encoded([told(name, at) for at, name in enumerate("xyxzy" * 40)]), [1] * 200)
    every = np.arange(200)
    (first, second), names = facts.numbered([(kernels.EVENT_ID, every[:3]), (kernels.EVENT_ID, every[3:5])])
    assert (first.tolist(), second.tolist(), shape.values(names)) == ([1, 2, 1], [3, 2], ["", "x", "y", "z"])
    facts = read(encoded([told(name, at) for at, name in enumerate("xyxzy" * 40)]), [100, 100])
    (numbers,), names, accounts = facts.numbered_by_account([(kernels.TYPE, np.arange(len(facts.account)))])
    assert numbers.tolist() == [0] * 3 + [1] * 3
    assert (shape.values(names), accounts.tolist()) == (["trial_started"] * 2, [0, 1])


@pytest.mark.parametrize("block", ["none", "profile", "state", "addon", "sync"])
def test_a_fact_that_is_cut_off_or_none_is_refused(block: str) -> None:
    blocks: dict[str, Any] = {
        "profile": Profile(*"abcdefgh"),
        "state": State("S", "self_managed", "premium", 300, 70_000, 0, "n", "l", True),
        "addon": Addon("storage", 300, -5),
        "sync": SeatSync("S", None, 70_000),
    }
    one = msgspec.structs.replace(told("e1", 2**40), **({block: blocks[block]} if block in blocks else {}))
    (whole,) = encoded([one])
    body = whole[4:]
    end = len(msgspec.msgpack.encode(one)) + 1
    for stop in range(end):
        with pytest.raises(StateError, match="account 'A1' cannot be read"):
            read([whole, stop.to_bytes(4, "big") + body[:stop]], [1, 1])
    with pytest.raises(StateError, match="cannot be read"):  # longer than there are bytes
        read([whole[:-1]], [1])
    # any wrong byte is refused or read as another value, and nothing is read beside it
    for at in range(len(whole)):
        for byte in (0x00, 0x7F, 0x93, 0xC0, 0xC1, 0xCF, 0xD3, 0xDB, 0xFF):
            damaged = whole[:at] + bytes([byte]) + whole[at + 1 :]
            try:
                assert len(read([damaged], [1]).account) == 1
            except StateError as exc:
                assert "docs/operations.md" in str(exc)
