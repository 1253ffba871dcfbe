"""The oracle against tables computed by hand. Days are of 2026; `day(1)` is 1 March."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import pytest

from tests.oracle.usage import Expected, Record, Row, Rules, expect

MARCH = dt.date(2026, 3, 1)
RULES = Rules(as_of=dt.date(2026, 12, 31))


def day(number: int) -> dt.date:
    return MARCH + dt.timedelta(days=number - 1)


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
    """(day, dau, wau, mau, sessions) of the rows of a level."""
    return [
        ((row["as_of"] - MARCH).days + 1, row["dau"], row["wau"], row["mau"], row["sessions"])
        for row in expected.usage_kpi
        if row["level"] == level and all(row[name] == value for name, value in where.items())
    ]


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
    assert figures(expect(records(ping(2, activity=[activity(1, [1], sessions=0)])), RULES))[0] == (1, 1, 1, 1, 0)


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
    everything = expect(stream, Rules(as_of=day(9), populations=("self_managed", "gitlab_com", "group")))
    assert figures(everything, population="self_managed", scope_id="u@h")[0] == (1, 2, 2, 2, 5)
    assert figures(everything, population="gitlab_com", scope_id="gitlab.com")[0] == (1, 3, 3, 3, 7)
    assert figures(everything, population="group", scope_id="7")[0] == (1, 2, 2, 2, 3)
    assert figures(everything, population="group", scope_id="8")[0] == (1, 2, 2, 2, 4)
    assert {row["population"] for row in expect(stream, RULES).usage_kpi} == {"self_managed"}
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
