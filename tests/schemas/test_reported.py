"""What a ping reports: the search for each figure, what is unknown, and payloads of every age."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from schemas.ping import MAX_DEPTH, MAX_INT64, Ping, decode_activity, decode_ping, decode_users, users_by_rows
from schemas.reported import Reported, read_reported
from schemas.stage_map import STAGE_MAP

LIMIT = 8 * 1024 * 1024
MESSAGES = Path(__file__).parents[2] / "docs" / "messages.md"
EXAMPLE = Path(__file__).parents[3] / "shared" / "data" / "service-ping-example.json"

CREATE = "action_monthly_active_users_project_repo"
ISSUES = {"issues_edit": {"issues_edit_total_unique_counts_monthly": 12}}


def read(block: str | None, redis: str | None = None) -> Reported | None:
    fields = ['"uuid":"u"', '"recorded_at":"2026-01-02T03:04:05Z"']
    if block is not None:
        fields.append(f'"usage_activity_by_stage_monthly":{block}')
    if redis is not None:
        fields.append(f'"redis_hll_counters":{redis}')
    return read_reported(decode_ping(f"{{{','.join(fields)}}}".encode(), LIMIT))


@pytest.mark.parametrize("block", [None, "null", "[]", "5", "-1", "true", '"x"', "[{}]", "1e400"])
def test_a_ping_without_the_block_reports_nothing(block: str | None) -> None:
    assert read(block, json.dumps(ISSUES)) is None


def test_an_empty_block_reports_that_nothing_is_known() -> None:
    assert read("{}") == Reported([], 0)


def test_the_block_alone_makes_a_ping_report_and_counters_elsewhere_join() -> None:
    assert read("{}", json.dumps(ISSUES)) == Reported([("plan", "", 12)], 0)


def test_mau_smau_and_features_stand_beside_each_other() -> None:
    block = {
        "manage": {"events": 100, "groups": 7},
        "create": {CREATE: 40, "merge_requests": 30},
        "verify": {"ci_pipelines": 20},
        "a stage of tomorrow": {"wishes": 3},
    }
    assert read(json.dumps(block), json.dumps(ISSUES)) == Reported(
        [
            ("", "", 100), ("create", "", 40), ("plan", "", 12), ("verify", "", 20),
            ("manage", "events", 100), ("manage", "groups", 7), ("create", CREATE, 40), ("create", "merge_requests", 30),
            ("verify", "ci_pipelines", 20), ("a stage of tomorrow", "wishes", 3),
        ],
        0,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("today", "before", "smau", "unknown"),
    [
        ("12", "7", 12, 0),
        ("0", "7", 0, 0),
        ("-1", "7", None, 1),
        ("-1000", "7", None, 1),
        ("false", "7", None, 1),
        ('"12"', "7", None, 1),
        ("12.0", "7", None, 1),
        ("[]", "7", None, 1),
        ("{}", "7", None, 1),
        ("9223372036854775807", "7", MAX_INT64, 0),
        ("9223372036854775808", "7", None, 1),
        ("1" + "0" * 5_000, "7", None, 1),
        ("-1" + "0" * 5_000, "7", None, 1),
        ("1e400", "7", None, 1),
        ("null", "7", 7, 0),
        ("null", "0", 0, 0),
        ("null", "null", None, 0),
        ("null", "-1", None, 1),
        ("null", "[]", None, 1),
    ],
)
def test_the_first_path_that_is_decided_decides(today: str, before: str, smau: int | None, unknown: int) -> None:
    found = read(
        f'{{"plan":{{"issues":{before}}}}}',
        f'{{"issues_edit":{{"issues_edit_total_unique_counts_monthly":{today}}}}}',
    )
    assert found is not None
    assert [users for stage, feature, users in found.figures if (stage, feature) == ("plan", "")] == (
        [] if smau is None else [smau]
    )
    assert found.unknown == unknown


@pytest.mark.parametrize(
    "redis", [None, "null", "5", "[]", "{}", '{"issues_edit":null}', '{"issues_edit":5}', '{"issues_edit":[12]}']
)
def test_what_is_no_object_on_the_way_is_absent(redis: str | None) -> None:
    assert read('{"plan":{"issues":7}}', redis) == Reported([("plan", "", 7), ("plan", "issues", 7)], 0)


@pytest.mark.parametrize(
    ("value", "figures", "unknown"),
    [
        ("5", [("release", "x", 5)], 0),
        ("0", [("release", "x", 0)], 0),
        ("9223372036854775807", [("release", "x", MAX_INT64)], 0),
        ("null", [], 0),
        ("-1", [], 1),
        ("true", [], 1),
        ("5.0", [], 1),
        ("5e0", [], 1),
        ('"5"', [], 1),
        ("9223372036854775808", [], 1),
        ("1" + "0" * 5_000, [], 1),
        ("1e400", [], 1),
        ('{"deeper":5}', [], 0),
        ("[5]", [], 0),
    ],
)
def test_a_feature_is_a_number_of_users_exactly_two_levels_down(
    value: str, figures: list[tuple[str, str, int]], unknown: int
) -> None:
    assert read(f'{{"release":{{"x":{value}}}}}') == Reported(figures, unknown)


def test_a_value_that_is_looked_for_twice_is_unknown_once() -> None:
    assert read('{"manage":{"events":-1},"verify":{"ci_pipelines":true}}') == Reported([], 2)


@pytest.mark.parametrize("stage", ["5", "null", "[]", '"x"', "-1"])
def test_a_stage_that_is_no_object_has_no_features(stage: str) -> None:
    assert read(f'{{"release":{stage},"plan":{{"issues":7}}}}') == Reported([("plan", "", 7), ("plan", "issues", 7)], 0)


def test_empty_names_are_no_figures() -> None:
    assert read('{"":{"x":5},"release":{"":5,"y":6}}') == Reported([("release", "y", 6)], 0)


def test_of_a_name_that_stands_twice_the_last_one_counts() -> None:
    assert read('{"release":{"x":5},"release":{"y":1,"y":2}}') == Reported([("release", "y", 2)], 0)
    twice = b'{"uuid":"u","recorded_at":"2026-01-02T03:04:05Z","usage_activity_by_stage_monthly":{"a":{"b":1}},"usage_activity_by_stage_monthly":null}'
    assert read_reported(decode_ping(twice, LIMIT)) is None


@pytest.mark.parametrize("name", ["\\ud800", "x\\udfff", "\\udc00\\ud800"])
def test_a_name_with_half_a_surrogate_pair_is_out_of_the_way(name: str) -> None:
    block = f'{{"{name}":{{"x":5}},"release":{{"{name}":-1,"\\ud83d\\ude00":6}},"plan":{{"issues":"{name}"}}}}'
    assert read(block, f'{{"{name}":{{"{name}":5}},"issues_edit":{{"{name}":5}}}}') == Reported(
        [("release", "\U0001f600", 6)], 1
    )


def test_deep_nesting_inside_the_block_is_no_figure() -> None:
    deep = "[" * (MAX_DEPTH - 3) + "]" * (MAX_DEPTH - 3)
    assert read(f'{{"release":{{"x":{deep},"y":6}}}}', f'{{"x":{deep}}}') == Reported([("release", "y", 6)], 0)


@pytest.mark.skipif(not EXAMPLE.exists(), reason="GitLab's example payload is not beside the checkout")
def test_gitlabs_own_example() -> None:
    found = read_reported(decode_ping(EXAMPLE.read_bytes(), LIMIT))
    assert found is not None and found.unknown == 0
    assert [figure for figure in found.figures if not figure[1]] == [("", "", 999), ("plan", "", 999)]
    assert sorted((stage, feature) for stage, feature, _ in found.figures if feature) == [
        ("configure", "project_clusters_enabled"), ("create", "merge_requests"), ("manage", "events"),
        ("monitor", "clusters"), ("package", "projects_with_packages"), ("plan", "issues"), ("release", "deployments"),
        ("secure", "user_container_scanning_jobs"), ("verify", "ci_builds"),
    ]  # fmt: skip


def test_the_example_of_the_docs_has_every_field_and_reports() -> None:
    value = MESSAGES.read_text().split("```json\n")[1].split("```")[0]
    assert set(json.loads(value)) == set(Ping.__struct_fields__)
    ping = decode_ping(value.encode(), LIMIT)
    assert len(decode_users(decode_activity((ping.activity or [])[0]).users)) == 3
    assert len(users_by_rows(ping) or []) == 6
    assert read_reported(ping) == Reported(
        [
            ("", "", 180), ("create", "", 95), ("plan", "", 64), ("manage", "events", 180), ("create", CREATE, 95),
            ("create", "merge_requests", 70), ("plan", "issues", 88),
        ],
        1,
    )  # fmt: skip


STAGES = (
    "configure",
    "create",
    "enablement",
    "govern",
    "manage",
    "monitor",
    "package",
    "plan",
    "release",
    "secure",
    "verify",
)


def payload(counters: int, features: int, unique: int, padding: int) -> bytes:
    """A Service Ping with so many counters of all time, reported features and unique counts; names as long as GitLab's."""
    ping: dict[str, Any] = {
        "uuid": "0000000-0000-0000-0000-000000000000",
        "hostname": "gitlab.example.com",
        "recorded_at": "2026-11-20T07:43:54.162+00:00",
        "counts": {f"{'counter':_<{padding}}{number}": number for number in range(counters)},
    }
    if features:
        block: dict[str, dict[str, int]] = {stage: {} for stage in STAGES}
        for number in range(features):
            block[STAGES[number % len(STAGES)]][f"{'feature':_<{padding}}{number}"] = number - 1
        ping["usage_activity_by_stage_monthly"] = block
    if unique:
        redis: dict[str, dict[str, int]] = {}
        for number in range(unique):
            redis.setdefault(f"category_{number // 20}", {})[f"{'unique':_<{padding}}{number}"] = number
        ping["redis_hll_counters"] = redis
        for path in (path for paths in (STAGE_MAP.mau, *STAGE_MAP.smau.values()) for path in paths):
            ping.setdefault(path[0], {}).setdefault(path[1], {})[path[2]] = 77
    return json.dumps(ping).encode()


def test_a_payload_of_2019_has_counters_and_reports_nothing() -> None:
    value = payload(counters=120, features=0, unique=0, padding=20)
    assert 2_000 < len(value) < 6_000
    assert read_reported(decode_ping(value, LIMIT)) is None


@pytest.mark.parametrize(
    ("counters", "features", "unique", "padding", "size"),
    [(450, 150, 350, 30, 40_000), (1_000, 1_000, 2_800, 85, 450_000)],
    ids=["2021", "today"],
)
def test_payloads_since_2020_report_every_figure(
    counters: int, features: int, unique: int, padding: int, size: int
) -> None:
    value = payload(counters, features, unique, padding)
    assert len(value) > size
    ping = decode_ping(value, LIMIT)
    found = read_reported(ping)
    assert found is not None
    paths = [path for paths in (STAGE_MAP.mau, *STAGE_MAP.smau.values()) for path in paths]
    named = sum(path[0] == "usage_activity_by_stage_monthly" for path in paths)
    assert len(found.figures) == 1 + len(STAGE_MAP.smau) + features - 1 + named
    assert found.unknown == 1  # the first feature is -1
    assert [users for _, feature, users in found.figures if not feature] == [77] * (1 + len(STAGE_MAP.smau))
    assert len({figure[:2] for figure in found.figures}) == len(found.figures)


def test_todays_payload_is_read_in_a_fraction_of_the_time_that_parsing_it_takes() -> None:
    """0.6 ms beyond the decoding of the ping, on a machine where the standard library parses it in 3.3 ms."""
    value = payload(1_000, 1_000, 2_800, 85)
    ping = decode_ping(value, LIMIT)
    reading, parsing = [], []
    for _ in range(20):
        start = time.process_time()
        read_reported(ping)
        between = time.process_time()
        json.loads(value)
        reading.append(between - start)
        parsing.append(time.process_time() - between)
    assert min(reading) < 0.7 * min(parsing)
