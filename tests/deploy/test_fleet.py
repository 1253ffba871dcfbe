"""The fleet: the same bytes everywhere, pings as the contract says, and noise that costs no good ping its place."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections import Counter, defaultdict
from typing import Any

import pytest

from deploy.fleet import Fleet, FleetSpec
from deploy.fleet.dice import Dice
from deploy.fleet.noise import BREAKAGES, STRANGER, broken
from deploy.fleet.product import version_of
from deploy.fleet.roster import senders
from deploy.fleet.spec import MAX_REORDER_DAYS
from deploy.message import Message
from tests.oracle.usage import Expected, Record, Rules, expect

LAST_DAY = dt.date(2026, 11, 20)
RULES = Rules(as_of=LAST_DAY + dt.timedelta(days=40))


def messages(**spec: Any) -> list[Message]:
    return list(Fleet(FleetSpec(**{"last_day": LAST_DAY, **spec})).messages())


def judged(stream: list[Message], rules: Rules = RULES) -> Expected:
    return expect([Record(m.topic, 0, i, m.timestamp_ms, m.key, m.value) for i, m in enumerate(stream)], rules)


def pings(stream: list[Message]) -> dict[bytes | None, list[dict[str, Any]]]:
    by_key = defaultdict(list)
    for message in stream:
        by_key[message.key].append(json.loads(message.value))
    return by_key


@pytest.fixture(scope="module")
def fifty() -> list[Message]:
    """The default fleet, of fewer and smaller days."""
    return messages(days=30, users=8)


NOISE = {"duplicates": 0.2, "reordered": 0.3, "late": 0.1, "future": 0.1, "broken": 0.2, "wrong_keys": 0.2}


def test_the_bytes_are_the_same_everywhere() -> None:
    digest = hashlib.sha256()
    for message in messages(seed=3, installations=12, groups=2, users=5, days=10, **NOISE):
        digest.update(repr(tuple(message)).encode())
    # A change of the model changes this number; a change of machine or Python must not.
    assert digest.hexdigest() == "acc956e8e648e1a4288ce0cc1861ee45799181fe3905dce473195a2eda725283"


def test_another_seed_is_another_fleet() -> None:
    small = {"installations": 3, "days": 5, "users": 5}
    assert messages(**small, seed=1) == messages(**small, seed=1)
    assert not {m.value for m in messages(**small, seed=1)} & {m.value for m in messages(**small, seed=2)}


def test_without_noise_every_message_is_an_applied_ping(fifty: list[Message]) -> None:
    expected = judged(fifty)
    assert expected.outcomes == {("usage-pings", "applied"): len(fifty)}
    assert expected.dead_letter == []
    assert Fleet(FleetSpec(last_day=LAST_DAY, days=30, users=8)).expected_messages() == len(fifty)


def test_a_message_is_stamped_and_ordered_by_when_it_was_recorded(fifty: list[Message]) -> None:
    assert [m.timestamp_ms for m in fifty] == sorted(m.timestamp_ms for m in fifty)
    for message in fifty[::50]:
        recorded = dt.datetime.fromisoformat(json.loads(message.value)["recorded_at"])
        assert message.timestamp_ms == round(recorded.timestamp() * 1000)
        assert message.key == json.loads(message.value)["uuid"].encode()
    days = {dt.datetime.fromtimestamp(m.timestamp_ms / 1000, dt.UTC).date() for m in fifty}
    assert (min(days), max(days), len(days)) == (LAST_DAY - dt.timedelta(days=29), LAST_DAY, 30)


def test_a_daily_ping_repeats_the_day_before_byte_for_byte() -> None:
    first, second = messages(installations=1, days=2, users=30)
    told = [m.value.split(b'"activity":[')[1].removesuffix(b"]}") for m in (first, second)]
    assert len(told[0]) > 500
    assert told[1].startswith(told[0] + b",")
    assert {entry["date"] for entry in json.loads(second.value)["activity"]} == {"2026-11-18", "2026-11-19"}


def test_fifty_installations_show_every_trait(fifty: list[Message]) -> None:
    seen: Counter[str] = Counter()
    hostnames: dict[bytes | None, set[str | None]] = defaultdict(set)
    for key, of_one in pings(fifty).items():
        hostnames[key] |= {ping.get("hostname") for ping in of_one}
        seen["weekly"] += len(of_one) <= 5
        for ping in of_one:
            activity, sessions = ping.get("activity", []), ping.get("sessions", [])
            users = [user for entry in activity for user in entry["users"]] + [entry["user"] for entry in sessions]
            seen["strings"] += any(isinstance(user, str) for user in users)
            seen["strings beyond ASCII"] += any(isinstance(user, str) and not user.isascii() for user in users)
            seen["beyond 63 bits"] += any(isinstance(user, int) and user >= 2**63 for user in users)
            seen["both"] += any(isinstance(user, int) for user in users) and any(
                isinstance(user, str) for user in users
            )
            seen["sessions only"] += bool(sessions and not activity)
            seen["both forms"] += bool(sessions and activity)
            seen["counts of sessions"] += any("sessions" in entry for entry in activity)
            seen["no counts of sessions"] += any("sessions" not in entry for entry in activity)
            seen["no hostname"] += "hostname" not in ping
            seen["licensee"] += "licensee" in ping
            seen["users_by"] += "users_by" in ping
            seen["failure"] += ping["active_user_count"] == -1
            seen["reported"] += "usage_activity_by_stage_monthly" in ping
            seen["not reported"] += "usage_activity_by_stage_monthly" not in ping
            seen["edition " + ping["edition"]] += 1
            seen["license without plan"] += "license_sha256" in ping and "license_plan" not in ping
    seen["restored backup"] = sum(len(names) > 1 for names in hostnames.values())
    assert {name for name, number in seen.items() if not number} == set()
    assert {name for name in seen if name.startswith("edition")} == {
        f"edition {e}" for e in ("CE", "EE", "EES", "EEP", "EEU")
    }


def test_people_rest_on_weekends_and_installations_come_and_go() -> None:
    stream = messages(days=50, users=10)
    expected = judged(stream, Rules(as_of=LAST_DAY))
    dau = {row["as_of"]: row["dau"] for row in expected.kpi_mau}
    for day, number in dau.items():
        if dt.date(2026, 10, 5) <= day < LAST_DAY and day.weekday() == 5:
            assert number < 0.5 * dau[day - dt.timedelta(days=1)]
    first = {key: min(ping["recorded_at"][:10] for ping in of_one) for key, of_one in pings(stream).items()}
    last = {key: max(ping["recorded_at"][:10] for ping in of_one) for key, of_one in pings(stream).items()}
    assert sum(day > "2026-10-12" for day in first.values()) >= 5
    assert sum(day < "2026-11-10" for day in last.values()) >= 3
    silent = [
        row for row in expected.usage_kpi if row["level"] == "total" and row["as_of"] == LAST_DAY - dt.timedelta(days=1)
    ]
    assert any(row["wau"] == 0 and row["mau"] > 0 for row in silent)


def test_what_is_sent_twice_late_in_the_stream_broken_or_with_a_wrong_key_changes_no_figure() -> None:
    small = {"installations": 12, "days": 20, "users": 6, "groups": 2}
    clean = judged(messages(**small))
    noise = {"duplicates": 0.3, "reordered": 0.5, "broken": 0.3, "wrong_keys": 0.3}
    noisy_stream = messages(**small, **noise)
    noisy = judged(noisy_stream)
    assert noisy.usage_kpi == clean.usage_kpi
    assert noisy.usage_ping == clean.usage_ping
    assert noisy.outcomes["usage-pings", "applied"] == clean.outcomes["usage-pings", "applied"]
    for name in ("duplicate", "dead"):
        assert noisy.outcomes["usage-pings", name] > 20
    assert None in {m.key for m in noisy_stream}


def test_late_entries_are_letters_and_no_figures() -> None:
    small = {"installations": 12, "days": 20, "users": 6}
    clean, noisy = judged(messages(**small)), judged(messages(**small, late=0.3))
    assert noisy.usage_kpi == clean.usage_kpi
    assert noisy.outcomes == clean.outcomes
    assert {row["reason"] for row in noisy.dead_letter} == {"late"}
    assert len(noisy.dead_letter) > 20


def test_future_entries_and_wrong_clocks_are_letters_and_no_figures() -> None:
    stream = messages(installations=12, days=20, users=6, future=0.4)
    noisy = judged(stream)
    assert {row["reason"] for row in noisy.dead_letter} == {"future"}
    dead = noisy.outcomes["usage-pings", "dead"]
    assert 0 < dead < len(noisy.dead_letter)
    assert max(row["as_of"] for row in noisy.usage_kpi) <= LAST_DAY + dt.timedelta(days=27)
    assert any(str(STRANGER)[:8].encode() in m.value for m in stream)


@pytest.mark.parametrize("name", BREAKAGES)
def test_a_broken_message_dies_of_its_reason(name: str) -> None:
    reason, _ = BREAKAGES[name]
    sender = senders(FleetSpec(last_day=LAST_DAY, days=1, installations=1))[0]
    sender.live(LAST_DAY.toordinal() - 1)
    ping = sender.ping(LAST_DAY.toordinal())
    assert ping is not None
    dice = Dice("breakages")
    found, value = next((n, v) for n, v in (broken(dice, ping) for _ in range(10_000)) if n == name)
    assert found == name
    expected = judged([Message("usage-pings", None, value, ping.recorded)])
    assert [row["reason"] for row in expected.dead_letter] == [reason]


def test_record_timestamps_run_backwards_by_less_than_36_days() -> None:
    stream = messages(installations=5, days=60, users=1, reordered=1.0, reorder_days=MAX_REORDER_DAYS, duplicates=0.5)
    newest = 0
    furthest = 0
    for message in stream:
        furthest = max(furthest, newest - message.timestamp_ms)
        newest = max(newest, message.timestamp_ms)
    assert 20 * 86_400_000 < furthest <= 36 * 86_400_000
    assert judged(stream).dead_letter == []


def test_groups_share_people() -> None:
    stream = messages(installations=1, groups=6, users=10, days=10)
    of_gitlab_com = [m for m in stream if b'"hostname":"gitlab.com"' in m.value]
    assert {m.key.count(b":") for m in of_gitlab_com if m.key} == {0, 1}
    for message in of_gitlab_com[:20]:
        ping = json.loads(message.value)
        namespace = ping.get("namespace_id")
        assert message.key == (f"{ping['uuid']}:{namespace}" if namespace else ping["uuid"]).encode()
    rules = Rules(as_of=LAST_DAY, populations=("self_managed", "gitlab_com", "group"))
    mau = {row["population"]: row["mau"] for row in judged(stream, rules).kpi_mau if row["as_of"] == LAST_DAY}
    assert 0 < mau["gitlab_com"] < mau["group"]
    assert {row["plan"] for row in judged(stream, rules).usage_ping if row["population"] == "group"} <= {
        "free", "bronze", "silver", "gold",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("day", "version"),
    [
        (dt.date(2024, 5, 20), "17.0.0"),
        (dt.date(2025, 5, 17), "17.11.0"),
        (dt.date(2025, 5, 18), "18.0.0"),
        (dt.date(2026, 11, 20), "19.6.0"),
    ],
)
def test_versions_come_out_monthly(day: dt.date, version: str) -> None:
    assert version_of(day, 0, 0) == version


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("broken", 1.5),
        ("late", -0.1),
        ("days", 0),
        ("users", 0),
        ("installations", -1),
        ("reorder_days", 18),
        ("days", 10**6),
    ],
)
def test_what_makes_no_fleet_is_refused_by_name(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=field if value != 10**6 else "1971"):
        messages(**{field: value})
