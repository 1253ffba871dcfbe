"""The dashboards as files: written anew they are the same, they fit together, and add up nothing that does not."""

from __future__ import annotations

import re

import pytest

from deploy.grafana.sources import CLICKHOUSE, PROMETHEUS
from deploy.grafana.written import FOLDER, dashboards
from sinks.prometheus import Metrics
from tests.grafana.reading import Json, dashboard, panels, variables
from tests.running import KEYS, ROOT

NAMES = ("pipeline", "usage", "expansion", "account")

NO_METRIC_OF_THE_CONTRACT = {
    "pingstream_unknown_values", "pingstream_forgotten_entries", "pingstream_state_accounts", "pingstream_recovery_seconds",
}  # fmt: skip

BESIDE_THE_CONTRACT = {"gap"}
"""What dashboards read that is no table or view of the contract: it has no other list of gaps."""

ADDS_UP = {
    "seats", "mrr", "mrr_12m_ago", "seats_owed", "seats_added_28d", "seats_removed_28d", "mrr_change", "subscriptions", "amount",
}  # fmt: skip
"""Columns that may be summed over rows. Of users only a sum over scopes is a figure of the contract."""

SUM_OVER_SCOPES = {"Users by stage": "mau"}

SUMS_OF_USERS_BY_SCOPE = {"Registered users by plan": "the newest ping of a scope has one plan"}


@pytest.fixture(params=NAMES)
def board(request: pytest.FixtureRequest) -> Json:
    return dashboard(request.param)


def test_the_files_are_what_the_code_writes() -> None:
    written = dashboards()
    assert {path.name for path in FOLDER.iterdir()} == set(written)
    for name, text in written.items():
        assert (FOLDER / name).read_text() == text, f"{name} is old: run `make dashboards`"
    assert written == dashboards()


def test_every_panel_says_what_it_shows(board: Json) -> None:
    titles = [panel["title"] for panel in panels(board)]
    for panel in panels(board):
        assert panel["description"].endswith("."), panel["title"]
        assert panel["type"] in ("table", "state-timeline") or panel["fieldConfig"]["defaults"]["unit"], panel["title"]
    ids = [panel["id"] for panel in board["panels"]]
    assert len(set(ids)) == len(ids) and all(ids)
    assert titles


def test_panels_stand_side_by_side_without_overlap(board: Json) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + i, place["y"] + j) for i in range(place["w"]) for j in range(place["h"])}
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells


def test_questions_go_to_the_provisioned_sources(board: Json) -> None:
    asked = [target["datasource"] for panel in panels(board) for target in panel["targets"]]
    asked += [panel["datasource"] for panel in panels(board)]
    asked += [annotation["datasource"] for annotation in board["annotations"]["list"]]
    wanted = PROMETHEUS if board["uid"] == "pingstream-pipeline" else CLICKHOUSE
    assert {source["uid"] for source in asked} <= {str(wanted.uid), str(PROMETHEUS.uid)}
    assert {panel["datasource"]["uid"] for panel in panels(board)} == {wanted.uid}
    provisioned = (FOLDER.parent / "provisioning/datasources/pingstream.yml").read_text()
    found = set(
        zip(
            re.findall(r"^    uid: (.+)$", provisioned, re.M),
            re.findall(r"^    type: (.+)$", provisioned, re.M),
            strict=True,
        )
    )
    assert found == {(source.uid, source.type_val) for source in (CLICKHOUSE, PROMETHEUS)}


def test_metrics_are_those_of_the_workers() -> None:
    page = Metrics("1").text()[0].decode()
    there = {re.sub("_(total|info)$", "", name) for name in re.findall(r"^# TYPE (\w+)", page, re.M)}
    asked = set(re.findall(r"\bpingstream_\w+", (FOLDER / "pipeline.json").read_text()))
    plain = {re.sub("_(total|info|bucket|sum|count)$", "", name) for name in asked}
    assert plain <= there
    assert there - plain == NO_METRIC_OF_THE_CONTRACT, "every metric of the contract is shown"


def test_views_are_those_of_the_contract() -> None:
    asked = set()
    for name in NAMES:
        asked |= set(re.findall(r"(?:FROM|JOIN) ([a-z_]+)", (FOLDER / f"{name}.json").read_text()))
    assert asked <= KEYS.keys() | BESIDE_THE_CONTRACT
    shown = {view for view in KEYS if view.startswith("kpi_")}
    assert shown <= asked, "every KPI is shown"


def test_only_what_adds_up_is_added(board: Json) -> None:
    for panel in panels(board):
        for target in panel["targets"]:
            summed = set(re.findall(r"\bsum(?:If)?\((\w+)", target.get("rawSql", "")))
            assert summed <= ADDS_UP | {SUM_OVER_SCOPES.get(panel["title"], "")}, panel["title"]
            assert not re.search(r"\bavg\w*\(", target.get("rawSql", ""))


def test_only_what_adds_up_is_stacked(board: Json) -> None:
    for panel in panels(board):
        if panel["fieldConfig"]["defaults"].get("custom", {}).get("stacking", {}).get("mode") != "normal":
            continue
        for target in panel["targets"]:
            users = re.search(
                r"\b(mau|smau|feature_mau|users|share|utilization)\b", str(target.get("rawSql") or target["expr"])
            )
            assert not users or panel["title"] in SUMS_OF_USERS_BY_SCOPE, panel["title"]


def test_a_click_leads_to_the_account() -> None:
    links = re.findall(r"/d/([\w-]+)\?var-(\w+)=", "".join((FOLDER / f"{name}.json").read_text() for name in NAMES))
    account = dashboard("account")
    assert links and set(links) == {(account["uid"], "account")}
    assert "account" in {variable["name"] for variable in variables(account)}


def test_dashboards_know_each_other(board: Json) -> None:
    others = {f"/d/{dashboard(name)['uid']}" for name in NAMES} - {f"/d/{board['uid']}"}
    assert {link["url"] for link in board["links"]} == others
    assert {annotation["name"] for annotation in board["annotations"]["list"]} >= {"Deployments"}


def test_the_page_shows_a_picture_of_each() -> None:
    page = (ROOT / "docs" / "dashboards.md").read_text()
    for name in NAMES:
        picture = ROOT / "docs" / "dashboards" / f"{name}.png"
        assert f"(dashboards/{name}.png)" in page
        assert picture.read_bytes().startswith(b"\x89PNG") and picture.stat().st_size < 250_000
