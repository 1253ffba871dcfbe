"""Books of accounts: what is judged how, what is kept, and what comes after a crash."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any

import msgspec
import pytest
import zstandard
from msgspec.structs import replace

from schemas.billing_digest import digest_before
from schemas.dead_letters import HEADER_ATTEMPT
from streams.ledger.billing import book
from streams.ledger.billing.book import Book, Rules
from streams.ledger.billing.cells import Cells
from streams.ledger.billing.rows import AccountRows, rows_of
from streams.ledger.billing.state import FORMAT, FULL_BYTES, LARGEST_BYTES, partition_key, segment_key, version_of
from streams.ledger.state import HEADER, StateError
from tests.streams.ledger.billing import shape
from tests.streams.ledger.billing.events import Document, document, event, history_of, subscribed
from tests.streams.ledger.billing.test_days import day
from tests.streams.ledger.record import Record

NOON = day("2025-06-01") * 86_400_000 + 43_200_000
ALL = 10**9


class Desk:
    """One book and what the changelog has of it."""

    def __init__(self, values: dict[bytes, bytes] | None = None) -> None:
        self.values = values if values is not None else {}
        self.book = Book(0, self.values, Rules())
        self.offset = 0
        self._keep([self.book.claim(0)])

    def _keep(self, changes: Iterable[tuple[bytes, bytes]]) -> None:
        self.values.update(changes)

    def take(
        self, *documents: Document | bytes, attempt: int = 0, timestamp: int = NOON
    ) -> tuple[dict[str, int], list[Any]]:
        """Folds messages as one flush; gives the outcomes and the letters."""
        headers = ((HEADER_ATTEMPT, str(attempt).encode()),) if attempt else ()
        records = []
        for one in documents:
            value = one if isinstance(one, bytes) else json.dumps(one).encode()
            records.append(Record(b"A", value, self.offset, timestamp, headers))
            self.offset += 1
        done = self.book.fold(records, 0)
        self._keep(done.changes)
        return {str(outcome): number for outcome, number in done.tally.outcomes.items()}, done.letters

    def again(self, *documents: Document, offset: int) -> dict[str, int]:
        """The same messages from the same place, as after a crash."""
        records = [Record(b"A", json.dumps(one).encode(), offset + at, NOON) for at, one in enumerate(documents)]
        done = self.book.fold(records, 0)
        self._keep(done.changes)
        return {str(outcome): number for outcome, number in done.tally.outcomes.items()}

    def restarted(self) -> Desk:
        """Another owner's."""
        return Desk(self.values)

    def write(self) -> AccountRows:
        """Writes all rows that are to be written."""
        history = self.book.unwritten(ALL, ALL)
        rows = rows_of(history, Cells(), 0, self.book.version.row)
        change = self.book.written(history.account_ids)
        if change is not None:
            self._keep([change])
        return rows


def test_the_first_content_of_an_id_stands() -> None:
    desk = Desk()
    first = subscribed("subscription_created", "2025-01-01", 10, "100.00")
    same = dict(reversed(first.items()))
    other = first | {"subscription": first["subscription"] | {"seats": 11}}
    assert desk.take(first)[0] == {"applied": 1}
    assert desk.take(same)[0] == {"duplicate": 1}
    outcomes, (letter,) = desk.take(other)
    assert outcomes == {"dead": 1}
    assert (letter.reason, letter.place) == ("conflict", (0, 2))
    assert "`$.event_id`" in letter.sentence
    assert desk.book.history(["A"]).movements.seats_to.tolist() == [10]
    # in one flush too, and of another account it is another event
    second = document("outreach_requested", "2025-01-01")
    elsewhere = second | {"account_id": "B", "x": 1}
    assert desk.take(second, second, second | {"x": 1}, elsewhere)[0] == {"applied": 2, "duplicate": 1, "dead": 1}


def test_a_replayed_letter_is_folded_again_and_other_content_stays_a_conflict() -> None:
    desk = Desk()
    first = document("outreach_requested", "2025-01-01", channel="partner")
    desk.take(first)
    assert desk.take(first, attempt=1)[0] == {"applied": 1}
    outcomes, (letter,) = desk.take(first | {"channel": "automatic"}, attempt=2)
    assert outcomes == {"dead": 1}
    assert (letter.reason, letter.attempt) == ("conflict", 2)


def test_future_is_more_than_a_day_after_the_received_time_to_the_microsecond() -> None:
    desk = Desk()
    at = document("outreach_requested", "2025-06-02T12:00:00Z")
    behind = document("outreach_requested", "2025-06-02T12:00:00.000001Z")
    outcomes, (letter,) = desk.take(at, behind)
    assert outcomes == {"applied": 1, "dead": 1}
    assert (letter.reason, letter.place) == ("future", (0, 1))
    assert desk.take(behind, timestamp=NOON + 1)[0] == {"applied": 1}


def test_what_comes_again_from_its_place_is_applied_again() -> None:
    desk = Desk()
    events = [document("outreach_requested", f"2025-01-0{number}") for number in (1, 2, 3)]
    desk.take(*events)
    desk.write()
    after = desk.restarted()
    assert after.book.dirty == 0
    assert after.again(*events, offset=0) == {"applied": 3}
    assert after.book.dirty == 1  # the rows may not be there
    assert len(after.book.events("A")) == 3


def test_the_state_knows_whose_rows_are_missing() -> None:
    desk = Desk()
    desk.take(*(document("outreach_requested", "2025-01-01", f"A{n}") for n in range(FULL_BYTES // 50)))
    desk.write()
    desk.take(document("outreach_requested", "2025-01-02", "B"))
    after = desk.restarted()
    assert after.book.needs_roll(0)
    assert after.write().accounts[0] == ["B"]
    assert after.restarted().book.dirty == 0


def test_a_later_owners_rows_stand_whatever_the_older_one_still_writes() -> None:
    desk = Desk()
    desk.take(document("outreach_requested", "2025-01-01"))
    old = desk.write().version
    after = desk.restarted()
    after.take(document("outreach_requested", "2025-01-02"))
    assert after.write().version > old
    desk.book.fold([], 0)
    assert desk.book.version < after.book.version


def test_a_message_under_a_wrong_key_goes_home_with_its_place() -> None:
    rules = Rules(partitions=2, partition_of=lambda key: int(key == b"B"))
    here, home = Book(0, values := {}, rules), Book(1, others := {}, rules)
    values.update([here.claim(0)])
    others.update([home.claim(0)])
    message = json.dumps(document("outreach_requested", "2025-01-01", "B")).encode()
    done = here.fold([Record(None, message, 7, NOON)], 0)
    assert done.tally.outcomes == {}
    (sent,) = done.forwards
    assert (sent.key, sent.timestamp) == (b"B", NOON)
    arrived = Record(sent.key, sent.value, 0, sent.timestamp)
    # forwarded twice, as the first owner fell before its commit; and read twice, as the home did
    taken = home.fold([], 0, [arrived, arrived._replace(offset=1)])
    others.update(taken.changes)
    assert dict(taken.tally.outcomes) == {"applied": 1}
    after = Book(1, others, rules)
    others.update([after.claim(0)])
    assert dict(after.fold([], 0, [arrived]).tally.outcomes) == {"applied": 1}
    assert dict(after.fold([], 0, [arrived._replace(offset=1)]).tally.outcomes) == {}
    conflict = json.dumps(json.loads(message) | {"x": 1}).encode()
    (sent,) = here.fold([Record(None, conflict, 8, NOON)], 0).forwards
    (letter,) = after.fold([], 0, [Record(sent.key, sent.value, 2, sent.timestamp)]).letters
    assert (letter.reason, letter.place) == ("conflict", (0, 8))


def test_ten_thousand_events_in_small_values() -> None:
    desk = Desk()
    created = subscribed("subscription_created", "2020-01-01", 1, "10.00")
    changes = [
        subscribed("quantity_changed", f"202{n // 2500}-{1 + n % 12:02d}-{1 + n % 28:02d}", 1 + n % 50, "10.00", event_id=f"n{n}")
        for n in range(9_999)
    ]  # fmt: skip
    desk.take(created, *changes[:-1])
    assert max(map(len, desk.values.values())) < LARGEST_BYTES + FULL_BYTES
    before = dict(desk.values)
    assert desk.take(changes[-1])[0] == {"applied": 1}
    written = [value for key, value in desk.values.items() if before.get(key) != value]
    assert len(written) == 2  # the last segment, and the partition's own record
    assert max(map(len, written)) < FULL_BYTES + 1_000
    assert len(desk.restarted().book.history(["A"]).movements.sub) == 10_000
    del desk.values[segment_key(3)]
    with pytest.raises(StateError, match="segment 3"):
        Book(0, desk.values, Rules())


def test_events_of_many_accounts_are_found_again() -> None:
    desk = Desk()
    for start in range(0, 2_000, 37):
        desk.take(
            *(
                document("outreach_requested", "2025-01-01", f"A{n % 90}", event_id=f"e{n}")
                for n in range(start, start + 37)
            )
        )
    after = desk.restarted().book
    assert sorted(after.accounts) == sorted(f"A{n}" for n in range(90))
    for n in range(90):
        assert [event.event_id for event in after.events(f"A{n}")] == [f"e{m}" for m in range(n, 2_035, 90)]


def test_events_that_come_again_leave_no_row_missing() -> None:
    """Also when the worker falls after their state is durable, and before their rows are written."""
    desk = Desk()
    events = [document("outreach_requested", "2025-01-01", account) for account in "ABC"]
    desk.take(*events)
    desk.write()
    assert desk.take(events[1])[0] == {"duplicate": 1}
    after = desk.restarted()
    assert "B" in after.write().accounts[0]
    assert after.restarted().book.dirty == 0


def test_the_state_of_an_older_program_is_read() -> None:
    """Of format 1, which kept an account's events in pieces: a closed one and an open one of an account; and had other
    digests."""
    documents = [document("outreach_requested", f"2025-01-0{n}", event_id=f"e{n}") for n in (1, 2, 3)]
    events = [replace(event(one), digest=digest_before(json.dumps(one).encode())) for one in documents]
    facts = [msgspec.msgpack.encode((one, 0, offset)) for offset, one in enumerate(events)]
    closed = (2).to_bytes(4, "big") + b"".join(facts[:2])
    key = b"a" + hashlib.blake2b(b"A", digest_size=16).digest()
    values = {
        partition_key(0): HEADER.pack(1, 3, 1, 5) + msgspec.msgpack.encode((3, 20_000, (1, 3), True)),
        key + (0).to_bytes(4, "big"): HEADER.pack(1, 2, 1, 2) + zstandard.compress(closed),
        key + (1).to_bytes(4, "big"): HEADER.pack(1, 1, 1, 4) + (1).to_bytes(4, "big") + facts[2],
    }
    desk = Desk(values)
    assert (desk.book.epoch, desk.book.read_to, desk.book.rolled_to, desk.book.dirty) == (2, 3, 20_000, 1)
    assert desk.book.events("A") == events
    assert desk.again(documents[2], offset=2) == {"applied": 1}
    assert desk.again(documents[0], offset=7) == {"duplicate": 1}
    assert desk.again(documents[1] | {"channel": "partner"}, offset=8) == {"dead": 1}
    desk.take(document("outreach_requested", "2025-01-04", event_id="e4"))
    assert [one.event_id for one in desk.restarted().book.events("A")] == ["e4", "e1", "e2", "e3"]


FORMAT_2 = bytes.fromhex(
    "020400000001000000000000000200000068949ba26531b4737562736372697074696f6e5f63726561746564cf00062a99ba0c60"
    "00f9a141ac73656c665f73657276696365cfd3fe03a4eb8791adc099a153ac73656c665f6d616e61676564a77072656d69756d0a"
    "ce00015f9000a23937a26162c2c0c00000ff00000047949ba26532af6163636f756e745f75706461746564cf00062aadd7e3c000"
    "00a141a0cf8626508ee9ad999f98a0a24445a4454d4541a75ac3bc72696368a0a0a0a0c0c0c00001ff0000003e949ba26533af61"
    "64646f6e5f707572636861736564cf00062ac1f5bb200000a141a0cf4cccacd1e8e8784bc0c093a773746f7261676503cd0bb8c0"
    "0002ff00000035949ba26534ac73656174735f73796e636564cf00062ad61392800000a141a0cf87c0c5074419370ec0c0c093a1"
    "53cd012cc00003ff00000030949ba26535ad747269616c5f73746172746564cf00062aea3169e00000a142a0cf8c1818e6f48f75"
    "99c0c0c0c00004ff"
)
"""A segment of format 2 as it was first written: four events of an account and one of another."""


def test_the_state_of_format_2_is_read() -> None:
    values = {
        segment_key(0): FORMAT_2,
        partition_key(0): bytes.fromhex("02030000000100000000000000039605cd4e20920101c300d280000000"),
    }
    desk = Desk(values)
    assert (desk.book.epoch, desk.book.read_to, desk.book.rolled_to, desk.book.dirty) == (2, 5, 20_000, 2)
    account = {"country": "DE", "geo": "EMEA", "territory": "Zürich"}
    more = {"event_id": "e1", "sequence": -7, "channel": "self_service", "license_sha256": "ab", "namespace_id": "97"}
    events = [
        event(subscribed("subscription_created", "2025-01-01", 10, "900.00", **more)),
        event(document("account_updated", "2025-01-02", event_id="e2") | {"account": account}),
        event(document("addon_purchased", "2025-01-03", event_id="e3", addon={"addon": "storage", "quantity": 3, "amount": "30.00"})),
        event(document("seats_synced", "2025-01-04", event_id="e4", seat_sync={"subscription_id": "S", "billable_users": 300})),
    ]  # fmt: skip
    assert desk.book.events("A") == [
        replace(one, digest=kept.digest) for one, kept in zip(events, desk.book.events("A"), strict=True)
    ]
    found = {key[0]: row for key, row in shape.accounts(desk.write())}
    expected = dict(shape.accounts(rows_of(history_of([events]), Cells(), 0, 1)))
    assert found["A"] == next(iter(expected.values()))


def test_accounts_are_read_alike_from_few_segments_and_from_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole segments, or what is wanted of them: the older ones too, which format 1 left behind."""
    values = {
        b"a" + n.to_bytes(16, "big") + (0).to_bytes(4, "big"): HEADER.pack(1, 1, 1, 1) + (1).to_bytes(4, "big")
        + msgspec.msgpack.encode((event(document("trial_started", "2025-01-01", f"A{n}", event_id=f"old{n}")), 0, n))
        for n in range(20)
    }  # fmt: skip
    desk = Desk(values)
    for start in range(0, 1_000, 100):
        desk.take(
            *(
                subscribed("quantity_changed", "2025-01-02", n, "10.00", account=f"A{n % 50}", event_id=f"e{n}")
                for n in range(start, start + 100)
            )
        )
    ids = [f"A{n}" for n in range(0, 50, 7)]
    read = []
    for sparse_bytes in (0, 1 << 30):
        monkeypatch.setattr(book, "SPARSE_BYTES", sparse_bytes)
        read.append(list(shape.accounts(rows_of(desk.book.history(ids), Cells(), 0, 1))))
    assert read[0] == read[1]
    assert [key[0] for key, _ in read[0]] == ids
    assert [len(row["movement"]) for _, row in read[0]] == [20] * 8
    assert [any(action[1].startswith("old") for action in row["action"]) for _, row in read[0]] == [True] * 3 + [
        False
    ] * 5


def test_accounts_whose_rows_are_on_the_way_are_left_out() -> None:
    desk = Desk()
    desk.take(*(document("trial_started", "2025-01-01", f"A{n}") for n in range(5)))
    assert [desk.book.unwritten(2, ALL, behind).account_ids for behind in (0, 2, 4)] == [
        ["A0", "A1"],
        ["A2", "A3"],
        ["A4"],
    ]
    assert desk.book.unwritten(ALL, 3).account_ids == ["A0", "A1", "A2"]
    assert desk.book.dirty == 5


def test_damaged_state_is_refused() -> None:
    desk = Desk()
    desk.take(document("trial_started", "2025-01-01"))
    desk.values[segment_key(0)] = desk.values[segment_key(0)].replace(b"trial_started", b"trial\xffstarted")
    with pytest.raises(StateError, match="was damaged"):
        desk.book.history(["A"])


def test_the_newest_received_time_outlives_a_restart() -> None:
    """Nothing may come behind the message that it is of."""
    desk = Desk()
    desk.take(document("outreach_requested", "2025-01-01"), timestamp=NOON + 7)
    assert desk.restarted().book.newest_timestamp == NOON + 7


def test_a_segment_that_an_older_owner_wrote_after_its_time_becomes_the_new_owners() -> None:
    """Another owner of the past may write over it still, and what is in it may be acknowledged by now."""
    desk = Desk()
    desk.take(document("outreach_requested", "2025-01-01", event_id="e1"))
    after = desk.restarted()
    (change,) = after.book.own([segment_key(0), partition_key(0)])
    assert version_of(change.value) == after.book.version and change.key == segment_key(0)
    assert after.book.dirty == 1
    after.values.update([change])
    assert [one.event_id for one in after.restarted().book.events("A")] == ["e1"]


def test_the_state_of_a_newer_program_is_refused() -> None:
    desk = Desk()
    key = partition_key(0)
    desk.values[key] = HEADER.pack(FORMAT + 1, 3, 1, 1) + desk.values[key][HEADER.size :]
    with pytest.raises(StateError, match="run the newer version again"):
        Book(0, desk.values, Rules())
