"""The short way of plain pings against the models and against the oracle."""

from __future__ import annotations

import datetime as dt
import json
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from schemas.dead_letters import Unreadable
from schemas.ping import count, decode_ping, micros, text
from streams.forwarder import partition_of
from streams.ledger.plain import kernels
from streams.ledger.plain.folding import PlainFold
from streams.ledger.plain.reading import PlainPings, PlainReader
from streams.ledger.pseudonym import Pseudonymiser
from streams.ledger.reading import SELF_MANAGED, Reading
from tests.streams.ledger.record import Record
from tests.streams.ledger.world import KEY, World, assert_equals_oracle, dealt

SECRET = Pseudonymiser(KEY)
LIMIT = 2**20
FIRST_DAY = dt.date(2026, 1, 10)
STAGES = {"create": ("merge_requests", "source"), "plan": ("issues", "boards"), "verify": ("pipelines",)}

PING: dict[str, Any] = {
    "uuid": "0b7f", "hostname": "git.example", "recorded_at": "2026-01-10T22:00:00.25Z", "version": "18.3.1-ee",
    "edition": "EEP", "active_user_count": 30, "license_user_count": -1, "historical_max_users": 0, "other": "thing",
    "more": True, "license_plan": None, "license_md5": "ab",
    "activity": [
        {"date": "2026-01-09", "stage": "create", "feature": "merge_requests", "users": [17, 42, 18446744073709551]},
        {"date": "2026-01-10", "stage": "create", "feature": "merge_requests", "users": []},
        {"date": "2026-01-10", "stage": "plan", "feature": "issues", "users": [0, 17]},
    ],
}  # fmt: skip


def short(values: list[bytes]) -> PlainPings:
    return PlainReader(SECRET, LIMIT).read(values)


def told(value: bytes) -> list[tuple[int, str, str, int | None, list[int]]] | None:
    """The entries of a ping by the long way; None where it is no ping, or a user of it is none."""
    reading = Reading(lambda _: None, SECRET, LIMIT, frozenset({"gitlab.com"}))
    (read,) = reading.read([Record(None, value, 0, 0)])
    users = reading.users()
    if isinstance(read, Unreadable) or read.error is not None:
        return None
    return [
        (
            entry.day, entry.stage, entry.feature, entry.sessions,
            users.ids[users.starts[entry.number] : users.starts[entry.number] + users.lengths[entry.number]].tolist(),
        )
        for entry in read.entries
    ]  # fmt: skip


def check(value: bytes) -> bool:
    """Whether a message is plain; when it is, everything it says is what the models make of it."""
    reader = PlainReader(SECRET, LIMIT)
    found = reader.read([b"", value, b"{}"])
    assert not found.plain[0]
    assert not found.plain[2]
    if not found.plain[1]:
        return False
    entries = [
        (
            int(found.days[e]), *reader.names[found.names[e]], None,
            found.ids[found.starts[e] : found.starts[e] + found.lengths[e]].tolist(),
        )
        for e in range(found.entry_from[1], found.entry_to[1])
    ]  # fmt: skip
    assert entries == told(value)
    ping = decode_ping(value, LIMIT)
    texts = [found.text[start:end].decode() for start, end in found.spans[1].tolist()]
    others = (
        ping.version, ping.edition, ping.license_plan, ping.license_subscription_id, ping.license_sha256, ping.license_md5,
    )  # fmt: skip
    assert texts == [ping.uuid, ping.hostname, *(text(other) or "" for other in others)]
    numbers = ping.active_user_count, ping.license_billable_users, ping.license_user_count, ping.historical_max_users
    assert found.numbers[1].tolist() == [-1 if count(number) is None else number for number in numbers]
    assert found.moments[1] == micros(ping.recorded_at)
    assert ping.namespace_id is None
    assert ping.sessions is None
    assert ping.users_by is None
    assert not len(ping.counts)
    assert not len(ping.usage_activity_by_stage_monthly)
    return True


@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": "), (",\n ", " :\t")])
def test_a_plain_ping_says_what_the_models_say(separators: tuple[str, str]) -> None:
    odd = {
        "active_user_count": "30",
        "license_billable_users": None,
        "historical_max_users": -7,
        "license_user_count": True,
    }
    for ping in (PING, PING | odd, PING | {"activity": []}, {"more": 0} | PING):
        assert check(json.dumps(ping, separators=separators).encode())


@pytest.mark.parametrize(
    "changes",
    [
        {"namespace_id": "9970"}, {"namespace_id": None}, {"sessions": []}, {"users_by": None}, {"counts": {}},
        {"usage_activity_by_stage_monthly": {}}, {"redis_hll_counters": 1}, {"namespace_plan": "gold"},
        {"uuid": "x" * 65}, {"uuid": ""}, {"uuid": "a\\b"}, {"uuid": "\u00e4"}, {"uuid": 1}, {"hostname": None},
        {"hostname": "h" * 256}, {"other": {}}, {"other": 1.5}, {"other": 10**18}, {"version": 1}, {"license_plan": 2},
        {"active_user_count": 1.0}, {"active_user_count": 10**19},
        {"recorded_at": "2026-02-30T00:00:00Z"}, {"recorded_at": "2026-01-10T24:00:00Z"},
        {"recorded_at": "2026-01-10T22:00:00+01:00"}, {"recorded_at": "1969-12-31T22:00:00Z"}, {"recorded_at": None},
        {"recorded_at": "2026-01-10T22:00:00.1234567Z"}, {"recorded_at": "2026-01-10T22:00:60Z"}, {"activity": None},
        {"activity": [{"date": "2026-01-09", "stage": "s", "feature": "f", "users": ["a"]}]},
        {"activity": [{"date": "2026-01-09", "stage": "s", "feature": "f", "users": [10**19]}]},
        {"activity": [{"date": "2026-01-09", "stage": "s", "feature": "f", "users": [-1]}]},
        {"activity": [{"date": "2026-01-09", "stage": "s", "feature": "f", "users": [1], "sessions": 3}]},
        {"activity": [{"date": "2026-01-09", "stage": "s", "feature": "f", "users": [1], "other": 3}]},
        {"activity": [{"date": "2026-13-09", "stage": "s", "feature": "f", "users": [1]}]},
        {"activity": [{"date": "2026-01-09", "stage": "", "feature": "f", "users": [1]}]},
        {"activity": [{"date": "2026-01-09", "stage": "s", "feature": "f" * 257, "users": [1]}]},
        {"activity": [{"date": "2026-01-09", "stage": "s", "feature": "f"}]}, {"activity": {}},
    ],
)  # fmt: skip
def test_what_is_rare_or_wrong_is_left_to_the_models(changes: dict[str, Any]) -> None:
    assert not check(json.dumps(PING | changes).encode())


@pytest.mark.parametrize("text", [b'{"uuid":"a"', b"[]", b"", b"{", b'{"a":1}{"b":2}', b"nul", b'{"uuid":"a",}'])
def test_what_is_no_ping_is_left_to_the_models(text: bytes) -> None:
    assert not check(text)


def test_nothing_is_plain_that_the_models_read_otherwise() -> None:
    rng = random.Random(2)
    whole = json.dumps(PING, separators=(",", ":")).encode()
    pieces = [
        b'"',
        b",",
        b"}",
        b"]",
        b"[",
        b"{",
        b":",
        b"0",
        b"-",
        b"1",
        b".",
        b"\\",
        b" ",
        b"e",
        b"Z",
        b"\xc3",
        b"null",
    ]
    plain = 0
    for _ in range(3_000):
        text = bytearray(whole)
        for _ in range(rng.choice((1, 1, 2))):
            at = rng.randrange(len(text))
            text[at : at + rng.choice((0, 1, 1, 4))] = rng.choice(pieces)
        plain += check(bytes(text))
    assert 100 < plain < 2_900


def test_days_are_those_of_the_calendar() -> None:
    for day in range(0, 60_000, 7):
        date = dt.date(1970, 1, 1) + dt.timedelta(day)
        text = np.frombuffer(str(date).encode(), np.uint8)
        assert kernels._day(text.ctypes.data, 0) == day


def test_names_beyond_the_room_go_the_long_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "NAME_ROOM", 2)
    entry = {"date": "2026-01-09", "stage": "s", "users": [1]}
    values = [json.dumps(PING | {"activity": [entry | {"feature": str(at)}]}).encode() for at in range(4)]
    assert short(values).plain.tolist() == [True, True, False, False]


@pytest.mark.parametrize("crowded", [False, True])
def test_an_entry_that_was_told_before_has_the_users_that_were_read_there(
    crowded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Byte by byte: lists that begin or end alike, days, features and installations that differ, and share a place in the table;
    messages that fail half-way."""
    rng = random.Random(3)
    read_pings = kernels.read_pings
    if crowded:
        monkeypatch.setattr(kernels, "read_pings", lambda *given: read_pings(*given[:-1], given[-1][:1]))
    lists = [[10**17 + n for n in range(count)] for count in (3, 4, 5, 5, 40)] + [[17, 42], [], [10**17 + 9] * 5]
    lists[3] = [*lists[3][:-1], 8]
    texts = [json.dumps(users, separators=(",", ":")) for users in lists] + [
        "[100000000000000000,100000000000000001,100000000000000002,1x]"
    ]
    found = 0
    for _ in range(60):
        values = []
        for _ in range(40):
            activity = ",".join(
                f'{{"date":"2026-01-0{rng.randint(8, 9)}","stage":"s","feature":"f{rng.randint(0, 1)}",'
                f'"users":{rng.choices(texts, [9] * len(lists) + [1])[0]}{rng.choice(("", "", "", " "))}}}'
                for _ in range(rng.randint(0, 4))
            )
            named = f'"uuid":"installation-{rng.randint(0, 1)}"'
            rest = f'"hostname":"h","recorded_at":"2026-01-10T22:00:00Z","activity":[{activity}]'
            values.append(f"{{{rest},{named}}}".encode() if rng.random() < 0.2 else f"{{{named},{rest}}}".encode())
        reader = PlainReader(SECRET, LIMIT)
        pings = reader.read(values)
        said = [
            (
                int(pings.days[e]), *reader.names[pings.names[e]], None,
                pings.ids[pings.starts[e] : pings.starts[e] + pings.lengths[e]].tolist(),
            )
            for e in range(len(pings.days))
        ]  # fmt: skip
        for m, value in enumerate(values):
            mine = range(pings.entry_from[m], pings.entry_to[m])
            assert bool(pings.plain[m]) == (b"x" not in value)
            assert [said[e] for e in mine] == (told(value) if pings.plain[m] else [])
            for e in mine:
                if pings.echoes[e] >= 0:
                    found += 1
                    assert pings.plain[pings.echoes[e]]
                    assert said[e] in said[pings.entry_from[pings.echoes[e]] : pings.entry_to[pings.echoes[e]]]
                    assert pings.echoes[e] < m or said[e] in [said[other] for other in mine if other < e]
    assert found > (10 if crowded else 100)


# ---- folding ---------------------------------------------------------------------------------------------------------


def _pings(rng: random.Random, installations: int, days: int, odd: float) -> Iterator[tuple[bytes, bytes, int]]:
    """(key, value, received ms): plain ones, but for a share of odd ones: with sessions, text ids, counters, of the past or the
    future, again, under a wrong key, of a group, broken, under another host name. Mostly they repeat what was told of the day
    before; lists of half of the installations are long."""
    sent: list[tuple[bytes, bytes, int]] = []
    told: dict[tuple[str, dt.date], list[dict[str, Any]]] = {}

    def entries(uuid: str, date: dt.date) -> list[dict[str, Any]]:
        """Mostly the same as last time."""
        if (uuid, date) not in told or rng.random() < 0.2:
            first = 10**17 if uuid[-1] in "13579" else 0
            told[uuid, date] = [
                {
                    "date": str(date), "stage": stage, "feature": feature,
                    "users": rng.sample(range(first, first + 40), rng.randint(0, 9)),
                }
                for stage, features in STAGES.items()
                for feature in features
                if rng.random() < 0.5
            ]  # fmt: skip
        return [dict(entry, users=list(entry["users"])) for entry in told[uuid, date]]

    for number in range(days):
        day = FIRST_DAY + dt.timedelta(number)
        for installation in range(installations):
            uuid, is_odd = f"installation-{installation}", rng.random() < odd
            key, received = uuid.encode(), dt.datetime.combine(day, dt.time(23), dt.UTC)
            days_told = {0, 1, rng.choice((0, 5, 35, 40, -3))} if is_odd else {0, 1}
            activity = [
                entry for back in sorted(days_told, reverse=True) for entry in entries(uuid, day - dt.timedelta(back))
            ]
            ping: dict[str, Any] = {
                "uuid": uuid, "hostname": f"git.{installation}.example", "activity": activity,
                "recorded_at": f"{day}T{rng.randrange(24):02}:00:00Z", "edition": rng.choice(("CE", "EES", "EEU")),
                "active_user_count": rng.choice((-1, 30)),
            }  # fmt: skip
            if is_odd:
                received += dt.timedelta(rng.choice((0, 0, 1, -2)))
                oddity = rng.randrange(8)
                if oddity == 0:
                    ping["counts"] = {"issues": 3, "failed": -1}
                elif oddity == 1:
                    ping["hostname"], ping["namespace_id"] = "gitlab.com", f"{installation}"
                elif oddity == 2:
                    ping["recorded_at"] = str(day)
                elif oddity == 3:
                    ping["hostname"] = None
                elif oddity == 4:
                    key = b"other"
                elif oddity == 5 and activity:
                    activity[-1]["users"].append("text")
                    activity[0]["sessions"] = rng.randint(0, 9)
                elif oddity == 6 and sent:
                    yield rng.choice(sent[-40:])
                elif oddity == 7:
                    ping["hostname"] = "git.other.example"
            sent.append((key, json.dumps(ping).encode(), int(received.timestamp()) * 1000))
            yield sent[-1]


@pytest.mark.parametrize(
    ("odd", "largest", "crashes"), [(0.01, 400, 0.0), (0.1, 60, 0.1), (0.3, 9, 0.05), (0.01, 400, 0.3)]
)
def test_plain_pings_among_others_give_the_oracle(
    odd: float, largest: int, crashes: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(f"plain {largest} {crashes}")
    partitions = 2
    messages = [(partition_of(key, partitions), key, value, at) for key, value, at in _pings(rng, 20, 45, odd)]
    world = World(dealt(messages, partitions), FIRST_DAY + dt.timedelta(50))
    plain = echoes = 0
    fold = PlainFold.fold

    def counted(*args: Any) -> Any:
        nonlocal plain, echoes
        plain += int((args[3] >= 0).sum())
        echoes += int((args[2].echoes >= 0).sum())
        return fold(*args)

    monkeypatch.setattr(PlainFold, "fold", counted)
    world.drain(rng, largest, crashes, crashes / 2)
    world.roll()
    assert_equals_oracle(world, FIRST_DAY + dt.timedelta(50))
    assert plain > 200
    assert echoes > 50 or largest < 60


def test_the_short_way_leaves_the_state_of_the_long_one() -> None:
    """Without a crash, cut into the same batches: the same activity, made plain or not, recovers to the same ledgers."""
    rng = random.Random(5)
    sent = [one for one in _pings(rng, 5, 30, 0.02) if b"null" not in one[1]]
    tables = []
    for plain in (True, False):
        records = [
            Record(key, value if plain else value.replace(b"{", b'{"counts":{},', 1), at, received)
            for at, (key, value, received) in enumerate(sent)
        ]
        world = World([records], FIRST_DAY + dt.timedelta(40))
        while world.left(0)[0]:
            world.flush(0, 37, 100)
            world.drain_internal()
        world.restart(0)
        scopes = {scope.key: scope for scope in world.books[0].all_scopes()}
        tables.append(
            {
                key: (
                    scope.ledger.users[: scope.ledger.count].tolist(), scope.ledger.features,
                    scope.ledger.masks[:, : len(scope.ledger.features), : scope.ledger.count].tolist(),
                    dict(scope.pings.items()), scope.written_to,
                )
                for key, scope in scopes.items()
            }
        )  # fmt: skip
    assert tables[0].keys() == tables[1].keys()
    assert any(key.population == SELF_MANAGED for key in tables[0])
    for key, (users, features, masks, pings, written_to) in tables[0].items():
        others = tables[1][key]
        assert set(users) == set(others[0])
        assert set(features) == set(others[1])
        order = [others[0].index(user) for user in users], [others[1].index(feature) for feature in features]
        assert np.array_equal(np.array(masks), np.array(others[2])[:, order[1]][:, :, order[0]])
        assert (pings, written_to) == others[3:]
