"""What the demo's worker says about itself: where its web end is, and its own metrics."""

from __future__ import annotations

import http.client
import re
from collections import Counter
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from prometheus_client.parser import text_string_to_metric_families

from sinks.topics import SOURCES

_ADDRESS = re.compile(r"\bmetrics=(http://[^\s/]+)/metrics")
_ANSWER_SECONDS = 2.0


@dataclass(frozen=True)
class Counts:
    """What became of the messages of each topic, the letters written about them, and how many wait in which topic.

    Outcomes are by (topic, outcome), letters by (topic, reason).
    """

    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    letters: Counter[tuple[str, str]] = field(default_factory=Counter)
    waiting: Counter[str] = field(default_factory=Counter)

    @property
    def read(self) -> int:
        """Messages that have their outcome: their rows are in ClickHouse."""
        return sum(self.outcomes.values())


def web_address(log: str) -> str | None:
    """Where the worker serves `/metrics`, as it says in its log; None before it does."""
    found = _ADDRESS.search(log)
    return found[1] if found else None


def counts(address: str) -> Counts | None:
    """The worker's counters, None while it does not answer."""
    # No client that minds proxies: this is another process of this machine.
    parts = urlsplit(address)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=_ANSWER_SECONDS)
    try:
        connection.request("GET", "/metrics")
        page = connection.getresponse().read().decode()
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
    found = Counts()
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            if sample.name == "pingstream_consumer_lag_records":
                found.waiting[sample.labels["topic"]] += int(sample.value)
            topic = sample.labels.get("topic")
            if topic not in SOURCES:
                continue
            if sample.name == "pingstream_events_total":
                found.outcomes[topic, sample.labels["outcome"]] += int(sample.value)
            elif sample.name == "pingstream_dead_letters_total":
                found.letters[topic, sample.labels["reason"]] += int(sample.value)
    return found
