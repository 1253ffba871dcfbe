"""`/metrics`, `/healthz` and `/readyz` of a running worker (contract, section 4)."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from deploy.fleet import Fleet, FleetSpec
from sinks.topics import SOURCES, USAGE_PINGS
from tests.running import assert_equals_oracle, new_site, table, wait_until

LAST_DAY = dt.date(2026, 3, 20)

NAMES = {
    "pingstream_events_total": {"topic", "outcome"},
    "pingstream_dead_letters_total": {"topic", "reason"},
    "pingstream_balance_messages": {"topic"},
    "pingstream_activities_total": set(),
    "pingstream_consumer_lag_records": {"topic", "partition"},
    "pingstream_consumer_lag_seconds": set(),
    "pingstream_oldest_unflushed_seconds": set(),
    "pingstream_uncommitted_records": {"topic"},
    "pingstream_uncommitted_seconds": {"topic"},
    "pingstream_watermark_timestamp_seconds": set(),
    "pingstream_newest_applied_timestamp_seconds": {"topic"},
    "pingstream_sink_flush_seconds_bucket": {"le"},
    "pingstream_sink_rows_total": {"table"},
    "pingstream_state_scopes": set(),
    "pingstream_state_accounts": set(),
    "pingstream_state_bytes": set(),
    "pingstream_mrr": {"currency"},
    "pingstream_mrr_12m_ago": set(),
    "pingstream_mrr_retained": set(),
    "pingstream_ready": set(),
    "pingstream_recovery_remaining_records": {"topic"},
    "pingstream_recovery_seconds": set(),
    "pingstream_build_info": {"version"},
    "pingstream_mau": {"population", "basis"},
    "pingstream_smau": {"population", "basis", "stage"},
    "pingstream_feature_mau": {"population", "basis", "stage", "feature"},
    "pingstream_scopes_by_stages_used": {"population", "stages"},
}
"""Names and labels that a dashboard relies on. `sink_errors_total` has no sample before the first error, `seats` and
`seats_added_28d` have none without accounts."""


@pytest.mark.slow
def test_what_a_running_worker_tells(tmp_path: Path) -> None:
    spec = FleetSpec(
        last_day=LAST_DAY, days=40, seed=31, installations=10, groups=4, users=8,
        duplicates=0.1, reordered=0.1, late=0.05, future=0.05, broken=0.1,
    )  # fmt: skip
    messages = list(Fleet(spec).messages())
    half = len(messages) // 2
    as_of = LAST_DAY.isoformat()
    with new_site(tmp_path) as site:
        with site.worker(as_of=as_of) as worker:
            status, reason = worker.get("/readyz")
            assert status == 503 and len(reason) > 10, "there is no broker connection yet, let alone state"
            assert worker.get("/healthz")[0] == 200
            assert worker.metrics()["pingstream_ready", ()] == 0
            worker.wait_ready()
            assert "pingstream_watermark_timestamp_seconds" not in {name for name, _ in worker.metrics()}
            site.send(messages[:half])
            worker.wait_read(half)
            assert worker.metrics()["pingstream_ready", ()] == 1
            wait_until(lambda: is_committed(worker.metrics()), "what is read is committed")
            assert_balanced(worker.metrics())
            first = worker.outcomes()
            worker.kill()
        site.send(messages[half:])
        records = site.read()

        # Another worker takes the state over; its gauges are of all scopes, its counters of what it has read itself.
        with site.worker(as_of=as_of) as worker:
            worker.wait_ready()
            worker.wait_caught_up()
            _, text = worker.get("/metrics")
            samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
            labels = {sample.name: set(sample.labels) for sample in samples}
            for name, wanted in NAMES.items():
                assert labels.get(name) == wanted, name
            values = worker.metrics()
            with site.tables() as client:
                expected = assert_equals_oracle(client, records, LAST_DAY)
                today = f"as_of = '{as_of}' AND basis = 'exact'"
                mau = table(client, f"kpi_mau WHERE {today}")
                smau = table(client, f"kpi_smau WHERE {today}")
                feature_mau = table(client, f"kpi_feature_mau WHERE {today}")
                adoption = table(client, f"kpi_stage_adoption WHERE {today}")

            # Scopes that no message has touched since are counted in idle moments.
            everybody = {("pingstream_mau", ("exact", row["population"])): row["mau"] for row in mau}
            wait_until(lambda: everybody.items() <= worker.metrics().items(), f"the gauges are {everybody}")
            _, text = worker.get("/metrics")
            values = worker.metrics()
            assert {population for _, (_, population) in everybody} == {"self_managed", "group", "gitlab_com"}
            found = {key: value for key, value in values.items() if key[0] == "pingstream_smau" and value}
            assert found == {
                ("pingstream_smau", ("exact", r["population"], r["stage"])): r["smau"] for r in smau if r["smau"]
            }
            found = {key: value for key, value in values.items() if key[0] == "pingstream_feature_mau" and value}
            assert found == {
                ("pingstream_feature_mau", ("exact", r["feature"], r["population"], r["stage"])): r["feature_mau"]
                for r in feature_mau
                if r["feature_mau"]
            }
            by_stages = {
                (labels[0], int(labels[1])): value
                for (name, labels), value in values.items()
                if name == "pingstream_scopes_by_stages_used" and value
            }
            assert {population for population, _ in by_stages} == {"self_managed", "group"}
            for row in adoption:
                used = [n for (population, stages), n in by_stages.items()
                        if population == row["population"] and stages > row["more_than"]]  # fmt: skip
                assert sum(used) == row["scopes"]

            second = worker.outcomes()
            # The kill may have let a batch come again; then it is counted by both.
            assert sum(second.values()) >= len(messages) - half
            if sum(second.values()) == len(messages) - half:
                assert first + second == Counter(expected.outcomes)
            topic = {key: value for key, value in values.items() if key[0] == "pingstream_dead_letters_total" and value}
            assert topic and all(USAGE_PINGS in key[1] for key in topic)
            assert sum(topic.values()) >= second[USAGE_PINGS, "dead"]
            assert values["pingstream_consumer_lag_seconds", ()] == 0
            assert values["pingstream_oldest_unflushed_seconds", ()] == 0
            assert values["pingstream_state_scopes", ()] == len(
                {row["scope_id"] for row in expected.usage_ping if row["population"] != "gitlab_com"}
            )
            assert values["pingstream_state_bytes", ()] > 1000
            lags = [key[1] for key in values if key[0] == "pingstream_consumer_lag_records"]
            assert {(str(p), USAGE_PINGS) for p in range(4)} <= set(lags)
            newest = {r.partition: max(x.timestamp for x in records if x.partition == r.partition) for r in records}
            assert values["pingstream_watermark_timestamp_seconds", ()] == min(newest.values()) / 1000
            assert values["pingstream_newest_applied_timestamp_seconds", (USAGE_PINGS,)] == max(newest.values()) / 1000
            assert_balanced(values)
            wait_until(lambda: is_committed(worker.metrics()), "the rest is committed")
            assert values["pingstream_recovery_remaining_records", (USAGE_PINGS,)] == 0
            assert values["pingstream_recovery_seconds", ()] == 0
            _no_names_in(
                text, [row["uuid"] for row in expected.usage_ping] + [row["hostname"] for row in expected.usage_ping]
            )


def is_committed(values: dict[tuple[str, tuple[str, ...]], float]) -> bool:
    found = [value for (name, _), value in values.items() if name.startswith("pingstream_uncommitted_")]
    return len(found) == 8 and not any(found)  # of two topics and two internal ones, records and seconds


def assert_balanced(values: dict[tuple[str, tuple[str, ...]], float]) -> None:
    assert [values["pingstream_balance_messages", (topic,)] for topic in SOURCES] == [0, 0]


def _no_names_in(text: str, names: list[str]) -> None:
    for name in names:
        assert name not in text, "no installation may be told from another in a metric"
