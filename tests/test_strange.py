"""The small world of strange pings: the same everywhere, some of each kind, and one meaning for every record."""

from __future__ import annotations

import datetime as dt
import json
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Any

import pytest

from deploy.fleet.noise import BREAKAGES
from streams.forwarder import partition_of
from tests.oracle.usage import Expected, Record, Rules, expect
from tests.strange import (
    BROKEN_FIELDS,
    FEATURES,
    HLL,
    MEMBERS,
    MONTHLY,
    PLAN_LEAF,
    SMAU_LEAVES,
    USERS,
    StrangeRecord,
    strange_records,
)

LAST_DAY = dt.date(2026, 11, 20)
RULES = Rules(as_of=LAST_DAY)
DAY_MS = 86_400_000


def records_of(stream: Iterable[StrangeRecord]) -> list[Record]:
    offsets: Counter[int] = Counter()
    records = []
    for one in stream:
        records.append(
            Record("usage-pings", one.partition, offsets[one.partition], one.timestamp_ms, one.key, one.value)
        )
        offsets[one.partition] += 1
    return records


def day_of(moment: str) -> int:
    return (dt.datetime.fromisoformat(moment.upper()).astimezone(dt.UTC).date() - dt.date(1970, 1, 1)).days


@pytest.fixture(scope="module")
def stream() -> list[StrangeRecord]:
    return strange_records(1, 300, last_day=LAST_DAY)


@pytest.fixture(scope="module")
def expected(stream: list[StrangeRecord]) -> Expected:
    return expect(records_of(stream), RULES)


@pytest.fixture(scope="module")
def pings(stream: list[StrangeRecord]) -> list[tuple[StrangeRecord, dict[str, Any]]]:
    """The records that hold a ping without a fault, with what they hold."""
    good = []
    for one in stream:
        alone = Record("usage-pings", 0, 0, one.timestamp_ms, one.key, one.value)
        if not {row["reason"] for row in expect([alone], RULES).dead_letter} & {"not_json", "invalid", "too_deep"}:
            good.append((one, json.loads(one.value)))
    return good


def test_the_same_seed_gives_the_same_records_and_another_one_others(stream: list[StrangeRecord]) -> None:
    assert strange_records(1, 300, last_day=LAST_DAY) == stream
    assert strange_records(2, 300, last_day=LAST_DAY) != stream


def test_they_are_made_in_no_time() -> None:
    begun = time.process_time()
    strange_records(3, 300, last_day=LAST_DAY)
    assert time.process_time() - begun < 1


def test_there_are_as_many_records_as_asked_for_on_as_many_partitions() -> None:
    for count, partitions in ((0, 4), (1, 1), (50, 1), (50, 3)):
        stream = strange_records(7, count, partitions=partitions, days=10, last_day=LAST_DAY)
        assert len(stream) == count
        assert {one.partition for one in stream} <= set(range(partitions))
    assert {one.partition for one in stream} == {0, 1, 2}


@pytest.mark.parametrize("seed", range(4))
def test_every_record_has_one_meaning_however_the_partitions_are_interleaved(seed: int) -> None:
    records = records_of(strange_records(seed, 200, last_day=LAST_DAY))
    first = expect(records, RULES)
    for order in ((3, 2, 1, 0), (1, 3, 0, 2)):
        again = expect(sorted(records, key=lambda record: order.index(record.partition)), RULES)
        assert again.outcomes == first.outcomes
        assert again.dead_letter == first.dead_letter
        assert again.usage_ping == first.usage_ping
        assert again.usage_kpi == first.usage_kpi
        assert again.users_by == first.users_by


def test_an_identity_has_one_content(pings: list[tuple[StrangeRecord, dict[str, Any]]]) -> None:
    contents: dict[tuple[Any, ...], set[str]] = defaultdict(set)
    for _, ping in pings:
        told = {k: v for k, v in ping.items() if v is not None and k not in ("recorded_at", "hostname")}
        contents[identity_of(ping)].add(json.dumps(told, sort_keys=True))
    assert {len(of_one) for of_one in contents.values()} == {1}


def identity_of(ping: dict[str, Any]) -> tuple[Any, ...]:
    hostname = ping.get("hostname")
    recorded = dt.datetime.fromisoformat(ping["recorded_at"].upper())
    return ping["uuid"], hostname if isinstance(hostname, str) else "", ping.get("namespace_id"), recorded


def test_messages_become_everything_that_they_can_become(expected: Expected, stream: list[StrangeRecord]) -> None:
    outcomes = {outcome: number for (_, outcome), number in expected.outcomes.items()}
    assert sum(outcomes.values()) == len(stream)
    assert outcomes["applied"] > len(stream) / 3
    assert min(outcomes["duplicate"], outcomes["dead"]) > len(stream) / 20
    reasons = Counter(row["reason"] for row in expected.dead_letter)
    assert reasons.keys() == {"not_json", "too_deep", "invalid", "late", "future"}
    assert len(BREAKAGES) + len(BROKEN_FIELDS) <= sum(reasons[r] for r in ("not_json", "too_deep", "invalid"))
    for population in ("self_managed", "gitlab_com", "group"):
        for basis in ("exact", "reported"):
            levels = {
                row["level"] for row in expected.usage_kpi if (row["population"], row["basis"]) == (population, basis)
            }
            assert levels == {"total", "stage", "feature"}, (population, basis)


def test_late_and_future_stand_on_both_sides_of_their_edges(
    pings: list[tuple[StrangeRecord, dict[str, Any]]], stream: list[StrangeRecord]
) -> None:
    entries: Counter[int] = Counter()
    sessions: Counter[int] = Counter()
    recorded: Counter[int] = Counter()
    for one, ping in pings:
        received = one.timestamp_ms // DAY_MS
        recorded[day_of(ping["recorded_at"]) - received] += 1
        entries.update(day_of(f"{entry['date']}T00:00Z") - received for entry in ping.get("activity") or ())
        sessions.update(day_of(entry["at"]) - received for entry in ping.get("sessions") or ())
    assert entries.keys() >= {-37, -36, 0, 1, 2} and min(entries) < -10_000 and max(entries) > 10_000
    assert sessions.keys() >= {-37, -36, 0, 1, 2}
    assert recorded.keys() >= {-30, 0, 1, 2} and min(recorded) <= -90

    backwards = set()
    newest: dict[int, int] = {}
    for one in stream:
        behind = newest.get(one.partition, one.timestamp_ms) - one.timestamp_ms
        backwards.add("exactly 36 days" if behind == 36 * DAY_MS else "1 ms more" if behind == 36 * DAY_MS + 1 else "")
        backwards.add(
            "forwards" if behind <= 0 else "up to 35 days" if behind <= 35 * DAY_MS else "more than 37"
            if behind > 37 * DAY_MS else ""
        )  # fmt: skip
        newest[one.partition] = max(newest.get(one.partition, 0), one.timestamp_ms)
    assert backwards >= {"forwards", "up to 35 days", "exactly 36 days", "1 ms more", "more than 37"}


def test_keys_and_partitions_are_right_and_wrong(pings: list[tuple[StrangeRecord, dict[str, Any]]]) -> None:
    seen: Counter[str] = Counter()
    ways: dict[tuple[Any, ...], set[int]] = defaultdict(set)
    for one, ping in pings:
        group = ping["namespace_id"] if ping.get("hostname") == "gitlab.com" and ping.get("namespace_id") else None
        right = (f"{ping['uuid']}:{group}" if group else ping["uuid"]).encode()
        home = partition_of(right, 4)
        ways[identity_of(ping)].add(one.partition)
        seen["right" if (one.key, one.partition) == (right, home) else "wrong"] += 1
        seen["no key"] += one.key is None
        seen["empty key"] += one.key == b""
        seen["right key, wrong partition"] += one.key == right and one.partition != home
        seen["another's key"] += one.key != right and one.key in {member.key for member in MEMBERS}
        seen["wrong key, right partition"] += one.key != right and one.partition == home
    assert min(seen.values()) > 0 and len(seen) == 7
    assert seen["right"] > len(pings) / 3
    assert any(len(partitions) > 1 for partitions in ways.values()), "nothing is sent twice to two partitions"


def test_scopes_meet_and_fall_silent(expected: Expected) -> None:
    of_scope: dict[tuple[str, str], list[dt.datetime]] = defaultdict(list)
    for row in expected.usage_ping:
        of_scope[row["population"], row["scope_id"]].append(row["recorded_at"])
    assert Counter(population for population, _ in of_scope) == {"self_managed": 3, "gitlab_com": 1, "group": 4}
    assert len({scope.split("@")[0] for population, scope in of_scope if population == "self_managed"}) == 2
    assert any(scope.endswith("@") for _, scope in of_scope)
    same_instant = same_day = gaps = 0
    for moments in of_scope.values():
        same_instant += len(moments) > len(set(moments))
        days = Counter(moment.date() for moment in moments)
        same_day += max(days.values()) > 1
        gaps += any(later - earlier > dt.timedelta(days=28) for earlier, later in pairwise(sorted(days)))
    assert same_day >= 5
    assert same_instant > 0
    assert gaps >= 3


def test_contents_are_of_every_kind(pings: list[tuple[StrangeRecord, dict[str, Any]]]) -> None:
    entries = [entry for _, ping in pings for entry in ping.get("activity") or ()]
    sessions = [entry for _, ping in pings for entry in ping.get("sessions") or ()]
    users = {(type(user), user) for entry in entries for user in entry["users"]}
    assert users == {(type(user), user) for user in USERS}
    assert {(entry["stage"], entry["feature"]) for entry in entries} == set(FEATURES)
    assert any(not entry["users"] for entry in entries)
    assert any(len(entry["users"]) > len(set(map(repr, entry["users"]))) for entry in entries)
    assert {entry.get("sessions", "absent") for entry in entries} == {"absent", None, 0, 1, 2, 7, 2**40}
    assert {(type(entry["user"]), entry["user"]) for entry in sessions} == users
    assert any(ping.get("activity") and ping.get("sessions") for _, ping in pings)

    fields = [field for _, ping in pings for field in ping.items()]
    kinds: dict[str, set[str]] = defaultdict(set)
    for name, value in fields:
        kinds[name].add(type(value).__name__)
    assert kinds["version"] == {"str", "NoneType", "float", "dict"}
    assert kinds["edition"] == {"str", "NoneType", "int", "list"}
    assert kinds["license_plan"] == {"str", "NoneType", "int", "bool"}
    assert kinds["namespace_plan"] == {"str", "NoneType"}
    assert kinds["active_user_count"] == {"int", "NoneType", "bool", "float", "str", "dict"}
    assert kinds["users_by"] == {"dict", "NoneType"} and ("users_by", {}) in fields
    assert kinds["counts"] == {"dict", "NoneType", "int", "list", "str"}
    assert {("namespace_plan", plan) for plan in ("free", "bronze", "silver", "gold")} <= set(hashable(fields))
    assert {("edition", edition) for edition in ("CE", "EE", "EES", "EEP", "EEU")} <= set(hashable(fields))
    for name in ("activity", "sessions", "users_by", "counts", MONTHLY, "version"):
        assert any(name not in ping for _, ping in pings), name


def hashable(fields: list[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
    return (field for field in fields if isinstance(field[1], str))


def test_reported_figures_are_of_every_kind(pings: list[tuple[StrangeRecord, dict[str, Any]]]) -> None:
    every = {
        "known", "0", "negative", "null", "bool", "float", "str", "dict", "list", "above 2**53", "no 64 bits", "infinite",
    }  # fmt: skip
    blocks: set[str] = set()
    leaves: dict[tuple[str, str, str], set[str]] = defaultdict(set)
    first_choices: set[str] = set()
    for _, ping in pings:
        blocks.add("absent" if MONTHLY not in ping else "{}" if ping[MONTHLY] == {} else kind(ping[MONTHLY]))
        for block in (MONTHLY, HLL):
            stages = ping.get(block)
            for stage, inside in stages.items() if isinstance(stages, dict) else ():
                leaves[block, "any", "any"].add(kind(inside))
                for leaf, value in inside.items() if isinstance(inside, dict) else ():
                    leaves[block, "", ""].add(kind(value))
                    leaves[block, stage, leaf].add(kind(value))
        plan, first = stage_of(ping, MONTHLY, "plan"), stage_of(ping, HLL, PLAN_LEAF[1])
        if type(plan.get("issues")) is int:
            first_choices.add(kind(first[PLAN_LEAF[2]]) if PLAN_LEAF[2] in first else "absent")
    assert blocks == {"dict", "{}", "null", "list", "str", "negative", "bool", "absent"}
    for block in (MONTHLY, HLL):
        assert leaves[block, "any", "any"] >= {"dict", "null", "negative", "list", "str"}
    assert leaves[MONTHLY, "", ""] >= every
    assert leaves[HLL, "", ""] >= {"known", "0", "negative", "null", "bool", "float", "str"}
    for path in (*SMAU_LEAVES, (MONTHLY, "manage", "events")):
        assert leaves[path] >= {"known", "0"} and len(leaves[path]) > 4, path
    assert first_choices >= {"known", "0", "null", "negative", "absent", "str"}
    assert leaves[MONTHLY, "", "nobody"] and leaves[MONTHLY, "release", ""]


def stage_of(ping: dict[str, Any], block: str, stage: str) -> dict[str, Any]:
    """What stands in a stage, nothing where no path leads there."""
    stages = ping.get(block)
    inside = stages.get(stage) if isinstance(stages, dict) else None
    return inside if isinstance(inside, dict) else {}


def kind(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool() | str() | dict() | list():
            return type(value).__name__
        case float():
            return "infinite" if value in (float("inf"), float("-inf")) else "float"
        case int():
            if abs(value) >= 2**63:
                return "no 64 bits"
            return "negative" if value < 0 else "0" if value == 0 else "known" if value < 2**53 else "above 2**53"
        case _:
            raise AssertionError(f"JSON has no {type(value)}")


def test_a_ping_is_written_in_many_ways(pings: list[tuple[StrangeRecord, dict[str, Any]]]) -> None:
    written: dict[tuple[Any, ...], list[bytes]] = defaultdict(list)
    for one, ping in pings:
        written[identity_of(ping)].append(one.value)
    again = [values for values in written.values() if len(values) > 1]
    assert any(len(set(values)) == 1 for values in again)
    assert any(len(set(values)) > 1 for values in again)
    endings = {ping["recorded_at"].lstrip("0123456789-Tt:.")[:1] for _, ping in pings}
    assert endings >= {"Z", "z", "+"}
    nobody = {repr(ping.get("hostname", "absent")) for _, ping in pings if ping["uuid"] == MEMBERS[2].uuid}
    assert nobody == {"'absent'", "None", "''", "17"}
