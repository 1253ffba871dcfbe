"""The oracle against tables computed by hand. Days are of 2026; `day(1)` is 1 March."""

from __future__ import annotations

import csv
import datetime as dt
import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from tests.oracle.usage import SMAU_PATHS, Expected, Record, Row, Rules, expect

MARCH = dt.date(2026, 3, 1)
RULES = Rules(as_of=dt.date(2026, 12, 31))
STAGE_METRICS = Path(__file__).parents[3] / "shared" / "data" / "stage-metrics.csv"


def day(number: int) -> dt.date:
    return MARCH + dt.timedelta(days=number - 1)


def number_of(date: dt.date) -> int:
    """The day's number, as in `day`."""
    return (date - MARCH).days + 1


def noon(number: int) -> int:
    return int(dt.datetime.combine(day(number), dt.time(12), dt.UTC).timestamp() * 1000)


def ping(number: int, **fields: Any) -> dict[str, Any]:
    """A ping recorded at noon of a day."""
    return {"uuid": "u", "hostname": "h", "recorded_at": f"{day(number)}T12:00:00Z", **fields}


def activity(number: int, users: list[Any], feature: str = "issues", stage: str = "plan", **fields: Any) -> Row:
    return {"date": str(day(number)), "stage": stage, "feature": feature, "users": users, **fields}


def records(*values: Any, at: list[int] | None = None, partition: int = 0) -> list[Record]:
    """Records of one partition, received at noon of the days `at` (by default the day of `recorded_at`)."""
    result = []
    for offset, value in enumerate(values):
        if at is not None:
            timestamp = noon(at[offset])
        else:
            timestamp = int(dt.datetime.fromisoformat(value["recorded_at"]).timestamp() * 1000)
        raw = value if isinstance(value, bytes) else json.dumps(value).encode()
        result.append(Record("usage-pings", partition, offset, timestamp, b"u", raw))
    return result


def figures(expected: Expected, level: str = "total", **where: Any) -> list[tuple[Any, ...]]:
    """(day, dau, wau, mau, sessions) of the exact rows of a level."""
    where = {"level": level, "basis": "exact"} | where
    return [
        (number_of(row["as_of"]), row["dau"], row["wau"], row["mau"], row["sessions"])
        for row in having(expected.usage_kpi, **where)
    ]


def having(rows: list[Row], **where: Any) -> list[Row]:
    return [row for row in rows if all(row[name] == value for name, value in where.items())]


def reasons(expected: Expected) -> list[tuple[int, str]]:
    return [(row["offset"], row["reason"]) for row in expected.dead_letter]


def tally(expected: Expected) -> dict[str, int]:
    return {outcome: number for (_, outcome), number in expected.outcomes.items()}


def test_a_user_counts_for_28_days_and_the_figure_falls_to_0_once() -> None:
    found = figures(expect(records(ping(2, activity=[activity(1, [17])])), RULES))

    assert found[0] == (1, 1, 1, 1, None)
    assert found[1:7] == [(d, 0, 1, 1, None) for d in range(2, 8)]
    assert found[7:28] == [(d, 0, 0, 1, None) for d in range(8, 29)]
    assert found[28:] == [(29, 0, 0, 0, None)]


def test_rows_end_with_the_as_of_day() -> None:
    found = figures(expect(records(ping(2, activity=[activity(1, [17])])), Rules(as_of=day(5))))
    assert [row[0] for row in found] == [1, 2, 3, 4, 5]


def test_facts_after_the_as_of_day_have_no_rows() -> None:
    found = figures(expect(records(ping(2, activity=[activity(1, [17]), activity(3, [18])])), Rules(as_of=day(2))))
    assert found == [(1, 1, 1, 1, None), (2, 0, 1, 1, None)]


def test_a_figure_that_fell_to_0_comes_back_without_rows_between() -> None:
    expected = expect(records(ping(2, activity=[activity(1, [17])]), ping(41, activity=[activity(40, [17])])), RULES)
    assert [row[0] for row in figures(expected)] == [*range(1, 30), *range(40, 69)]


@pytest.mark.parametrize(
    ("second", "mau_on_its_day"),
    [(28, 2), (29, 1)],
    ids=["the 28th day still holds the first", "the 29th does not"],
)
def test_both_ends_of_the_window_are_included(second: int, mau_on_its_day: int) -> None:
    expected = expect(
        records(ping(2, activity=[activity(1, [1])]), ping(second + 1, activity=[activity(second, [2])])), RULES
    )
    assert (second, 1, 1, mau_on_its_day, None) in figures(expected)


def test_the_week_is_seven_days() -> None:
    expected = expect(
        records(ping(2, activity=[activity(1, [1])]), ping(8, activity=[activity(7, [2]), activity(8, [3])])), RULES
    )
    assert [row[2] for row in figures(expected)[:8]] == [1, 1, 1, 1, 1, 1, 2, 2]


def test_users_are_united_over_features_and_stages_and_pings() -> None:
    expected = expect(
        records(
            ping(
                2,
                activity=[
                    activity(1, [1, 2]),
                    activity(1, [2, 3], "boards"),
                    activity(1, [3], "merge_requests", "create"),
                ],
            ),
            ping(3, activity=[activity(1, [1, 4])]),
        ),
        RULES,
    )
    assert figures(expected)[0] == (1, 4, 4, 4, None)
    assert figures(expected, "stage", stage="plan")[0] == (1, 4, 4, 4, None)
    assert figures(expected, "stage", stage="create")[0] == (1, 1, 1, 1, None)
    assert figures(expected, "feature", feature="issues")[0] == (1, 3, 3, 3, None)
    assert figures(expected, "feature", feature="boards")[0] == (1, 2, 2, 2, None)


def test_the_same_id_as_a_number_and_as_a_string_is_two_users() -> None:
    assert figures(expect(records(ping(2, activity=[activity(1, [17, "17", 17])])), RULES))[0][3] == 2


def test_a_session_counts_on_its_utc_day() -> None:
    sessions = [
        {"user": 5, "at": "2026-03-02T00:30:00+01:00", "stage": "plan", "feature": "issues"},
        {"user": 5, "at": "2026-03-01T23:59:59.999Z", "stage": "plan", "feature": "issues"},
        {"user": 6, "at": "2026-03-01T22:00:00-05:00", "stage": "plan", "feature": "issues"},
    ]
    found = figures(expect(records(ping(3, sessions=sessions)), RULES))
    assert found[:2] == [(1, 1, 1, 1, 2), (2, 1, 2, 2, 1)]


def test_sessions_add_up_in_a_ping_and_the_largest_ping_stands() -> None:
    session = {"user": 9, "at": "2026-03-01T10:00:00Z", "stage": "plan", "feature": "issues"}
    expected = expect(
        records(
            ping(
                2,
                activity=[activity(1, [1], sessions=4), activity(1, [2], sessions=3), activity(1, [3])],
                sessions=[session],
            ),
            ping(3, activity=[activity(1, [1], sessions=5), activity(1, [1], "boards", sessions=10)]),
            ping(4, activity=[activity(1, [1]), activity(1, [1], "epics")]),
        ),
        RULES,
    )
    assert figures(expected, "feature", feature="issues")[0] == (1, 4, 4, 4, 8)
    assert figures(expected, "feature", feature="boards")[0] == (1, 1, 1, 1, 10)
    assert figures(expected, "feature", feature="epics")[0] == (1, 1, 1, 1, None)
    assert figures(expected, "stage")[0] == (1, 4, 4, 4, 18)
    assert figures(expected)[:2] == [(1, 4, 4, 4, 18), (2, 0, 4, 4, None)]


def test_no_sessions_are_known_to_be_none() -> None:
    expected = expect(records(ping(2, activity=[activity(1, [1], sessions=0)])), RULES)
    assert figures(expected)[0] == (1, 1, 1, 1, 0)
    assert {(row["sessions"], row["dau"], row["sessions_per_user"]) for row in expected.kpi_sessions} == {(0, 1, 0.0)}


def test_a_ping_sent_again_changes_nothing_and_the_first_content_stands() -> None:
    first = ping(2, activity=[activity(1, [1])])
    same_instant = {**first, "recorded_at": "2026-03-02T13:00:00.000+01:00"}
    other_content = ping(2, activity=[activity(1, [1, 2, 3])])
    invalid_now = ping(2, activity=[activity(1, [-1])])
    expected = expect(records(first, same_instant, other_content, invalid_now), RULES)
    assert tally(expected) == {"applied": 1, "duplicate": 3}
    assert figures(expected)[0][3] == 1
    assert len(expected.usage_ping) == 1
    assert expected.dead_letter == []


@pytest.mark.parametrize("change", [{"hostname": "other"}, {"hostname": None}, {"uuid": "v"}, {"namespace_id": "1"}])
def test_another_identity_is_no_duplicate(change: Row) -> None:
    assert tally(expect(records(ping(2), {**ping(2), **change}), RULES)) == {"applied": 2}


def test_a_dead_ping_is_not_remembered() -> None:
    expected = expect(records(ping(2, activity=[activity(1, [-1])]), ping(2, activity=[activity(1, [1])])), RULES)
    assert tally(expected) == {"dead": 1, "applied": 1}
    assert reasons(expected) == [(0, "invalid")]


def test_a_duplicate_is_one_before_it_is_late() -> None:
    expected = expect(records(ping(2), ping(60), ping(2), ping(3), at=[2, 60, 2, 3]), RULES)
    assert tally(expected) == {"applied": 2, "duplicate": 1, "dead": 1}
    assert reasons(expected) == [(3, "late")]


@pytest.mark.parametrize(("milliseconds", "outcome"), [(0, "applied"), (1, "dead")])
def test_record_timestamps_run_backwards_by_36_days(milliseconds: int, outcome: str) -> None:
    newest, behind = records(ping(50), ping(14), at=[50, 14])
    behind = Record("usage-pings", 0, 1, behind.timestamp_ms - milliseconds, None, behind.value)
    assert tally(expect([newest, behind], RULES))[outcome] >= 1
    assert reasons(expect([newest, behind], RULES)) == ([(1, "late")] if milliseconds else [])


def test_lateness_is_judged_within_a_partition() -> None:
    newest, other = records(ping(90)), records(ping(2, hostname="other"), partition=1)
    assert tally(expect([*newest, *other], RULES)) == {"applied": 2}


def test_a_broken_message_moves_the_newest_timestamp_too() -> None:
    assert reasons(expect(records(b"{", ping(2), at=[90, 2]), RULES)) == [(0, "not_json"), (1, "late")]


@pytest.mark.parametrize(
    ("entry_day", "reason"),
    [(50 - 36, None), (50 - 37, "late"), (51, None), (52, "future")],
)
def test_an_entry_is_judged_by_the_received_day(entry_day: int, reason: str | None) -> None:
    entries = [activity(entry_day, [1]), activity(49, [2])]
    expected = expect(records(ping(50, activity=entries), at=[50]), RULES)
    assert tally(expected) == {"applied": 1}
    assert reasons(expected) == ([(0, reason)] if reason else [])
    assert sum(row[1] for row in figures(expected)) == (1 if reason else 2)


def test_an_entry_of_either_kind_makes_one_letter_future_before_late() -> None:
    entries = [activity(1, [1]), activity(2, [1]), activity(99, [1])]
    expected = expect(records(ping(50, activity=entries)), RULES)
    assert reasons(expected) == [(0, "future")]
    assert expected.usage_kpi == []
    assert len(expected.usage_ping) == 1


@pytest.mark.parametrize(("recorded", "outcome"), [(51, "applied"), (52, "dead")])
def test_a_ping_recorded_more_than_a_day_ahead_is_future_as_a_whole(recorded: int, outcome: str) -> None:
    expected = expect(records(ping(recorded, activity=[activity(49, [1])]), at=[50]), RULES)
    assert tally(expected) == {outcome: 1}
    assert reasons(expected) == ([] if outcome == "applied" else [(0, "future")])


def test_the_received_day_decides_not_the_hour() -> None:
    late_evening = Record(
        "usage-pings",
        0,
        0,
        noon(50) - 12 * 3_600_000,
        None,
        json.dumps({**ping(51), "recorded_at": "2026-04-20T23:59:59Z"}).encode(),
    )
    assert day(51) == dt.date(2026, 4, 20)
    assert tally(expect([late_evening], RULES)) == {"applied": 1}


GOOD = json.dumps(ping(2)).encode()


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "not_json"),
        (b"", "not_json"),
        (b"\xef\xbb\xbf" + GOOD, "not_json"),
        (GOOD[:-1], "not_json"),
        (GOOD + GOOD, "not_json"),
        (b'{"uuid":"\xff"}', "not_json"),
        (GOOD[:-1] + b',"x":NaN}', "not_json"),
        (GOOD[:-1] + b',"x":-Infinity}', "not_json"),
        (b"[" * 101, "too_deep"),
        (GOOD[:-1] + b',"x":' + b"[" * 100 + b"]" * 100 + b"}", "too_deep"),
        (b" " * 1001, "too_large"),
        (b"[]", "invalid"),
        (b"17", "invalid"),
        (b"null", "invalid"),
        (b"{}", "invalid"),
    ],
)
def test_what_cannot_be_read(value: bytes | None, reason: str) -> None:
    record = Record("usage-pings", 0, 7, noon(2), None, value)
    expected = expect([record], Rules(as_of=day(9), max_message_bytes=1000))
    assert expected.dead_letter == [{"topic": "usage-pings", "partition": 0, "offset": 7, "reason": reason}]
    assert tally(expected) == {"dead": 1}


@pytest.mark.parametrize(
    "addition",
    [
        b'"x":' + b"[" * 99 + b"]" * 99,
        b'"x":"' + b"[" * 500 + b'"',
        b'"x":"\\"' + b"[" * 500 + b'"',
        b'"x":"\\ud800"',
        b'"counts":{"a":' + b"9" * 5000 + b"}",
        b'"version":17,"edition":{},"license_user_count":"many"',
        b'"activity":null,"sessions":null,"users_by":null,"namespace_id":null',
        b'"activity":[{"date":"2026-03-01","stage":"s","feature":"f","users":[],"sessions":null,"more":1}]',
        b'"activity":[{"date":"0001-01-01","stage":"s","feature":"f","users":[18446744073709551615]}]',
        b'"users_by":{"persona":{"developer":1},"shoe_size":"?"}',
    ],
)
def test_what_does_no_harm(addition: bytes) -> None:
    record = Record("usage-pings", 0, 0, noon(2), None, GOOD[:-1] + b"," + addition + b"}")
    assert tally(expect([record], RULES)) == {"applied": 1}


ENTRY = activity(1, [1])
SESSION = {"user": 1, "at": "2026-03-01T00:00:00Z", "stage": "plan", "feature": "issues"}


@pytest.mark.parametrize(
    "change",
    [
        {"uuid": ""},
        {"uuid": "u" * 65},
        {"uuid": 17},
        {"uuid": "\ud800"},
        {"recorded_at": "2026-03-02T12:00:00"},
        {"recorded_at": "2026-03-02"},
        {"recorded_at": "2026-02-29T12:00:00Z"},
        {"recorded_at": "2026-03-02T24:00:00Z"},
        {"recorded_at": "1969-12-31T23:59:59Z"},
        {"recorded_at": "1970-01-01T00:00:00+01:00"},
        {"recorded_at": 1772452800},
        {"hostname": "h" * 256},
        {"namespace_id": ""},
        {"namespace_id": 9970},
        {"version": "\udfff"},
        {"activity": {}},
        {"activity": [None]},
        {"activity": [{**ENTRY, "date": "2026-02-29"}]},
        {"activity": [{**ENTRY, "date": "2026-3-1"}]},
        {"activity": [{**ENTRY, "stage": ""}]},
        {"activity": [{**ENTRY, "feature": "f" * 257}]},
        {"activity": [{**ENTRY, "feature": None}]},
        {"activity": [{**ENTRY, "users": None}]},
        {"activity": [{**ENTRY, "users": [-1]}]},
        {"activity": [{**ENTRY, "users": [2**64]}]},
        {"activity": [{**ENTRY, "users": [1.0]}]},
        {"activity": [{**ENTRY, "users": [False]}]},
        {"activity": [{**ENTRY, "users": [""]}]},
        {"activity": [{**ENTRY, "users": ["u" * 129]}]},
        {"activity": [{**ENTRY, "users": [None]}]},
        {"activity": [{**ENTRY, "sessions": -1}]},
        {"activity": [{**ENTRY, "sessions": 2**63}]},
        {"activity": [{**ENTRY, "sessions": 1.0}]},
        {"sessions": [{**SESSION, "user": None}]},
        {"sessions": [{**SESSION, "at": "2026-03-01"}]},
        {"sessions": [{**SESSION, "stage": 1}]},
        {"users_by": {"persona": {"developer": "many"}}},
        {"users_by": []},
    ],
)
def test_what_is_invalid(change: Row) -> None:
    assert reasons(expect(records({**ping(2), **change}, at=[2]), RULES)) == [(0, "invalid")]


def test_the_row_of_a_ping() -> None:
    document = ping(
        2,
        version="18.4.1-ee",
        edition="EEP",
        active_user_count=-1,
        license_user_count=100,
        license_billable_users=True,
        historical_max_users=2**63,
        license_subscription_id="A-1",
        license_md5="m",
        counts={"a": 1, "b": -1, "c": {"d": 0, "e": [2.5, -0.5, "x", None, True]}, "f": "7"},
    )
    (row,) = expect(records(document), RULES).usage_ping
    moment = dt.datetime(2026, 3, 2, 12, tzinfo=dt.UTC)
    assert row == {
        "uuid": "u",
        "hostname": "h",
        "namespace_id": "",
        "recorded_at": moment,
        "received_at": moment,
        "population": "self_managed",
        "scope_id": "u@h",
        "version": "18.4.1-ee",
        "edition": "EEP",
        "plan": "premium",
        "registered_users": None,
        "billable_users": None,
        "seats": 100,
        "historical_max_users": None,
        "counters": 3,
        "failed_counters": 2,
        "license_subscription_id": "A-1",
        "license_sha256": "m",
    }


@pytest.mark.parametrize(
    ("fields", "plan"),
    [
        ({}, "free"),
        ({"edition": "CE"}, "free"),
        ({"edition": "EES"}, "starter"),
        ({"edition": "EEU"}, "ultimate"),
        ({"edition": "EEU", "license_plan": "premium"}, "premium"),
        ({"edition": "EEU", "license_plan": ""}, "ultimate"),
        ({"edition": "EEU", "license_plan": 5}, "ultimate"),
        ({"license_plan": "premium", "namespace_plan": "silver"}, "silver"),
    ],
)
def test_the_plan_of_a_ping(fields: Row, plan: str) -> None:
    assert expect(records(ping(2, **fields)), RULES).usage_ping[0]["plan"] == plan


def test_populations_are_never_added_together() -> None:
    com = {"hostname": "gitlab.com", "uuid": "com"}
    stream = records(
        ping(2, activity=[activity(1, [1, 2], sessions=5)]),
        ping(2, **com, namespace_id="7", activity=[activity(1, [1, 2], sessions=3)]),
        ping(2, **com, namespace_id="8", activity=[activity(1, [2, 3], sessions=4)]),
        ping(2, **com),
    )
    everything = expect(stream, Rules(as_of=day(9)))
    assert figures(everything, population="self_managed", scope_id="u@h")[0] == (1, 2, 2, 2, 5)
    assert figures(everything, population="gitlab_com", scope_id="gitlab.com")[0] == (1, 3, 3, 3, 7)
    assert figures(everything, population="group", scope_id="7")[0] == (1, 2, 2, 2, 3)
    assert figures(everything, population="group", scope_id="8")[0] == (1, 2, 2, 2, 4)
    only = expect(stream, Rules(as_of=day(9), populations=("self_managed",)))
    assert only.usage_kpi == having(everything.usage_kpi, population="self_managed")
    assert [(row["population"], row["pings"]) for row in everything.kpi_usage_pings] == [
        ("gitlab_com", 3),
        ("group", 2),
        ("self_managed", 1),
    ]
    assert {row["population"] for row in everything.kpi_stage_adoption} == {"self_managed", "group"}


@pytest.fixture
def two_installations() -> Expected:
    """On day 1, `a` has users 1, 2 in plan/issues, 2 in plan/boards and 3 in create/wiki; `b` has user 1 in plan/issues."""
    a = [activity(1, [1, 2]), activity(1, [2], "boards"), activity(1, [3], "wiki", "create")]
    return expect(
        records(
            ping(2, hostname="a", activity=a, counts={"x": 1, "y": -1}),
            ping(2, hostname="b", activity=[activity(1, [1])]),
            ping(29, hostname="b", counts={"x": 1}),
            ping(30, hostname="b"),
        ),
        RULES,
    )


def first(rows: list[Row], **where: Any) -> Row:
    return next(row for row in rows if all(row[name] == value for name, value in where.items()))


KEY = {"as_of": day(1), "population": "self_managed", "basis": "exact"}


def test_views_of_the_first_day(two_installations: Expected) -> None:
    e = two_installations
    assert e.kpi_mau[0] == {**KEY, "dau": 4, "wau": 4, "mau": 4, "stickiness": 1.0}
    assert e.kpi_mau[1]["stickiness"] == 0.0
    assert e.kpi_smau[:2] == [{**KEY, "stage": "create", "smau": 1}, {**KEY, "stage": "plan", "smau": 3}]
    assert e.kpi_smau_factor[0] == {**KEY, "mau": 4, "sum_smau": 4, "smau_factor": 1.0}
    assert [(row["stage"], row["feature"], row["feature_mau"]) for row in e.kpi_feature_mau[:3]] == [
        ("create", "wiki", 1),
        ("plan", "boards", 1),
        ("plan", "issues", 3),
    ]
    assert first(e.kpi_feature_mau_factor, stage="plan") == {
        **KEY, "stage": "plan", "smau": 3, "sum_feature_mau": 4, "feature_mau_factor": 4 / 3,
    }  # fmt: skip
    assert e.kpi_stage_adoption[:2] == [
        {**KEY, "more_than": 0, "scopes": 2, "total": 2, "share": 1.0},
        {**KEY, "more_than": 1, "scopes": 1, "total": 2, "share": 0.5},
    ]


def test_views_of_the_day_when_everything_is_0(two_installations: Expected) -> None:
    e = two_installations
    last = {**KEY, "as_of": day(29)}
    assert e.kpi_mau[-1] == {**last, "dau": 0, "wau": 0, "mau": 0, "stickiness": None}
    assert e.kpi_smau_factor[-1] == {**last, "mau": 0, "sum_smau": 0, "smau_factor": None}
    assert e.kpi_stage_adoption[-1]["as_of"] == day(28)


def test_pings_are_counted_by_the_day_they_were_recorded(two_installations: Expected) -> None:
    assert [
        ((row["as_of"] - MARCH).days + 1, row["pings"], row["counters"], row["failed_counters"], row["pings_28d"])
        for row in two_installations.kpi_usage_pings
    ] == [(2, 2, 1, 1, 2), (29, 1, 1, 0, 3), (30, 1, 0, 0, 2)]


def test_a_stream_out_of_order_is_refused() -> None:
    stream = records(ping(2), ping(3))
    with pytest.raises(ValueError, match="offset 0 after 1"):
        expect(stream[::-1], RULES)
    with pytest.raises(ValueError, match="billing-events"):
        expect([Record("billing-events", 0, 0, 0, None, b"{}")], RULES)


# --- the reported basis: contract 2.1, "Reported basis" --------------------------------------------------------------

MONTHLY = "usage_activity_by_stage_monthly"


def mau(number: Any) -> Row:
    """The field of a ping that reports this MAU and nothing else but the feature manage.events, which is the same."""
    return {MONTHLY: {"manage": {"events": number}}}


def reported(expected: Expected, level: str = "total", **where: Any) -> list[tuple[int, int]]:
    """(day, mau) of the reported rows of a level."""
    where = {"level": level, "basis": "reported"} | where
    return [(number_of(row["as_of"]), row["mau"]) for row in having(expected.usage_kpi, **where)]


def steady(first: int, last: int, number: int) -> list[tuple[int, int]]:
    """One figure on each day from `first` to `last`."""
    return [(d, number) for d in range(first, last + 1)]


@pytest.mark.skipif(not STAGE_METRICS.is_file(), reason="the shared data files are not beside the checkout")
def test_the_first_choice_for_each_stage_is_todays_smau_metric() -> None:
    with STAGE_METRICS.open() as file:
        rows = [row for row in csv.DictReader(file) if "smau" in row["performance_indicator_type"].split(";")]
    assert {stage: paths[0] for stage, paths in SMAU_PATHS.items()} == {row["stage"]: row["key_path"] for row in rows}
    assert len(rows) == 8
    assert {stage: paths[1:] for stage, paths in SMAU_PATHS.items() if paths[1:]} == {
        "plan": [f"{MONTHLY}.plan.issues"]
    }


def test_a_reported_figure_stands_for_28_days_and_expires_without_a_zero() -> None:
    expected = expect(records(ping(3, **mau(5))), RULES)
    assert reported(expected) == steady(3, 30, 5)
    assert reported(expected, "feature", stage="manage", feature="events") == steady(3, 30, 5)
    assert reported(expected, "stage") == []
    assert having(expected.usage_kpi, level="total")[0] == {
        "as_of": day(3), "population": "self_managed", "scope_id": "u@h", "basis": "reported", "level": "total",
        "stage": "", "feature": "", "dau": None, "wau": None, "mau": 5, "sessions": None,
    }  # fmt: skip


def test_a_reported_figure_ends_with_the_as_of_day() -> None:
    stream = records(ping(3, **mau(5)), ping(9, **mau(6)))
    assert reported(expect(stream, Rules(as_of=day(8)))) == steady(3, 8, 5)
    assert reported(expect(stream, Rules(as_of=day(2)))) == []


@pytest.mark.parametrize(
    ("second", "days_of_the_first"),
    [(4, [3]), (30, range(3, 30)), (31, range(3, 31)), (40, range(3, 31))],
    ids=["the next day", "the last valid day", "the day after it", "after a gap"],
)
def test_a_reported_figure_stands_until_the_next_ping(second: int, days_of_the_first: range) -> None:
    found = reported(expect(records(ping(3, **mau(5)), ping(second, **mau(8))), RULES))
    assert found == [(d, 5) for d in days_of_the_first] + steady(second, second + 27, 8)


def test_of_two_pings_of_a_day_the_newer_stands_whichever_comes_first() -> None:
    morning = {**ping(3, **mau(5)), "recorded_at": "2026-03-03T06:00:00Z"}
    evening = {**ping(3, **mau(8)), "recorded_at": "2026-03-03T18:00:00Z"}
    for pair in itertools.permutations([morning, evening]):
        assert reported(expect(records(*pair, at=[3, 3]), RULES)) == steady(3, 30, 8)


def test_of_two_pings_of_a_moment_the_greater_identity_stands() -> None:
    com = {"hostname": "gitlab.com", "namespace_id": "7"}
    pair = ping(3, **com, **mau(5)), ping(3, **{**com, "uuid": "v"}, **mau(4))
    for stream in itertools.permutations(pair):
        assert reported(expect(records(*stream), RULES)) == steady(3, 30, 4)


def test_the_moment_decides_before_the_identity() -> None:
    com = {"hostname": "gitlab.com", "namespace_id": "7"}
    later = {**ping(3, **com, **mau(5)), "recorded_at": "2026-03-03T12:00:01Z"}
    assert reported(expect(records(later, ping(3, **{**com, "uuid": "v"}, **mau(4))), RULES)) == steady(3, 30, 5)


def test_an_older_ping_that_comes_late_fills_only_the_days_before() -> None:
    late = records(ping(10, **mau(8)), ping(3, **mau(5)), at=[10, 11])
    assert reported(expect(late, RULES)) == steady(3, 9, 5) + steady(10, 37, 8)


@pytest.mark.parametrize("absent", [{}, {MONTHLY: None}, {MONTHLY: []}, {MONTHLY: -1}, {MONTHLY: "x"}])
def test_a_ping_that_does_not_report_ends_nothing(absent: Row) -> None:
    expected = expect(records(ping(3, **mau(5)), ping(9, **absent)), RULES)
    assert reported(expected) == steady(3, 30, 5)
    assert tally(expected) == {"applied": 2}


@pytest.mark.parametrize("unknown", [None, -1, -1000, 2**63, 5.0, True, "5", {}, [5]])
def test_an_unknown_figure_has_no_row_and_is_no_zero(unknown: Any) -> None:
    absent: list[Row] = [{MONTHLY: {}}, {MONTHLY: {"manage": 7}}]
    for then in [mau(unknown), *absent]:
        assert reported(expect(records(ping(3, **mau(5)), ping(9, **then)), RULES)) == steady(3, 8, 5)


def test_the_largest_known_figure() -> None:
    assert reported(expect(records(ping(3, **mau(2**63 - 1))), RULES)) == steady(3, 30, 2**63 - 1)


def test_a_reported_figure_falls_to_0_once() -> None:
    stream = [ping(3, **mau(5)), ping(9, **mau(0)), ping(12, **mau(0)), ping(14, **mau(2))]
    assert reported(expect(records(*stream), RULES)) == [*steady(3, 8, 5), (9, 0), *steady(14, 41, 2)]


@pytest.mark.parametrize(
    ("zero_at", "rows"),
    [(3, []), (30, [(30, 0)]), (31, [(31, 0)]), (32, [])],
    ids=["on the day itself", "on the last valid day", "on the day after", "a day after the expiry"],
)
def test_a_zero_has_a_row_only_after_a_day_above_0(zero_at: int, rows: list[tuple[int, int]]) -> None:
    first = ping(3, **mau(5))
    zero = {**ping(zero_at, **mau(0)), "recorded_at": f"{day(zero_at)}T13:00:00Z"}
    found = reported(expect(records(first, zero), RULES))
    assert [row for row in found if row[1] == 0] == rows


def test_a_zero_after_an_unknown_has_no_row() -> None:
    stream = [ping(3, **mau(5)), ping(4, **mau(None)), ping(5, **mau(0))]
    assert reported(expect(records(*stream), RULES)) == [(3, 5)]


ISSUES_EDITED = "issues_edit_total_unique_counts_monthly"


@pytest.mark.parametrize(
    ("first", "second", "smau"),
    [
        ({"redis_hll_counters": {"issues_edit": {ISSUES_EDITED: 4}}}, 9, 4),
        ({"redis_hll_counters": {"issues_edit": {ISSUES_EDITED: 0}}}, 9, None),
        ({"redis_hll_counters": {"issues_edit": {ISSUES_EDITED: None}}}, 9, 9),
        ({"redis_hll_counters": {"issues_edit": {ISSUES_EDITED: -1}}}, 9, None),
        ({"redis_hll_counters": {"issues_edit": {ISSUES_EDITED: "4"}}}, 9, None),
        ({"redis_hll_counters": {"issues_edit": {ISSUES_EDITED: 4.0}}}, 9, None),
        ({"redis_hll_counters": {"issues_edit": {ISSUES_EDITED: {}}}}, 9, None),
        ({"redis_hll_counters": {"issues_edit": -3}}, 9, 9),
        ({"redis_hll_counters": {"issues_edit": {}}}, 9, 9),
        ({"redis_hll_counters": -1}, 9, 9),
        ({"redis_hll_counters": [1]}, 9, 9),
        ({}, 9, 9),
        ({}, -1, None),
        ({}, None, None),
        ({"redis_hll_counters": {"issues_edit": {ISSUES_EDITED: 4}}}, -1, 4),
    ],
)
def test_the_first_path_that_is_there_decides_the_smau(first: Row, second: Any, smau: int | None) -> None:
    expected = expect(records(ping(3, **first, **{MONTHLY: {"plan": {"issues": second}}})), RULES)
    assert reported(expected, "stage") == (steady(3, 30, smau) if smau else [])
    assert {row["stage"] for row in having(expected.usage_kpi, level="stage")} <= {"plan"}
    assert reported(expected) == []


def test_every_stage_of_the_map_is_read_at_its_path() -> None:
    document: Row = ping(3, **{MONTHLY: {}})
    for number, (_, paths) in enumerate(sorted(SMAU_PATHS.items()), start=1):
        *way, leaf = paths[0].split(".")
        place = document
        for name in way:
            place = place.setdefault(name, {})
        place[leaf] = number
    rows = having(expect(records(document), Rules(as_of=day(3))).usage_kpi, level="stage")
    assert {row["stage"]: row["mau"] for row in rows} == {
        "configure": 1, "create": 2, "govern": 3, "monitor": 4, "package": 5, "plan": 6, "secure": 7, "verify": 8,
    }  # fmt: skip


def test_a_counter_alone_reports_nothing() -> None:
    """Without `usage_activity_by_stage_monthly` there is no report, whatever else is there."""
    hll = {"redis_hll_counters": {"issues_edit": {ISSUES_EDITED: 4}}}
    assert expect(records(ping(3, **hll)), RULES).usage_kpi == []


def test_a_feature_mau_is_each_known_figure_exactly_two_levels_down() -> None:
    stages = {
        "plan": {"issues": 4, "epics": 0, "boards": -1, "todos": {"deeper": 3}, "notes": "5", "": 6, "\ud800": 6},
        "no_stage_of_ours": {"x.y": 2},
        "create": 17,
        "": {"issues": 7},
        "\ud800": {"issues": 7},
        "verify": None,
    }
    rows = expect(records(ping(3, **{MONTHLY: stages})), Rules(as_of=day(3))).usage_kpi
    assert [(row["level"], row["stage"], row["feature"], row["mau"]) for row in rows] == [
        ("feature", "no_stage_of_ours", "x.y", 2),
        ("feature", "plan", "issues", 4),
        ("stage", "plan", "", 4),
    ]


def test_a_ping_with_a_letter_reports_and_a_dead_one_does_not() -> None:
    kept = ping(50, **mau(5), activity=[activity(1, [1])])
    dead = ping(53, **mau(6))
    expected = expect(records(kept, dead, at=[50, 51]), RULES)
    assert reasons(expected) == [(0, "late"), (1, "future")]
    assert reported(expected) == steady(50, 77, 5)


COM = {"hostname": "gitlab.com", "uuid": "com"}


def test_a_group_reports_for_itself_and_gitlab_com_for_itself() -> None:
    stream = records(
        ping(3, **COM, **mau(100), users_by={"persona": {"developer": 50}}, active_user_count=200, version="19.1.0"),
        ping(4, **COM, namespace_id="7", **mau(5), users_by={"persona": {"developer": 3}}, active_user_count=9),
    )
    e = expect(stream, Rules(as_of=day(4)))
    assert reported(e, population="gitlab_com", scope_id="gitlab.com") == [(3, 100), (4, 100)]
    assert reported(e, population="group", scope_id="7") == [(4, 5)]
    assert [(row["population"], row["mau"]) for row in having(e.kpi_mau, as_of=day(4))] == [
        ("gitlab_com", 100), ("group", 5),
    ]  # fmt: skip
    assert [(row["population"], row["users"]) for row in having(e.kpi_users_by, as_of=day(4))] == [
        ("gitlab_com", 50), ("group", 3),
    ]  # fmt: skip
    assert [(row["population"], row["users"]) for row in having(e.kpi_user_count, as_of=day(4), plan="")] == [
        ("gitlab_com", 200), ("group", 9),
    ]  # fmt: skip
    assert [(row["population"], row["version"]) for row in having(e.kpi_versions, as_of=day(4))] == [
        ("gitlab_com", "19.1"), ("group", ""),
    ]  # fmt: skip
    assert [(row["population"], row["scope_id"]) for row in e.usage_ping] == [
        ("gitlab_com", "gitlab.com"), ("group", "7"),
    ]  # fmt: skip


def test_a_namespace_elsewhere_than_on_gitlab_com_is_of_the_installation() -> None:
    stream = records(
        ping(2, namespace_id="7", **mau(4), activity=[activity(1, [1], sessions=3)]),
        ping(3, namespace_id="8", **mau(5), activity=[activity(1, [2], sessions=4)]),
    )
    e = expect(stream, Rules(as_of=day(4)))
    assert {(row["population"], row["scope_id"]) for row in e.usage_kpi} == {("self_managed", "u@h")}
    assert figures(e)[0] == (1, 2, 2, 2, 4)
    assert reported(e) == [(2, 4), (3, 5), (4, 5)]


def test_a_user_of_two_groups_counts_once_in_gitlab_com_and_once_in_each() -> None:
    seven = {**COM, "namespace_id": "7"}
    stream = records(
        ping(2, **seven, activity=[activity(1, [1], sessions=3)]),
        ping(3, **seven, activity=[activity(1, [1], sessions=2)]),
        ping(2, **COM, namespace_id="8", activity=[activity(1, [1, 2], sessions=4)]),
        ping(2, **COM, activity=[activity(1, [2, 3], sessions=10)]),
        ping(3, **{**COM, "uuid": "other"}, activity=[activity(1, [4], sessions=9)]),
    )
    e = expect(stream, Rules(as_of=day(1)))
    assert figures(e, population="gitlab_com") == [(1, 4, 4, 4, 3 + 4 + 10)]
    assert figures(e, population="group", scope_id="7") == [(1, 1, 1, 1, 3)]
    assert figures(e, population="group", scope_id="8") == [(1, 2, 2, 2, 4)]
    assert {row["population"]: (row["dau"], row["mau"]) for row in e.kpi_mau} == {"gitlab_com": (4, 4), "group": (3, 3)}
    assert [(row["population"], row["sessions"], row["dau"]) for row in having(e.kpi_sessions, stage="")] == [
        ("gitlab_com", 17, 4), ("group", 7, 3),
    ]  # fmt: skip


# --- users_by --------------------------------------------------------------------------------------------------------


def test_users_by_stand_for_28_days_or_until_the_next_ping_that_has_them() -> None:
    by = {"persona": {"developer": 7, "designer": 0}, "acquisition_channel": {"paid": 2}, "shoe_size": {"43": 1}}
    stream = records(
        ping(3, users_by=by),
        ping(5, users_by=None),
        ping(6, **mau(5)),
        ping(8, users_by={"persona": {"developer": 9}, "acquisition_channel": None}),
        ping(20, users_by={}),
    )
    e = expect(stream, RULES)
    found: dict[tuple[str, str], list[tuple[int, int]]] = {}
    for row in e.users_by:
        assert (row["population"], row["scope_id"]) == ("self_managed", "u@h")
        found.setdefault((row["dimension"], row["value"]), []).append((number_of(row["as_of"]), row["users"]))
    assert found == {
        ("acquisition_channel", "paid"): steady(3, 7, 2),
        ("persona", "designer"): steady(3, 7, 0),
        ("persona", "developer"): steady(3, 7, 7) + steady(8, 19, 9),
    }


def test_users_by_expire() -> None:
    e = expect(records(ping(3, users_by={"persona": {"developer": 7}})), RULES)
    assert [number_of(row["as_of"]) for row in e.users_by] == list(range(3, 31))


def test_users_by_are_summed_over_scopes() -> None:
    by = {"persona": {"developer": 7}}
    stream = records(ping(3, users_by=by), ping(3, hostname="b", users_by=by), ping(3, hostname="c"))
    assert expect(stream, Rules(as_of=day(3))).kpi_users_by == [
        {"as_of": day(3), "population": "self_managed", "dimension": "persona", "value": "developer", "users": 14}
    ]


# --- views -----------------------------------------------------------------------------------------------------------


def test_views_of_both_bases_side_by_side() -> None:
    """`a` has users 1 and 2 on day 2, and says MAU 10, plan 8 (issues 8, epics 3); `b` says MAU 6, and plan unknown."""
    stages = {"manage": {"events": 10}, "plan": {"issues": 8, "epics": 3}}
    e = expect(
        records(
            ping(2, hostname="a", activity=[activity(2, [1, 2])], **{MONTHLY: stages}),
            ping(2, hostname="b", **mau(6)),
        ),
        Rules(as_of=day(2)),
    )
    exact = {"as_of": day(2), "population": "self_managed", "basis": "exact"}
    said = {**exact, "basis": "reported"}
    assert e.kpi_mau == [
        {**exact, "dau": 2, "wau": 2, "mau": 2, "stickiness": 1.0},
        {**said, "dau": None, "wau": None, "mau": 16, "stickiness": None},
    ]
    assert e.kpi_smau == [{**exact, "stage": "plan", "smau": 2}, {**said, "stage": "plan", "smau": 8}]
    assert e.kpi_smau_factor == [
        {**exact, "mau": 2, "sum_smau": 2, "smau_factor": 1.0},
        {**said, "mau": 16, "sum_smau": 8, "smau_factor": 0.5},
    ]
    assert [(row["basis"], row["stage"], row["feature"], row["feature_mau"]) for row in e.kpi_feature_mau] == [
        ("exact", "plan", "issues", 2),
        ("reported", "manage", "events", 16),
        ("reported", "plan", "epics", 3),
        ("reported", "plan", "issues", 8),
    ]
    assert e.kpi_feature_mau_factor == [
        {**exact, "stage": "plan", "smau": 2, "sum_feature_mau": 2, "feature_mau_factor": 1.0},
        {**said, "stage": "plan", "smau": 8, "sum_feature_mau": 11, "feature_mau_factor": 1.375},
    ]
    assert e.kpi_stage_adoption == [
        {**exact, "more_than": 0, "scopes": 1, "total": 1, "share": 1.0},
        {**said, "more_than": 0, "scopes": 1, "total": 2, "share": 0.5},
    ]
    assert e.kpi_sessions == []


def test_factors_where_there_is_nothing_to_divide() -> None:
    """SMAU without MAU has no factor; a stage whose features fell to 0 has one over 0."""
    e = expect(
        records(
            ping(2, **{MONTHLY: {"manage": {"events": 3}, "plan": {"issues": 8}}}),
            ping(3, **{MONTHLY: {"manage": {"events": 0}, "plan": {"issues": 0}}}),
            ping(4, **{MONTHLY: {"plan": {"issues": 8}}}),
            ping(5, **{MONTHLY: {"manage": {"events": 3}}}),
        ),
        Rules(as_of=day(5)),
    )
    assert [(number_of(r["as_of"]), r["mau"], r["sum_smau"], r["smau_factor"]) for r in e.kpi_smau_factor] == [
        (2, 3, 8, 8 / 3),
        (3, 0, 0, None),
        (5, 3, 0, 0.0),
    ]
    assert [
        (number_of(r["as_of"]), r["smau"], r["sum_feature_mau"], r["feature_mau_factor"])
        for r in e.kpi_feature_mau_factor
    ] == [(2, 8, 8, 1.0), (3, 0, 0, None), (4, 8, 8, 1.0)]


def test_a_reported_smau_may_come_from_elsewhere_than_its_features() -> None:
    hll = {"redis_hll_counters": {"issues_edit": {ISSUES_EDITED: 4}}}
    (row,) = expect(records(ping(2, **hll, **{MONTHLY: {}})), Rules(as_of=day(2))).kpi_feature_mau_factor
    assert (row["stage"], row["smau"], row["sum_feature_mau"], row["feature_mau_factor"]) == ("plan", 4, 0, 0.0)


def test_stage_adoption_goes_on_while_scopes_do_and_always_says_more_than_0() -> None:
    three = [activity(1, [1], "f", stage) for stage in ("create", "plan", "verify")]
    stream = records(
        ping(2, hostname="a", activity=three),
        ping(2, hostname="b", activity=[activity(1, [1])]),
        ping(2, hostname="c", **mau(6)),
        ping(2, hostname="d", **{MONTHLY: {"plan": {"issues": 8}}}),
        ping(2, **COM, activity=three),
    )
    e = expect(stream, Rules(as_of=day(2)))
    assert [
        (row["basis"], row["more_than"], row["scopes"], row["total"], row["share"])
        for row in having(e.kpi_stage_adoption, as_of=day(2))
    ] == [
        ("exact", 0, 2, 2, 1.0),
        ("exact", 1, 1, 2, 0.5),
        ("exact", 2, 1, 2, 0.5),
        ("reported", 0, 0, 1, 0.0),
    ]
    assert {row["population"] for row in e.kpi_stage_adoption} == {"self_managed"}


def test_sessions_per_user_are_of_the_scopes_that_know_their_sessions() -> None:
    stream = records(
        ping(3, hostname="a", activity=[activity(1, [1, 2], sessions=5), activity(2, [], sessions=2)]),
        ping(3, hostname="b", activity=[activity(1, [1], sessions=1), activity(1, [2, 3], "boards")]),
        ping(3, hostname="c", activity=[activity(1, [1, 2, 3, 4])]),
    )
    e = expect(stream, Rules(as_of=day(3)))
    key = {"as_of": day(1), "population": "self_managed"}
    assert having(e.kpi_sessions, as_of=day(1)) == [
        {**key, "stage": "", "feature": "", "sessions": 6, "dau": 5, "sessions_per_user": 1.2},
        {**key, "stage": "plan", "feature": "", "sessions": 6, "dau": 5, "sessions_per_user": 1.2},
        {**key, "stage": "plan", "feature": "issues", "sessions": 6, "dau": 3, "sessions_per_user": 2.0},
    ]
    assert [(row["sessions"], row["dau"], row["sessions_per_user"]) for row in e.kpi_sessions[3:]] == [(2, 0, None)] * 3


def test_versions_and_registered_users_are_of_the_newest_ping_of_the_window() -> None:
    stream = records(
        ping(2, hostname="a", version="18.4.1-ee", edition="EEP", active_user_count=10),
        ping(5, hostname="a", version="18.5.0-ee", edition="EEP", active_user_count=-1),
        ping(3, hostname="b", version="18.4.3-ee", edition="EEP", active_user_count=7),
        ping(3, hostname="c", version="pre", edition="CE", license_plan="ultimate", active_user_count=0),
        at=[2, 5, 5, 5],
    )
    e = expect(stream, RULES)
    versions = [
        (number_of(row["as_of"]), row["version"], row["edition"], row["scopes"], row["users"])
        for row in e.kpi_versions
    ]  # fmt: skip
    counts = [(number_of(row["as_of"]), row["plan"], row["users"], row["reporting_scopes"]) for row in e.kpi_user_count]
    for d in range(1, 34):
        found = {(version, edition): rest for number, version, edition, *rest in versions if number == d}
        plans = {plan: rest for number, plan, *rest in counts if number == d}
        if d in (1, 33):
            assert (found, plans) == ({}, {})
        elif d == 2:
            assert found == {("18.4", "EEP"): [1, 10]}
            assert plans == {"": [10, 1], "premium": [10, 1]}
        elif d <= 4:
            assert found == {("", "CE"): [1, 0], ("18.4", "EEP"): [2, 17]}
            assert plans == {"": [17, 3], "premium": [17, 2], "ultimate": [0, 1]}
        elif d <= 30:
            assert found == {("", "CE"): [1, 0], ("18.4", "EEP"): [1, 7], ("18.5", "EEP"): [1, None]}
            assert plans == {"": [7, 2], "premium": [7, 1], "ultimate": [0, 1]}
        else:
            assert found == {("18.5", "EEP"): [1, None]}
            assert plans == {}
    assert max(number for number, *_ in versions) == 32


@pytest.mark.parametrize(
    ("version", "short"),
    [("18.4.1-ee", "18.4"), ("18.4", "18.4"), ("12.10.0-pre", "12.10"), ("18", ""), ("v18.4", ""), ("", ""), (17, ""),
     ("٣.٤", "")],
)  # fmt: skip
def test_the_version_is_major_and_minor(version: Any, short: str) -> None:
    (row,) = expect(records(ping(2, version=version)), Rules(as_of=day(2))).kpi_versions
    assert row["version"] == short


@pytest.fixture
def an_account() -> Expected:
    """All of account '': `a` exact from day 1, and reporting; `b` reporting from day 5; group 7 silent; GitLab.com."""
    two = [activity(1, [1, 2]), activity(1, [2], "wiki", "create")]
    stages = {"manage": {"events": 6}, "plan": {"issues": 8, "epics": 3, "boards": 0}}
    stream = records(
        ping(2, hostname="a", activity=two, **mau(50)),
        ping(5, hostname="b", **{MONTHLY: stages}),
        ping(6, **COM, namespace_id="7"),
        ping(7, **COM, **mau(1000), activity=[activity(1, [1, 2, 3])]),
    )
    return expect(stream, RULES)


def test_usage_of_an_account_is_exact_where_it_can_be(an_account: Expected) -> None:
    """Of `a` the exact 2 until day 28, then the reported 50 (valid from day 2 to 29); of `b` 6 from day 5 to 32."""

    def of(number: int) -> tuple[Any, ...]:
        (row,) = having(an_account.kpi_account_usage, as_of=day(number))
        assert row["account_id"] == ""
        at = row["last_ping_at"] and number_of(row["last_ping_at"].date())
        return row["mau"], row["basis"], row["stages_used"], row["features_used"], row["pings_28d"], at

    assert of(1) == (2, "exact", 2, 2, 0, None)
    assert of(2) == (2, "exact", 2, 2, 1, 2)
    assert of(5) == (2 + 6, "mixed", 2, 4, 2, 5)  # create, plan; wiki, issues (of both), epics, events
    assert of(28) == (2 + 6, "mixed", 2, 4, 3, 6)
    assert of(29) == (50 + 6, "reported", 1, 3, 3, 6)
    assert of(30) == (6, "reported", 1, 3, 2, 6)
    assert of(32) == (6, "reported", 1, 3, 2, 6)
    assert of(33) == (None, "", 0, 0, 1, 6)
    days = [number_of(row["as_of"]) for row in an_account.kpi_account_usage]
    assert days == list(range(1, 34))


def test_a_scope_without_a_reported_mau_has_stages_and_no_mau_in_an_account() -> None:
    e = expect(records(ping(2, **{MONTHLY: {"plan": {"issues": 8}}})), Rules(as_of=day(2)))
    (row,) = e.kpi_account_usage
    assert (row["mau"], row["basis"], row["stages_used"], row["features_used"]) == (None, "reported", 1, 1)
    assert (row["pings_28d"], row["last_ping_at"]) == (1, dt.datetime(2026, 3, 2, 12, tzinfo=dt.UTC))


def test_freshness() -> None:
    """The window of the clock, day 30, begins with day 3. No exact activity is known of GitLab.com and its groups."""
    stream = [
        *records(
            ping(2, hostname="a", activity=[activity(1, [1])]),
            ping(3, hostname="b"),
            ping(30, hostname="a", activity=[activity(29, [1]), activity(31, [1])]),
            ping(2, hostname="c"),
            ping(31, hostname="d"),
            at=[2, 3, 30, 30, 29],
        ),
        *records(
            ping(2, **COM, namespace_id="7"),
            ping(21, **COM, namespace_id="8"),
            b"{",
            at=[2, 20, 22],
            partition=3,
        ),
    ]
    e = expect(stream, Rules(as_of=day(30)))
    assert tally(e) == {"applied": 6, "dead": 2}  # d is two days ahead of its received day
    watermark = dt.datetime.combine(day(22), dt.time(12), dt.UTC)
    common = {"watermark": watermark, "gaps": 0}
    assert e.kpi_freshness == [
        {"population": "gitlab_com", "newest_day": day(21), "scopes_silent_28d": 0, **common},
        {"population": "group", "newest_day": day(21), "scopes_silent_28d": 1, **common},
        {"population": "self_managed", "newest_day": day(29), "scopes_silent_28d": 1, **common},
    ]
    silent = {row["population"]: row["scopes_silent_28d"] for row in expect(stream, RULES).kpi_freshness}
    assert silent == {"gitlab_com": 1, "group": 2, "self_managed": 3}


def test_a_ping_recorded_after_the_clock_is_listed_and_stands_for_no_day() -> None:
    e = expect(records(ping(3, **mau(5), users_by={"persona": {"x": 1}}, active_user_count=4)), Rules(as_of=day(2)))
    assert (len(e.usage_ping), len(e.kpi_usage_pings)) == (1, 0)
    assert [*e.usage_kpi, *e.users_by, *e.kpi_versions, *e.kpi_user_count, *e.kpi_account_usage] == []
    (row,) = e.kpi_freshness
    assert (row["newest_day"], row["scopes_silent_28d"]) == (day(3), 1)


def test_nothing_comes_of_nothing() -> None:
    e = expect([], RULES)
    assert e.watermark is None
    assert [*e.kpi_freshness, *e.kpi_account_usage, *e.kpi_stage_adoption] == []
