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
    asked = set(re.findall(r"\bpingstream_\w+", (RULES / "alerts.yml").read_text()))
    assert asked and asked <= there


def test_the_first_dead_letter_is_an_increase() -> None:
    page = Metrics("1").text()[0].decode()
    assert 'pingstream_dead_letters_total{reason="not_json",topic="usage-pings"} 0.0' in page
    assert 'pingstream_events_total{outcome="applied",topic="billing-events"} 0.0' in page


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed (Debian's package prometheus)")
@pytest.mark.parametrize("arguments", [["check", "rules", "alerts.yml"], ["test", "rules", "alerts_test.yml"]])
def test_promtool_agrees(arguments: list[str]) -> None:
    done = subprocess.run(["promtool", *arguments], cwd=RULES, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
