"""The small world of strange billing events: the same everywhere, some of each kind, and one meaning for every record."""

from __future__ import annotations

import datetime as dt
import json
import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from fractions import Fraction
from itertools import pairwise
from typing import Any

import pytest

from deploy.fleet.billing_noise import BREAKAGES
from streams.forwarder import partition_of
from tests.oracle.billing import BLOCKS, PARTS, BillingExpected, Subscription, expect, judge
from tests.oracle.usage import Record, Rules
from tests.strange import GITLABS_OWN, StrangeRecord, marked, strange_records, with_raw
from tests.strange_billing import (
    ABSENT,
    ACCOUNTS,
    BROKEN,
    CLOCK_DAYS,
    EVENT_IDS,
    GOOD_BLOCKS,
    LICENCES,
    LONELY,
    NOTES,
    SUBSCRIPTIONS,
    block_of,
    changed_by,
    strange_billing_records,
)

LAST_DAY = dt.date(2024, 11, 20)
"""So that 29 February is among the days."""
RULES = Rules(as_of=LAST_DAY)
DAY = dt.timedelta(days=1)
BROKEN_BY = {name: reason for breakages in (BREAKAGES, BROKEN) for name, (reason, *_) in breakages.items()}


def records_of(stream: Iterable[StrangeRecord], topic: str = "billing-events") -> list[Record]:
    offsets: Counter[int] = Counter()
    records = []
    for one in stream:
        records.append(Record(topic, one.partition, offsets[one.partition], one.timestamp_ms, one.key, one.value))
        offsets[one.partition] += 1
    return records


@pytest.fixture(scope="module")
def records() -> list[Record]:
    return records_of(strange_billing_records(1, 500, last_day=LAST_DAY))


@pytest.fixture(scope="module")
def expected(records: list[Record]) -> BillingExpected:
    return expect(records, RULES)


@pytest.fixture(scope="module")
def applied(records: list[Record]) -> list[tuple[Record, dict[str, Any]]]:
    """The records that nothing is wrong with, not even that they come again, with what they hold."""
    _, _, letters = judge(records, RULES)
    dead = {(row["partition"], row["offset"]) for row in letters}
    good: dict[tuple[str, str], tuple[Record, dict[str, Any]]] = {}
    for record in records:
        if (record.partition, record.offset) not in dead:
            document = json.loads(record.value)
            good.setdefault((document["account_id"], document["event_id"]), (record, document))
    return list(good.values())


def test_the_same_seed_gives_the_same_records_and_another_one_others() -> None:
    stream = strange_billing_records(1, 300, last_day=LAST_DAY)
    assert strange_billing_records(1, 300, last_day=LAST_DAY) == stream
    assert strange_billing_records(2, 300, last_day=LAST_DAY) != stream


def test_they_are_made_in_no_time() -> None:
    begun = time.process_time()
    strange_billing_records(3, 300, last_day=LAST_DAY)
    assert time.process_time() - begun < 1


def test_there_are_as_many_records_as_asked_for_on_as_many_partitions() -> None:
    for count, partitions in ((0, 4), (1, 1), (50, 1), (50, 3)):
        stream = strange_billing_records(7, count, partitions=partitions, days=10, last_day=LAST_DAY)
        assert len(stream) == count
        assert {one.partition for one in stream} <= set(range(partitions))
    assert {one.partition for one in stream} == {0, 1, 2}


@pytest.mark.parametrize("seed", range(4))
def test_every_record_has_one_meaning_however_the_partitions_are_interleaved(seed: int) -> None:
    records = records_of(strange_billing_records(seed, 200, last_day=LAST_DAY))
    events, outcomes, letters = judge(records, RULES)
    for order in ((3, 2, 1, 0), (1, 3, 0, 2)):
        again = judge(sorted(records, key=lambda record: order.index(record.partition)), RULES)
        assert sorted(again[0], key=repr) == sorted(events, key=repr)
        assert again[1] == outcomes
        assert sorted(again[2], key=repr) == sorted(letters, key=repr)


def test_messages_become_everything_that_they_can_become(expected: BillingExpected, records: list[Record]) -> None:
    outcomes = {outcome: number for (_, outcome), number in expected.outcomes.items()}
    assert sum(outcomes.values()) == len(records)
    assert outcomes["applied"] > len(records) / 2
    assert min(outcomes["duplicate"], outcomes["dead"]) > len(records) / 20
    reasons = Counter(row["reason"] for row in expected.dead_letter)
    assert reasons.keys() == {
        "not_json", "too_deep", "invalid", "future", "conflict", "unknown_type", "unsupported_currency",
    }  # fmt: skip
    assert min(reasons["future"], reasons["conflict"]) > 5
    assert {row["kind"] for row in expected.seat_movement} == {
        "new", "growth", "renewal_growth", "contraction", "churn", "none",
    }  # fmt: skip
    assert len({row["motion"] for row in expected.self_service_action}) == 6


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_dies_of_its_reason_and_is_good_without_it(name: str) -> None:
    reason, kind, changes = BROKEN[name]
    good = {"event_id": "b", "type": kind, "occurred_at": "2024-01-01T00:00:00Z", "account_id": "child"}
    if block := block_of(kind):
        good[block] = GOOD_BLOCKS[block]
    for document, reasons in ((good, []), (changed_by(good, changes), [reason])):
        value = with_raw(json.dumps(marked(document)))
        letters = judge([Record("billing-events", 0, 0, 1_704_067_200_000, b"child", value)], RULES)[2]
        assert [row["reason"] for row in letters] == reasons


def test_every_breakage_comes_in_its_turn() -> None:
    _, _, letters = judge(records_of(strange_billing_records(4, 1_200, last_day=LAST_DAY)), RULES)
    reasons = Counter(row["reason"] for row in letters)
    for reason, number in Counter(BROKEN_BY.values()).items():
        assert reasons[reason] >= number, reason


def test_they_are_out_of_order_by_up_to_120_days(applied: list[tuple[Record, dict[str, Any]]]) -> None:
    newest = dt.datetime.min.replace(tzinfo=dt.UTC)
    behind = []
    for _, document in applied:
        occurred = moment_of(document)
        behind.append((newest - occurred).days)
        newest = max(newest, occurred)
    assert 110 <= max(behind) <= 120 + CLOCK_DAYS + 1
    assert sum(days > 20 for days in behind) > len(applied) / 20
    assert sum(days <= 2 for days in behind) > len(applied) / 4


def moment_of(document: dict[str, Any]) -> dt.datetime:
    return dt.datetime.fromisoformat(document["occurred_at"].upper()).astimezone(dt.UTC)


def test_the_future_begins_after_24_hours(records: list[Record], applied: list[tuple[Record, dict[str, Any]]]) -> None:
    _, _, letters = judge(records, RULES)
    future = {(row["partition"], row["offset"]) for row in letters if row["reason"] == "future"}
    ahead: dict[bool, set[dt.timedelta]] = defaultdict(set)
    for is_future, some in ((True, records), (False, [record for record, _ in applied])):
        for record in some:
            if is_future == ((record.partition, record.offset) in future):
                received = dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(milliseconds=record.timestamp_ms)
                ahead[is_future].add(moment_of(json.loads(record.value)) - received)
    assert max(ahead[False]) == DAY
    assert DAY < min(ahead[True]) < DAY + dt.timedelta(milliseconds=1)
    assert DAY + dt.timedelta(milliseconds=1) in ahead[True]
    assert max(ahead[True]) > 2 * DAY


def test_events_meet_at_an_instant_on_a_day_and_a_year_later(applied: list[tuple[Record, dict[str, Any]]]) -> None:
    at: dict[tuple[str, dt.datetime], list[tuple[int, str]]] = defaultdict(list)
    states: dict[Subscription, list[dt.date]] = defaultdict(list)
    for _, document in applied:
        at[document["account_id"], moment_of(document)].append((document.get("sequence") or 0, document["event_id"]))
        if BLOCKS[document["type"]] == "subscription":
            states[subscription_of(document)].append(moment_of(document).date())
    ways: Counter[str] = Counter()
    for places in at.values():
        for one, other in pairwise(sorted(places)):
            ways["by sequence"] += one[0] != other[0]
            ways["by event id"] += one[0] == other[0]
            ways["against UTF-16"] += one[1].encode("utf-16-be") > other[1].encode("utf-16-be")
    for days in states.values():
        ways["several on a day"] += sum(number > 2 for number in Counter(days).values())
        for day in days:
            ways["end of February"] += (day.month, day.day) == (2, 29)
            ways["end of a month"] += (day + DAY).day == 1
            ways["a year later"] += any(
                (later.month, later.day) == (day.month, day.day) and later > day for later in days
            )
            ways["28 days later"] += day + 28 * DAY in days
            ways["27 days later"] += day + 27 * DAY in days
    assert {name for name, number in ways.items() if not number} == set()
    assert len(ways) == 9
    assert max(day for days in states.values() for day in days) > LAST_DAY, "nothing occurs behind the as-of clock"
    assert {document["event_id"].rstrip("0123456789") for _, document in applied} == set(EVENT_IDS)
    assert {document.get("sequence", "absent") for _, document in applied} >= {
        "absent",
        None,
        0,
        -1,
        2**63 - 1,
        -(2**63),
    }


def subscription_of(document: dict[str, Any]) -> Subscription:
    return document["account_id"], document["subscription"]["subscription_id"]


def test_subscriptions_go_every_way(expected: BillingExpected, applied: list[tuple[Record, dict[str, Any]]]) -> None:
    assert {(row["account_id"], row["subscription_id"]) for row in expected.account_kpi} == {
        (bought.account, bought.name) for bought in SUBSCRIPTIONS
    }
    assert {document["account_id"] for _, document in applied} == set(ACCOUNTS)
    assert LONELY not in {row["account_id"] for row in expected.account_kpi}
    cancelled = {e["event_id"] for _, e in applied if e["type"] == "subscription_cancelled"}
    ways: Counter[str] = Counter()
    for row in expected.seat_movement:
        before, after = row["plan_from"], row["plan_to"]
        ways["cancelled"] += row["kind"] == "churn" and row["event_id"] in cancelled
        ways["0 seats without a cancellation"] += row["kind"] == "churn" and row["event_id"] not in cancelled
        ways["cancelled twice"] += row["kind"] == "none" and row["event_id"] in cancelled
        ways["back again"] += row["kind"] == "new" and before != ""
        ways["another plan of the rank"] += {before, after} in ({"bronze", "starter"}, {"gold", "ultimate"})
        ways["seats without money"] += row["seats_to"] > 0 and row["mrr_to"] == 0
        ways["money without seats"] += row["seats_to"] == 0 and row["mrr_to"] > 0
        ways["beyond 64 bits"] += abs(row["seat_mrr"]) * 100 > 2**63
        ways["tie"] += row["seats_from"] > 0 and row["seats_to"] > 0 and is_tie(row)
        for part in PARTS:
            for sign, name in ((1, "up"), (-1, "down")):
                ways[f"{part} {name}"] += row[f"{part}_mrr"] * sign > 0
    held: dict[Subscription, list[dict[str, Any]]] = defaultdict(list)
    for _, document in sorted(applied, key=lambda one: moment_of(one[1])):
        if BLOCKS[document["type"]] == "subscription":
            held[subscription_of(document)].append(document["subscription"])
    for blocks in held.values():
        for one, other in pairwise(blocks):
            for name in ("currency", "deployment", "namespace_id", "license_sha256"):
                ways[f"another {name}"] += one.get(name) != other.get(name)
            ways["another deployment and plan"] += (
                one["deployment"] != other["deployment"] and one["plan"] != other["plan"]
            )
    assert {name for name, number in ways.items() if not number} == set()
    lists = {document["subscription"].get("list_mrr", ABSENT) for _, document in applied if "subscription" in document
             and isinstance(document["subscription"], dict) and "plan" in document["subscription"]}  # fmt: skip
    assert lists >= {ABSENT, None, "", "0", "0.004", "100"}


def is_tie(row: dict[str, Any]) -> bool:
    """Whether the money of the seats lies in the middle between two cents."""
    cents = (row["seats_to"] - row["seats_from"]) * Fraction(row["mrr_from"]) * 100 / row["seats_from"]
    return cents.denominator == 2


def test_profiles_change_and_parents_are_chained(expected: BillingExpected) -> None:
    parents: dict[str, set[str]] = defaultdict(set)
    segments: dict[str, set[str]] = defaultdict(set)
    for account, timeline in expected.profiles.items():
        for back in range(548):
            if (profile := timeline.on(LAST_DAY - back * DAY)) is not None:
                parents[account].add(profile.parent_account_id)
                segments[account].add(profile.segment)
    assert max(map(len, parents.values())) > 2 and max(map(len, segments.values())) > 2
    assert parents["P"] & {"child", "G1"} and "P" in parents["child"], "no chain of parents"
    assert any(account in of_account for account, of_account in parents.items()), "nobody is the own parent"
    assert {parent for of_account in parents.values() for parent in of_account} == {"", "P", "child", "G1"}


def test_addons_and_seat_syncs_are_of_every_kind(
    expected: BillingExpected, applied: list[tuple[Record, dict[str, Any]]]
) -> None:
    amounts = {row["amount"] for row in expected.addon_purchase}
    assert min(amounts) < 0 and 0 in amounts and max(amounts) > 0
    assert {row["quantity"] for row in expected.addon_purchase} >= {0, 1, -1}
    assert "" in {row["addon"] for row in expected.addon_purchase}
    synced = [document["seat_sync"] for _, document in applied if document["type"] == "seats_synced"]
    assert {sync.get("billable_users", "absent") for sync in synced} >= {"absent", None, 0}
    assert any(sync.get("subscription_id") in ("", None) for sync in synced)
    rows = [(row["billable_users"], row["max_users"]) for row in expected.account_kpi]
    assert any(one is None and other is not None for one, other in rows)
    assert any(row["max_users"] is not None and row["max_users"] > row["seats"] for row in expected.account_kpi)


def test_contradictions_are_of_every_kind(records: list[Record]) -> None:
    records = records_of(strange_billing_records(6, 900, last_day=LAST_DAY))
    conflicts = {(r["partition"], r["offset"]) for r in judge(records, RULES)[2] if r["reason"] == "conflict"}
    first: dict[tuple[str, str], dict[str, Any]] = {}
    told: set[str] = set()
    others: Counter[str] = Counter()
    for record in records:
        if (record.partition, record.offset) in conflicts:
            document = json.loads(record.value)
            one = first[document["account_id"], document["event_id"]]
            if one.get("note", ABSENT) != document.get("note", ABSENT) or type(one.get("note")) is not type(
                document.get("note")
            ):
                told.add(repr((one.get("note", ABSENT), document.get("note", ABSENT))))
            for name in ("type", "occurred_at", *GOOD_BLOCKS):
                others[name] += one.get(name) != document.get(name)
        elif b"account_id" in record.value:
            try:
                document = json.loads(record.value)
                first.setdefault((document["account_id"], document["event_id"]), document)
            except (ValueError, TypeError, KeyError):
                continue
    assert others["type"] and others["occurred_at"] and others["subscription"]
    assert len(told) > len(NOTES) / 2


def test_duplicates_are_written_in_many_ways(records: list[Record]) -> None:
    dead = {(row["partition"], row["offset"]) for row in judge(records, RULES)[2]}
    copies: dict[tuple[str, str], list[Record]] = defaultdict(list)
    for record in records:
        if (record.partition, record.offset) not in dead:
            document = json.loads(record.value)
            copies[document["account_id"], document["event_id"]].append(record)
    again = [of_one for of_one in copies.values() if len(of_one) > 1]
    assert any(len({record.value for record in of_one}) == 1 for of_one in again)
    assert any(len({record.value for record in of_one}) > 1 for of_one in again)
    assert any(len({record.partition for record in of_one}) > 1 for of_one in again)
    assert any(record.value.startswith(b'{"event_id":"another"') for of_one in again for record in of_one)
    assert any(b"E-" in record.value for of_one in again for record in of_one), "no number is spelled in another way"
    assert any(
        moment_of(json.loads(record.value)).timestamp() * 1000 > record.timestamp_ms + 2 * 86_400_000
        for of_one in again for record in of_one
    ), "none would be of the future, were it not known"  # fmt: skip


def test_keys_and_partitions_are_right_and_wrong(applied: list[tuple[Record, dict[str, Any]]]) -> None:
    seen: Counter[str] = Counter()
    for record, document in applied:
        right = document["account_id"].encode()
        home = partition_of(right, 4)
        seen["right" if (record.key, record.partition) == (right, home) else "wrong"] += 1
        seen["no key"] += record.key is None
        seen["empty key"] += record.key == b""
        seen["right key, wrong partition"] += record.key == right and record.partition != home
        seen["another's key"] += record.key != right and record.key in {account.encode() for account in ACCOUNTS}
        seen["wrong key, right partition"] += record.key != right and record.partition == home
    assert min(seen.values()) > 0 and len(seen) == 7
    assert seen["right"] > len(applied) / 2
    assert len({partition_of(account.encode(), 4) for account in ACCOUNTS}) > 2


def test_accounts_contend_for_the_installations_and_groups_of_strange_pings(records: list[Record]) -> None:
    pings = records_of(strange_records(1, 300, last_day=LAST_DAY, own=LICENCES), "usage-pings")
    expected = expect(pings + records, RULES)
    seen: Counter[str] = Counter()
    for place in expected.links.pings:
        found = [expected.links.subscription_of(place, LAST_DAY - back * DAY) for back in range(60)]
        seen[place[0]] += any(found)
        seen["nobody's"] += not all(found)
        seen["one after the other"] += len({subscription for subscription in found if subscription}) > 2
    assert seen["self_managed"] == 3 and seen["group"] >= 3
    assert seen["nobody's"] and seen["one after the other"]
    used = [row for row in expected.kpi_seat_utilization if row["mau"] is not None]
    assert {row["basis"] for row in used} >= {"exact", "reported"}
    assert expected.kpi_seats_by_stage
    assert {row["account_id"] for row in expected.kpi_account_usage} > {""}


def test_licences_change_nothing_else_about_strange_pings() -> None:
    for one, other in zip(
        strange_records(1, 200, last_day=LAST_DAY),
        strange_records(1, 200, last_day=LAST_DAY, own=LICENCES),
        strict=True,
    ):
        assert one[:2] == other[:2] and one.timestamp_ms == other.timestamp_ms
        try:
            both = json.loads(one.value), json.loads(other.value)
        except (ValueError, RecursionError):
            continue
        if isinstance(both[0], dict):
            rest = [{k: v for k, v in ping.items() if k not in LICENCES} for ping in both]
            assert rest[0] == rest[1]
    assert set(LICENCES) <= set(GITLABS_OWN)
