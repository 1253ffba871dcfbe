"""The stage map: today's metrics and those before them, and the tables that are none."""

from __future__ import annotations

import csv
import typing
from pathlib import Path

import msgspec
import pytest

from schemas.ping import Ping
from schemas.stage_map import COLUMNS, STAGE_MAP, STAGE_MAPS, StageMapError, read_stage_maps

HEADER = ",".join(COLUMNS)
FIGURES = Path(__file__).parents[2] / "docs" / "figures.md"
TABLE = Path(__file__).parents[2] / "schemas" / "stage_map.csv"
METRICS = Path(__file__).parents[3] / "shared" / "data" / "stage-metrics.csv"


def table(*rows: str) -> str:
    return "\n".join([HEADER, *rows]) + "\n"


def test_the_map_in_force() -> None:
    assert STAGE_MAP.version == STAGE_MAPS[-1].version == 1
    assert [".".join(path) for path in STAGE_MAP.mau] == ["usage_activity_by_stage_monthly.manage.events"]
    assert {stage: [".".join(path) for path in paths] for stage, paths in STAGE_MAP.smau.items()} == {
        "configure": ["redis_hll_counters.kubernetes_agent.k8s_api_proxy_requests_unique_agents_via_ci_access_monthly"],
        "create": ["usage_activity_by_stage_monthly.create.action_monthly_active_users_project_repo"],
        "govern": ["redis_hll_counters.govern.users_visiting_govern_pages_monthly"],
        "monitor": ["redis_hll_counters.incident_management.incident_management_total_unique_counts_monthly"],
        "package": ["redis_hll_counters.user_packages.user_packages_total_unique_counts_monthly"],
        "plan": [
            "redis_hll_counters.issues_edit.issues_edit_total_unique_counts_monthly",
            "usage_activity_by_stage_monthly.plan.issues",
        ],
        "secure": ["usage_activity_by_stage_monthly.secure.user_unique_users_all_secure_scanners"],
        "verify": ["usage_activity_by_stage_monthly.verify.ci_pipelines"],
    }


@pytest.mark.skipif(not METRICS.exists(), reason="GitLab's metric definitions are not beside the checkout")
def test_the_map_in_force_is_that_of_gitlabs_metric_definitions() -> None:
    with METRICS.open(newline="") as file:
        kinds = {
            row["key_path"]: (row["stage"], row["performance_indicator_type"].split(";"))
            for row in csv.DictReader(file)
        }
    today = {".".join(paths[0]): stage for stage, paths in STAGE_MAP.smau.items()}
    assert today == {path: stage for path, (stage, kind) in kinds.items() if "smau" in kind}
    assert [".".join(path) for path in STAGE_MAP.mau] == [path for path, (_, kind) in kinds.items() if "umau" in kind]


def test_a_ping_keeps_exactly_the_top_level_keys_that_a_map_names() -> None:
    fields = typing.get_type_hints(Ping)
    raw = {name for name, kind in fields.items() if kind is msgspec.Raw}
    assert raw - {"counts"} == STAGE_MAP.roots


def test_the_docs_show_the_map_in_force() -> None:
    with TABLE.open(newline="") as file:
        rows = [
            f"| {row['level']} | {row['stage']} | {row['rank']} | `{row['key_path']}` | {row['since']} |"
            for row in csv.DictReader(file)
            if row["version"] == str(STAGE_MAP.version)
        ]
    text = FIGURES.read_text()
    assert f"**The stage map**, version {STAGE_MAP.version} " in text
    assert "| --- | --- | --- | --- | --- |\n" + "\n".join(rows) + "\n\n" in text


def test_the_map_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        STAGE_MAP.smau["create"] = ()  # type: ignore[index]
    with pytest.raises(AttributeError):
        STAGE_MAP.version = 2  # type: ignore[misc]


def test_the_highest_version_is_in_force_and_the_others_stay() -> None:
    first, second = read_stage_maps(
        table("1,total,,1,a.b,12.0", "1,stage,plan,1,a.c,12.0", "2,total,,1,a.d,13.0", "2,stage,plan,1,x.y.z,13.0", "2,stage,plan,2,a.c,12.0")
    )  # fmt: skip
    assert (first.version, first.mau, dict(first.smau)) == (1, (("a", "b"),), {"plan": (("a", "c"),)})
    assert (second.version, second.mau, dict(second.smau)) == (
        2,
        (("a", "d"),),
        {"plan": (("x", "y", "z"), ("a", "c"))},
    )
    assert second.roots == {"a", "x"}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "line 1: the columns are"),
        ("version,level,stage\n", "line 1: the columns are"),
        (table(), "line 2: there is no row"),
        (table("1,total,,1,a.b"), "line 2: "),
        (table("x,total,,1,a.b,12.0"), "line 2: "),
        (table("0,total,,1,a.b,12.0"), "line 2: version 0"),
        (table("2,total,,1,a.b,12.0"), "line 2: version 2"),
        (table("1,total,,1,a.b,12.0", "2,total,,1,a.b,12.0", "1,stage,plan,1,a.c,12.0"), "line 4: version 1"),
        (table("1,total,plan,1,a.b,12.0"), "line 2: level 'total' with stage 'plan'"),
        (table("1,stage,,1,a.b,12.0"), "line 2: level 'stage' with stage ''"),
        (table("1,feature,plan,1,a.b,12.0"), "line 2: level 'feature'"),
        (table("1,total,,2,a.b,12.0"), "line 2: rank 2 where 1 is next"),
        (table("1,total,,1,a.b,12.0", "1,stage,plan,1,a.c,12.0", "1,stage,plan,3,a.d,12.0"), "line 4: rank 3 where 2 is next"),
        (table("1,total,,1,a,12.0"), "line 2: 'a' is no key path"),
        (table("1,total,,1,a..b,12.0"), "line 2: 'a..b' is no key path"),
        (table("1,total,,1,a.b,"), "line 2: there is no milestone"),
        (table("1,total,,1,a.b,12.0", "1,stage,plan,1,a.b,12.0"), "line 3: a.b stands twice"),
        (table("1,stage,plan,1,a.b,12.0"), "version 1 has no row of level total"),
    ],
)  # fmt: skip
def test_tables_that_are_no_map(text: str, sentence: str) -> None:
    with pytest.raises(StageMapError) as caught:
        read_stage_maps(text)
    assert sentence in str(caught.value)
