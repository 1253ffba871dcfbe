"""The table of metrics in the docs is that of the code, and the code's that of what a worker exposes."""

from __future__ import annotations

import re

from deploy import metrics_page
from sinks.prometheus import Metrics


def test_the_page_is_what_the_definitions_say() -> None:
    assert metrics_page.PAGE.read_text() == metrics_page.page(), "make metrics"


def test_definitions_are_what_a_worker_exposes() -> None:
    metrics = Metrics("1")
    text = metrics.text()[0].decode()
    kinds = dict(re.findall(r"^# TYPE (\w+) (\w+)$", text, re.MULTILINE))
    sentences = dict(re.findall(r"^# HELP (\w+) (.+)$", text, re.MULTILINE))
    # The text format has no type for an info.
    assert kinds == {d.name: "gauge" if d.kind == "info" else d.kind for d in metrics.definitions}
    assert sentences == {d.name: d.sentence for d in metrics.definitions}
    for metric in metrics.definitions:
        if metric.unit in ("seconds", "seconds since 1970", "bytes"):
            assert metric.name.endswith(metric.unit.split()[0])


def test_what_is_not_known_is_absent() -> None:
    metrics = Metrics("1")
    assert "\npingstream_watermark_timestamp_seconds " not in metrics.text()[0].decode()
    metrics.watermark.set(5)
    assert "\npingstream_watermark_timestamp_seconds 5.0\n" in metrics.text()[0].decode()
