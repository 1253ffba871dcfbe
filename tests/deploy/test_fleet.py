"""The fleet: the same bytes everywhere, pings and events as the contract says, and noise that costs no good one its place."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest

from deploy.fleet import Fleet, FleetSpec, billing_noise
from deploy.fleet.dice import Dice
from deploy.fleet.noise import BREAKAGES, STRANGER, broken
from deploy.fleet.product import version_of
from deploy.fleet.roster import senders
from deploy.fleet.spec import MAX_REORDER_DAYS
from deploy.message import Message
from tests.oracle import billing
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
    assert digest.hexdigest() == "eca41fb33eb00aaeb93af8035e413d766675373984da9eeb4685ed1744d9409f"


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
            seen["neither form"] += "activity" not in ping and "sessions" not in ping
            seen["both forms"] += bool(sessions and activity)
            seen["counts of sessions"] += any("sessions" in entry for entry in activity)
            seen["no counts of sessions"] += any("sessions" not in entry for entry in activity)
            seen["no hostname"] += "hostname" not in ping
            seen["licensee"] += "licensee" in ping
            seen["users_by"] += "users_by" in ping
            seen["failure"] += ping.get("active_user_count") == -1
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
    dau = {row["as_of"]: row["dau"] for row in expected.kpi_mau if row["basis"] == "exact"}
    for day, number in dau.items():
        if dt.date(2026, 10, 5) <= day < LAST_DAY and day.weekday() == 5:
            assert number < 0.5 * dau[day - dt.timedelta(days=1)]
    first = {key: min(ping["recorded_at"][:10] for ping in of_one) for key, of_one in pings(stream).items()}
    last = {key: max(ping["recorded_at"][:10] for ping in of_one) for key, of_one in pings(stream).items()}
    assert sum(day > "2026-10-12" for day in first.values()) >= 5
    assert sum(day < "2026-11-10" for day in last.values()) >= 3
    yesterday = LAST_DAY - dt.timedelta(days=1)
    totals = [row for row in expected.usage_kpi if (row["level"], row["basis"]) == ("total", "exact")]
    assert any(row["wau"] == 0 and row["mau"] > 0 for row in totals if row["as_of"] == yesterday)


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


def test_many_people_are_in_some_groups_and_some_in_none_of_them() -> None:
    groups: dict[int | str, set[str]] = defaultdict(set)
    told: dict[int | str, set[int | str]] = defaultdict(set)
    own = []
    for message in messages(installations=0, groups=20, users=10, days=30):
        ping = json.loads(message.value)
        users = {user for entry in ping["activity"] for user in entry["users"]}
        users |= {entry["user"] for entry in ping.get("sessions", [])}
        if namespace := ping.get("namespace_id"):
            told[namespace] |= users
            for user in users:
                groups[user].add(namespace)
        else:
            own.append(ping)
            told["gitlab.com"] |= users
    share = sum(2 <= len(of_user) <= 4 for of_user in groups.values()) / len(groups)
    assert share > 0.4
    outsiders = told["gitlab.com"] - groups.keys()
    assert 0 < len(outsiders) < len(told["gitlab.com"])
    assert {type(user) for user in told["gitlab.com"]} == {int, str}
    assert all(entry["sessions"] >= len(entry["users"]) for ping in own for entry in ping["activity"])
    # It reports of more people than it tells of one by one.
    assert own[-1]["usage_activity_by_stage_monthly"]["manage"]["events"] > len(told["gitlab.com"])


def test_each_population_reports_and_says_who_is_registered() -> None:
    expected = judged(messages(installations=12, groups=4, users=6, days=30))
    for rows in (expected.kpi_users_by, [row for row in expected.kpi_mau if row["basis"] == "reported"]):
        assert {row["population"] for row in rows} == {"self_managed", "gitlab_com", "group"}


def test_payloads_of_three_ages(fifty: list[Message]) -> None:
    blocks = ("counts", "usage_activity_by_stage_monthly", "redis_hll_counters")
    majors = defaultdict(set)
    sizes = defaultdict(set)
    for message in fifty:
        ping = json.loads(message.value)
        if "counts" in ping and isinstance(ping.get("version"), str) and ping["version"][0].isdigit():
            style = tuple(block for block in blocks if block in ping)
            majors[style].add(int(ping["version"].split(".")[0]))
            sizes[style].add(sum(1 for _ in leaves({block: ping[block] for block in style})))
    assert majors.keys() >= {blocks[:1], blocks[:2], blocks}
    assert {11, 12} & majors[blocks[:1]] and {13, 14} & majors[blocks[:2]] and max(majors[blocks]) == 19
    assert min(sizes[blocks]) > 100 > max(sizes[blocks[:2]])
    (large,) = messages(installations=1, days=1, leaves=4_800)
    assert sum(1 for _ in leaves(json.loads(large.value))) > 4_800
    assert 150_000 < len(large.value) < 500_000


def leaves(node: Any) -> Iterator[Any]:
    if isinstance(node, dict):
        for inside in node.values():
            yield from leaves(inside)
    else:
        yield node


def test_reported_figures_are_of_every_kind(fifty: list[Message]) -> None:
    blocks: Counter[str] = Counter()
    figures: Counter[str] = Counter()
    users_by: Counter[str] = Counter()
    for message in fifty:
        ping = json.loads(message.value)
        monthly = ping.get("usage_activity_by_stage_monthly", "missing")
        blocks[kind(monthly)] += 1
        users_by[kind(ping.get("users_by", "missing"))] += 1
        if isinstance(monthly, dict) and monthly:
            manage = monthly.get("manage")
            figures[kind(manage.get("events", "missing") if isinstance(manage, dict) else manage)] += 1
            figures.update(f"feature {kind(leaf)}" for stage in monthly.values() for leaf in leaves(stage))
    assert blocks.keys() == {"known", "missing", "null", "-1", "empty object"}
    assert users_by.keys() >= {"known", "missing", "null", "empty object"}
    every = {"known", "0", "-1", "-1000", "null", "str", "float", "bool", "list"}
    assert figures.keys() >= {f"feature {name}" for name in every}
    assert len([name for name in figures if "feature" not in name]) > 3
    # Failures are the exception.
    assert figures["known"] > 0.9 * sum(number for name, number in figures.items() if "feature" not in name)


def kind(value: object) -> str:
    match value:
        case None:
            return "null"
        case "missing":
            return "missing"
        case dict():
            return "known" if value else "empty object"
        case bool() | str() | float() | list():
            return type(value).__name__
        case _:
            return "known" if isinstance(value, int) and value > 0 else str(value)


def test_some_stop_reporting_for_longer_than_a_figure_stands_and_come_back() -> None:
    stream = messages(installations=26, groups=6, users=4, days=60)
    gaps = defaultdict(list)
    for key, of_one in pings(stream).items():
        days = sorted({dt.date.fromisoformat(ping["recorded_at"][:10]) for ping in of_one})
        gaps[key] = [(later - earlier).days for earlier, later in pairwise(days)]
    paused = [key for key, of_one in gaps.items() if max(of_one, default=0) > 40]
    assert len(paused) >= 3
    assert any(b":" in key for key in paused if key)
    fleet = Fleet(FleetSpec(last_day=LAST_DAY, installations=26, groups=6, users=4, days=60))
    assert fleet.expected_messages() == len(stream)


def test_a_restored_backup_has_another_host_name_and_some_of_the_same_people() -> None:
    hostnames: dict[bytes | None, dict[str, set[int | str]]] = defaultdict(lambda: defaultdict(set))
    for key, of_one in pings(messages(installations=12, users=30, days=10)).items():
        for ping in of_one:
            users = {user for entry in ping.get("activity", []) for user in entry["users"]}
            users |= {entry["user"] for entry in ping.get("sessions", [])}
            hostnames[key][ping.get("hostname", "")] |= users
    (both,) = [of_one for of_one in hostnames.values() if len(of_one) > 1]
    original, backup = both.values()
    assert original & backup


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
        ("leaves", -1),
        ("users", 0),
        ("installations", -1),
        ("reorder_days", 18),
        ("days", 10**6),
        ("accounts", -1),
        ("billing_days", 0),
        ("billing_days", 10**6),
        ("conflicts", 2),
        ("late_billing", -1),
    ],
)
def test_what_makes_no_fleet_is_refused_by_name(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=field if value != 10**6 else "1971"):
        messages(**{"accounts": 1, field: value})


# --- accounts ---------------------------------------------------------------------------------------------------------

OWNED = {"installations": 30, "groups": 8, "users": 4, "days": 20, "leaves": 0, "accounts": 24}
BILLING_NOISE = {
    "duplicates": 0.3, "reordered": 0.3, "late_billing": 0.3, "future": 0.2, "broken": 0.3, "wrong_keys": 0.3,
    "conflicts": 0.3,
}  # fmt: skip
DAY_MS = 86_400_000


def both_judged(stream: list[Message], as_of: dt.date = LAST_DAY) -> billing.BillingExpected:
    return billing.expect(
        [Record(m.topic, 0, i, m.timestamp_ms, m.key, m.value) for i, m in enumerate(stream)], Rules(as_of=as_of)
    )


def events(stream: list[Message]) -> list[dict[str, Any]]:
    return [json.loads(m.value) for m in stream if m.topic == "billing-events"]


@pytest.fixture(scope="module")
def owned() -> list[Message]:
    return messages(**OWNED)


@pytest.fixture(scope="module")
def owned_rows(owned: list[Message]) -> billing.BillingExpected:
    return both_judged(owned)


def test_the_bytes_of_accounts_are_the_same_everywhere() -> None:
    digest = hashlib.sha256()
    for message in messages(seed=3, installations=12, groups=2, users=3, days=5, accounts=9, **BILLING_NOISE):
        digest.update(repr(tuple(message)).encode())
    # A change of the model changes this number; a change of machine or Python must not.
    assert digest.hexdigest() == "0a160d4ca21041226dcfefeda6d2192dedc2176557c5af23dc0d7a3f14880be2"


def test_without_noise_every_event_is_applied_and_stamped_with_its_moment(
    owned: list[Message], owned_rows: billing.BillingExpected
) -> None:
    told = [m for m in owned if m.topic == "billing-events"]
    assert owned_rows.outcomes["billing-events", "applied"] == len(told)
    assert owned_rows.dead_letter == []
    assert [m.timestamp_ms for m in owned] == sorted(m.timestamp_ms for m in owned), "one stream of both topics"
    days = set()
    for message in told:
        event = json.loads(message.value)
        occurred = dt.datetime.fromisoformat(event["occurred_at"])
        assert message.timestamp_ms == round(occurred.timestamp() * 1000)
        assert message.key == event["account_id"].encode()
        days.add(occurred.astimezone(dt.UTC).date())
    assert min(days) >= LAST_DAY - dt.timedelta(days=547) and max(days) <= LAST_DAY
    assert (max(days) - min(days)).days > 500


def test_the_billing_events_alone_are_those_of_the_whole_stream(owned: list[Message]) -> None:
    fleet = Fleet(FleetSpec(last_day=LAST_DAY, **OWNED))
    assert list(fleet.billing()) == [m for m in owned if m.topic == "billing-events"]
    assert abs(fleet.expected_messages() - len(owned)) < 0.15 * len(owned)


def test_accounts_change_nothing_about_pings_but_their_licence(owned: list[Message]) -> None:
    def rest(stream: list[Message]) -> list[dict[str, Any]]:
        licence = ("license_sha256", "license_subscription_id")
        documents = [json.loads(m.value) for m in stream if m.topic == "usage-pings"]
        return [{k: v for k, v in document.items() if k not in licence} for document in documents]

    assert rest(owned) == rest(messages(**{**OWNED, "accounts": 0}))


def test_another_seed_has_other_accounts() -> None:
    small = {"installations": 0, "accounts": 3}
    assert messages(**small) == messages(**small)
    assert not {m.key for m in messages(**small, seed=1)} & {m.key for m in messages(**small, seed=11)}


def test_accounts_own_installations_and_groups_in_every_way(
    owned: list[Message], owned_rows: billing.BillingExpected
) -> None:
    links = owned_rows.links
    ways: Counter[str] = Counter()
    used: dict[billing.Subscription, set[str]] = defaultdict(set)
    for place in links.pings:
        found = {
            (subscription := links.subscription_of(place, LAST_DAY - dt.timedelta(days=back))) and subscription
            for back in range(20)
        }
        ways[f"{place[0]} of an account"] += found != {None}
        ways[f"{place[0]} of nobody"] += found == {None}
        ways["of another subscription later"] += len(found - {None}) > 1
        ways["used before it was bought"] += None in found and len(found) > 1
        for subscription in found - {None}:
            used[subscription].add(place[1])
    ways["two installations on one subscription"] = sum(len(places) > 1 for places in used.values())
    ways["account without usage"] = len(owned_rows.first_days.keys() - {account for account, _ in used})
    for ping in (json.loads(m.value) for m in owned if m.topic == "usage-pings"):
        ways["licence alone"] += "license_sha256" in ping and "license_subscription_id" not in ping
        ways["subscription named"] += str(ping.get("license_subscription_id", "")).startswith("A-S1-")
    del ways["gitlab_com of an account"]
    assert {name for name, number in ways.items() if not number} == set()


def test_accounts_live() -> None:
    stream = messages(installations=0, accounts=300)
    told = events(stream)
    assert {event["type"] for event in told} == set(billing.BLOCKS)
    assert {event.get("channel", "") for event in told} == {"", *billing.CHANNELS}
    assert any(event.get("sequence") for event in told)
    profiles = [event["account"] for event in told if "account" in event]
    assert {profile["segment"] for profile in profiles} == set(billing.SEGMENTS)
    assert {profile.get("geo") for profile in profiles} == {None, *billing.GEOS}
    accounts = {event["account_id"] for event in told}
    parents = {profile.get("parent_account_id") for profile in profiles} - {None}
    assert parents & accounts and parents - accounts and any("parent_account_id" not in one for one in profiles)
    blocks = [event["subscription"] for event in told if "subscription" in event]
    assert {block["currency"] for block in blocks} >= {"USD", "EUR", "GBP", "JPY"}
    assert {block["plan"] for block in blocks} == set(billing.PLANS)
    assert {type(block.get("fx_rate")) for block in blocks} == {str, float, type(None)}
    assert any(block.get("at_renewal") for block in blocks)
    assert any(block["seats"] == 0 for block in blocks) and any("list_mrr" not in block for block in blocks)

    changes: dict[tuple[str, str], set[Any]] = defaultdict(set)
    for event in told:
        for name in ("segment", "parent_account_id", "geo"):
            changes["account", name] |= (
                {(event["account_id"], event["account"].get(name))} if "account" in event else set()
            )
        if block := event.get("subscription"):
            for name in ("currency", "deployment", "plan"):
                changes["subscription", name].add((block["subscription_id"], block[name]))
    for (_, name), values in changes.items():
        assert len(values) > len({who for who, _ in values}), f"nobody ever changes {name}"


def test_movements_are_of_every_kind_and_part() -> None:
    rows = both_judged(messages(installations=0, accounts=120))
    assert {row["kind"] for row in rows.seat_movement} == {
        "new", "growth", "renewal_growth", "contraction", "churn", "none",
    }  # fmt: skip
    for part in billing.PARTS:
        assert {row[f"{part}_mrr"] > 0 for row in rows.seat_movement if row[f"{part}_mrr"]} == {True, False}, part
    assert {row["direction"] for row in rows.kpi_tier_movement} == {"upgrade", "downgrade"}
    came_back = Counter(
        (row["account_id"], row["subscription_id"]) for row in rows.seat_movement if row["kind"] == "new"
    )
    assert max(came_back.values()) > 1
    (whole,) = [r for r in rows.kpi_net_retention if (r["as_of"], r["level"]) == (LAST_DAY, "account")]
    assert whole["customers"] > 30 and whole["churned_customers"] > 0
    assert 0 < whole["gross_mrr"] < whole["base_mrr"]
    newest = [row for row in rows.kpi_self_service_total if row["as_of"] == LAST_DAY]
    assert all(0 < newest[0][motion] < 120 for motion in billing.MOTIONS)


def test_noise_changes_no_figure_of_accounts() -> None:
    small = {"installations": 0, "accounts": 25}
    clean, noisy = both_judged(messages(**small)), both_judged(messages(**small, **BILLING_NOISE))
    assert noisy.account_kpi == clean.account_kpi
    assert noisy.seat_movement == clean.seat_movement
    assert noisy.self_service_action == clean.self_service_action
    assert noisy.addon_purchase == clean.addon_purchase
    assert noisy.outcomes["billing-events", "applied"] == clean.outcomes["billing-events", "applied"]
    assert noisy.outcomes["billing-events", "duplicate"] > 40
    assert {row["reason"] for row in noisy.dead_letter} == {
        "conflict", "future", "invalid", "not_json", "too_deep", "unknown_type", "unsupported_currency",
    }  # fmt: skip


def test_billing_is_late_and_out_of_order() -> None:
    newest = furthest = 0
    written: dict[str, set[bytes]] = defaultdict(set)
    for message in messages(installations=0, accounts=40, late_billing=0.3, duplicates=0.5):
        furthest = max(furthest, newest - message.timestamp_ms)
        newest = max(newest, message.timestamp_ms)
        written[json.loads(message.value)["event_id"]].add(message.value)
    assert 90 * DAY_MS < furthest <= 124 * DAY_MS
    assert max(len(values) for values in written.values()) == 2


def test_a_conflict_goes_the_way_of_the_event_it_contradicts() -> None:
    first: dict[str, Message] = {}
    ways: Counter[bool] = Counter()
    for message in messages(installations=0, accounts=25, conflicts=0.5, wrong_keys=0.5):
        event = json.loads(message.value)
        one = first.setdefault(event["event_id"], message)
        if one is not message:
            assert event != json.loads(one.value)
            assert message.key == one.key is not None
            ways[one.key == event["account_id"].encode()] += 1
    assert ways.keys() == {True, False}


@pytest.mark.parametrize("name", billing_noise.BREAKAGES)
def test_a_broken_event_dies_of_its_reason(name: str) -> None:
    reason, break_ = billing_noise.BREAKAGES[name]
    event = {
        "event_id": "e", "type": "subscription_created", "occurred_at": "2026-11-20T00:00:00Z", "account_id": "a",
        "subscription": billing_noise.strange_block(),
    }  # fmt: skip
    message = Message("billing-events", b"a", break_(event), 1_800_000_000_000)
    assert [row["reason"] for row in both_judged([message]).dead_letter] == [reason]


@pytest.mark.parametrize("currency", ["EUR", "NZD"])
def test_foreign_money_comes_with_a_rate_to_the_reporting_currency(currency: str) -> None:
    stream = messages(installations=0, accounts=20, reporting_currency=currency)
    for event in events(stream):
        block = event.get("subscription", event.get("addon", {}))
        assert ("fx_rate" in block) == (block.get("currency", currency) != currency)
