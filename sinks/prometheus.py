"""Every metric, once: name, type, unit, labels and a sentence. No user, account, host name or uuid is ever a label.

The registry is made from the calls below, and so is the table in `docs/operations.md` (`make metrics`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, disable_created_metrics
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import Metric

from schemas.dead_letters import Outcome, Reason
from sinks.topics import SOURCES

NAMESPACE: Final = "pingstream"

FLUSH_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)

disable_created_metrics()  # type: ignore[no-untyped-call]


@dataclass(frozen=True)
class Definition:
    """What a metric is.

    Attributes:
        name: as it is asked for.
        kind: Prometheus' word for it: counter, gauge, histogram or info.
        unit: of its values; '' where it has none.
        sentence: what it says, and what a reader must know of it.
    """

    name: str
    kind: str
    unit: str
    labels: tuple[str, ...]
    sentence: str


class KnownGauge(Gauge):
    """A gauge without a sample while its value is not known, which is NaN."""

    def collect(self) -> Iterator[Metric]:
        """Its family, with a sample when there is one."""
        for family in super().collect():
            family.samples = [sample for sample in family.samples if not math.isnan(sample.value)]
            yield family


class Metrics:
    """The metrics of one worker.

    Attributes:
        definitions: what they are, in the order in which they are shown.
    """

    def __init__(self, version: str) -> None:
        self.registry = registry = CollectorRegistry()
        self.definitions: list[Definition] = []

        def define(name: str, kind: str, unit: str, labels: tuple[str, ...], sentence: str) -> None:
            self.definitions.append(Definition(f"{NAMESPACE}_{name}", kind, unit, labels, sentence))

        def counter(name: str, unit: str, sentence: str, *labels: str) -> Counter:
            define(f"{name}_total", "counter", unit, labels, sentence)
            return Counter(name, sentence, labels, namespace=NAMESPACE, registry=registry)

        def gauge(name: str, unit: str, sentence: str, *labels: str) -> Gauge:
            define(name, "gauge", unit, labels, sentence)
            return Gauge(name, sentence, labels, namespace=NAMESPACE, registry=registry)

        def known_gauge(name: str, unit: str, sentence: str) -> KnownGauge:
            define(name, "gauge", unit, (), sentence)
            made = KnownGauge(name, sentence, namespace=NAMESPACE, registry=registry)
            made.set(math.nan)
            return made

        def histogram(name: str, unit: str, sentence: str, buckets: tuple[float, ...]) -> Histogram:
            define(name, "histogram", unit, (), sentence)
            return Histogram(name, sentence, namespace=NAMESPACE, registry=registry, buckets=buckets)

        def info(name: str, sentence: str, *labels: str) -> Info:
            define(f"{name}_info", "info", "", labels, sentence)
            return Info(name, sentence, namespace=NAMESPACE, registry=registry)

        # What became of messages.
        self.events = counter(
            "events", "messages",
            "Messages read, by what became of them: `applied`, `duplicate`, `dead`. Counters are a process's own: they begin at 0 "
            "with it, and a message that comes again after a crash is counted again. The tables hold each once.",
            "topic", "outcome",
        )  # fmt: skip
        self.dead_letters = counter(
            "dead_letters", "letters",
            "Dead letters written, by reason; a ping that is applied without some of its entries has one, too.",
            "topic", "reason",
        )  # fmt: skip
        self.balance = gauge(
            "balance_messages", "messages",
            "Messages read that have no outcome, drawn after each flush, since the worker took its partitions over last: read, less "
            "applied, duplicate, dead and sent on to their home. Anything but 0 is a fault of the program.",
            "topic",
        )  # fmt: skip
        # From 0 on, or Prometheus does not see the first ones as an increase.
        for topic in SOURCES:
            self.balance.labels(topic)
            for outcome in Outcome:
                self.events.labels(topic, outcome)
            for reason in Reason:
                self.dead_letters.labels(topic, reason)
        self.activities = counter("activities", "users", "Users in activity entries that were folded.")
        self.unknown_values = counter(
            "unknown_values", "values",
            "Negative or unusable numbers in pings: unknown, never 0; under `counts` and where figures are reported.",
        )  # fmt: skip
        self.forgotten_entries = counter(
            "forgotten_entries", "entries",
            "Activity entries of days that had left the state, 100 days behind every partition: their figures are final.",
        )  # fmt: skip

        # How far the worker is.
        self.lag_records = gauge(
            "consumer_lag_records", "messages",
            "Messages in the partition that are not applied yet, of partitions that this worker owns and whose state is recovered.",
            "topic", "partition",
        )  # fmt: skip
        self.lag_seconds = gauge(
            "consumer_lag_seconds", "seconds",
            "Age of the received time up to which messages are applied, of the partition with lag that is furthest behind; 0 when "
            "none has lag.",
        )  # fmt: skip
        self.oldest_unflushed = gauge(
            "oldest_unflushed_seconds", "seconds",
            "How long the oldest fetched message has waited for its rows to be accepted.",
        )  # fmt: skip
        self.uncommitted_records = gauge(
            "uncommitted_records", "messages",
            "Messages that are read and not committed yet: after a crash they come again. 0 when the worker is idle.",
            "topic",
        )  # fmt: skip
        self.uncommitted_seconds = gauge(
            "uncommitted_seconds", "seconds",
            "How long no commit has moved a partition of which messages are read and not committed, of the one that stands still "
            "longest; 0 when everything that is read is committed.",
            "topic",
        )  # fmt: skip
        self.watermark = known_gauge(
            "watermark_timestamp_seconds", "seconds since 1970",
            "Received time up to which messages are applied, of the partition that is furthest behind; absent without a message. "
            "A partition to which nobody sends stays where it is.",
        )  # fmt: skip
        self.newest_applied = gauge(
            "newest_applied_timestamp_seconds", "seconds since 1970",
            "Newest received time of a message that is applied, of all partitions of the topic that this worker owns; absent "
            "without a message.",
            "topic",
        )  # fmt: skip

        # Writing.
        self.flush_seconds = histogram(
            "sink_flush_seconds", "seconds", "Time to write a batch: dead letters, state, rows.", FLUSH_BUCKETS
        )
        self.sink_rows = counter("sink_rows", "rows", "Rows that ClickHouse has accepted.", "table")
        self.sink_errors = counter(
            "sink_errors", "tries",
            "Inserts that ClickHouse refused or did not answer; they are tried again. Under the name of a dead letters' topic: letters "
            "that it refused.",
            "table",
        )  # fmt: skip

        # The worker and its state.
        self.ready = gauge(
            "ready", "", "1 when `/readyz` says so: partitions are assigned and their state is recovered, else 0."
        )
        self.recovery_remaining = gauge(
            "recovery_remaining_records", "records",
            "Records of the topic's state that are still to be read back before its partitions are worked on, counted in offsets of "
            "the changelog; 0 when there is nothing to recover.",
            "topic",
        )  # fmt: skip
        self.recovery_seconds = gauge(
            "recovery_seconds", "seconds",
            "How long the worker has had partitions that it cannot work on, as their state is being recovered; 0 when there are none.",
        )  # fmt: skip
        self.state_scopes = gauge("state_scopes", "scopes", "Installations and groups that this worker owns.")
        self.state_accounts = gauge("state_accounts", "accounts", "Accounts that this worker owns.")
        self.state_bytes = gauge("state_bytes", "bytes", "Bytes of the durable state of all of them.")
        self.build = info("build", "The program's version.", "version")
        self.build.info({"version": version})

        # Live figures.
        self.mau = gauge(
            "mau", "users", "Monthly active users today of the scopes that this worker owns.", "population", "basis"
        )
        self.smau = gauge("smau", "users", "Monthly active users of a stage today.", "population", "basis", "stage")
        self.feature_mau = gauge(
            "feature_mau",
            "users",
            "Monthly active users of a feature today.",
            "population",
            "basis",
            "stage",
            "feature",
        )
        self.scopes_by_stages_used = gauge(
            "scopes_by_stages_used", "scopes", "Scopes by the number of stages they use.", "population", "stages"
        )
        self.seats = gauge("seats", "seats", "Seats held today, of the accounts that this worker owns.", "plan")
        self.seats_added = gauge("seats_added_28d", "seats", "Seats added outside renewals in 28 days.", "plan")
        self.mrr = gauge(
            "mrr", "reporting currency", "Monthly recurring revenue today, in the reporting currency.", "currency"
        )
        self.mrr_12m_ago = gauge("mrr_12m_ago", "reporting currency", "MRR of the same date 12 months ago.")
        self.mrr_retained = gauge(
            "mrr_retained", "reporting currency",
            "Today's MRR of the accounts that had some 12 months ago: net retention at the level of accounts is "
            "`sum(pingstream_mrr_retained) / sum(pingstream_mrr_12m_ago)`.",
        )  # fmt: skip
        self.ready.set(0)

    def totals(self) -> dict[str, int]:
        """What was done since the start: messages judged, letters and rows that were taken."""
        counters = {"messages": self.events, "dead_letters": self.dead_letters, "rows": self.sink_rows}
        return {
            name: int(
                sum(
                    sample.value
                    for found in counter.collect()
                    for sample in found.samples
                    if sample.name.endswith("_total")
                )
            )
            for name, counter in counters.items()
        }

    def text(self) -> tuple[bytes, str]:
        """The page of `/metrics` and its content type."""
        return generate_latest(self.registry), CONTENT_TYPE_LATEST
