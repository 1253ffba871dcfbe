"""The alert rules ask for metrics that there are, and fire when they should."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest

from sinks.prometheus import Metrics
from tests.running import ROOT

RULES = ROOT / "deploy" / "prometheus"


def test_every_metric_of_the_rules_is_one_of_the_workers() -> None:
    page = Metrics("1").text()[0].decode()
    there = set(re.findall(r"^# TYPE (\w+)", page, re.MULTILINE))
    text = "".join((RULES / name).read_text() for name in ("recording.yml", "alerts.yml"))
    asked = set(re.findall(r"\bpingstream_\w+", text))
    assert asked and asked <= there
    recorded = set(re.findall(r"record: (\S+)", text))
    assert set(re.findall(r"\bpingstream:[\w:]+", text)) == recorded


def test_each_alert_is_tested_and_in_the_runbook() -> None:
    alerts = set(re.findall(r"alert: (\w+)", (RULES / "alerts.yml").read_text()))
    tested = {name for file in RULES.glob("*_test.yml") for name in re.findall(r"alertname: (\w+)", file.read_text())}
    page = (ROOT / "docs" / "operations.md").read_text()
    assert alerts and alerts == tested
    assert alerts == set(re.findall(r"^\| `(Pingstream\w+)` \|", page, re.MULTILINE))


def test_the_first_dead_letter_is_an_increase() -> None:
    page = Metrics("1").text()[0].decode()
    assert 'pingstream_dead_letters_total{reason="not_json",topic="usage-pings"} 0.0' in page
    assert 'pingstream_events_total{outcome="applied",topic="billing-events"} 0.0' in page


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed (Debian's package prometheus)")
@pytest.mark.parametrize(
    "arguments",
    [["check", "rules", "recording.yml", "alerts.yml"], ["test", "rules", "alerts_test.yml", "alerts_days_test.yml"]],
)
def test_promtool_agrees(arguments: list[str]) -> None:
    done = subprocess.run(["promtool", *arguments], cwd=RULES, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
