"""Every metric, once: name, type, unit, labels and a sentence. No user, account, host name or uuid is ever a label."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, disable_created_metrics
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from schemas.dead_letters import Outcome, Reason
from sinks.topics import SOURCES

NAMESPACE = "pingstream"

disable_created_metrics()  # type: ignore[no-untyped-call]


class Metrics:
    """The metrics of one worker."""

    def __init__(self, version: str) -> None:
        self.registry = registry = CollectorRegistry()

        def counter(name: str, sentence: str, *labels: str) -> Counter:
            return Counter(name, sentence, labels, namespace=NAMESPACE, registry=registry)

        def gauge(name: str, sentence: str, *labels: str) -> Gauge:
            return Gauge(name, sentence, labels, namespace=NAMESPACE, registry=registry)

        self.events = counter(
            "events", "Messages read, by what became of them: applied, duplicate or dead.", "topic", "outcome"
        )
        self.dead_letters = counter("dead_letters", "Dead letters written, by reason.", "topic", "reason")
        # From 0 on, or Prometheus does not see the first ones as an increase.
        for topic in SOURCES:
            for outcome in Outcome:
                self.events.labels(topic, outcome)
            for reason in Reason:
                self.dead_letters.labels(topic, reason)
        self.activities = counter("activities", "Users in activity entries that were folded.")
        self.unknown_values = counter(
            "unknown_values",
            "Negative or unusable numbers in pings: unknown, never 0; under `counts` and where figures are reported.",
        )
        self.forgotten_entries = counter(
            "forgotten_entries",
            "Activity entries of days that had left the state, 100 days behind every partition: their figures are final.",
        )
        self.lag_records = gauge(
            "consumer_lag_records", "Messages in the partition that are not applied yet.", "topic", "partition"
        )
        self.lag_seconds = gauge(
            "consumer_lag_seconds", "Age of the received time up to which messages are applied, 0 when there is no lag."
        )
        self.oldest_unflushed = gauge(
            "oldest_unflushed_seconds", "How long the oldest fetched message has waited for its rows to be accepted."
        )
        self.watermark = gauge(
            "watermark_timestamp_seconds",
            "Newest received time that is applied, of the partition that is furthest behind.",
        )
        self.flush_seconds = Histogram(
            "sink_flush_seconds", "Time to write a batch: dead letters, state, rows.", namespace=NAMESPACE, registry=registry,
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
        )  # fmt: skip
        self.sink_rows = counter("sink_rows", "Rows that ClickHouse has accepted.", "table")
        self.sink_errors = counter(
            "sink_errors", "Inserts, or dead letters, that were refused or not answered; they are tried again.", "table"
        )
        self.state_scopes = gauge("state_scopes", "Installations and groups that this worker owns.")
        self.state_accounts = gauge("state_accounts", "Accounts that this worker owns.")
        self.state_bytes = gauge("state_bytes", "Bytes of the durable state of all of them.")
        self.ready = gauge("ready", "1 when state is recovered and partitions are assigned, else 0.")
        self.build = Info("build", "The program's version.", namespace=NAMESPACE, registry=registry)
        self.build.info({"version": version})
        self.mau = gauge(
            "mau", "Monthly active users of the scopes that this worker owns; sum over workers.", "population", "basis"
        )
        self.smau = gauge("smau", "Stage monthly active users; sum over workers.", "population", "basis", "stage")
        self.feature_mau = gauge(
            "feature_mau", "Feature monthly active users; sum over workers.", "population", "basis", "stage", "feature"
        )
        self.scopes_by_stages_used = gauge(
            "scopes_by_stages_used",
            "Scopes by the number of stages they use; sum over workers.",
            "population",
            "stages",
        )
        self.seats = gauge("seats", "Seats held, of the accounts that this worker owns; sum over workers.", "plan")
        self.seats_added = gauge(
            "seats_added_28d", "Seats added outside renewals in 28 days; sum over workers.", "plan"
        )
        self.mrr = gauge("mrr", "Monthly recurring revenue in the reporting currency; sum over workers.", "currency")
        self.mrr_12m_ago = gauge("mrr_12m_ago", "MRR of the same date 12 months ago; sum over workers.")
        self.mrr_retained = gauge(
            "mrr_retained", "Today's MRR of the accounts that had some 12 months ago; sum over workers."
        )
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
