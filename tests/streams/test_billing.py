"""Accounts and what they use, through real processes: several workers, everything twice, kills, another Kafka."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from decimal import Decimal
from pathlib import Path

import pytest

from deploy.fleet import Fleet, FleetSpec
from deploy.kafka.broker import LocalBroker
from sinks.topics import BILLING_EVENTS, USAGE_PINGS
from tests.oracle.billing import BillingExpected
from tests.running import DRAIN_SECONDS, Site, WorkerProcess, assert_equals_oracle, new_site, wait_until
from tests.strange import strange_records
from tests.strange_billing import LICENCES, strange_billing_records

LAST_DAY = dt.date(2026, 3, 20)
AS_OF = LAST_DAY.isoformat()
LONG_AGO = dt.date(2025, 3, 20)
"""Strange events come up to 250 days later, and Kafka takes none of days to come."""

PARTITIONS = 4


@pytest.mark.slow
def test_a_fleet_with_its_accounts_sent_twice_and_the_live_gauges(tmp_path: Path) -> None:
    spec = FleetSpec(
        last_day=LAST_DAY, days=30, seed=51, installations=6, groups=4, users=5, accounts=14, billing_days=548,
        duplicates=0.05, reordered=0.1, late=0.02, future=0.02, broken=0.03, wrong_keys=0.1, conflicts=0.04, late_billing=0.2,
    )  # fmt: skip
    messages = list(Fleet(spec).messages())
    with new_site(tmp_path) as site:
        site.send(messages)
        with site.worker(as_of=AS_OF) as worker:
            worker.wait_ready()
            worker.wait_caught_up()
            (door,) = worker.ports() - {int(worker.address.rpartition(":")[2])}
            assert door, "where embedded ClickHouse answers other commands"
            expected = assert_written(site)
            assert worker.outcomes() == +Counter(expected.outcomes)
            assert {row["account_id"] for row in expected.kpi_account_usage} > {""}
            assert any(row["mau"] for row in expected.kpi_seat_utilization)

            def live() -> dict[tuple[str, tuple[str, ...]], Decimal]:
                return {
                    (name.removeprefix("pingstream_"), labels): Decimal(str(value))
                    for (name, labels), value in worker.metrics().items()
                    if name.removeprefix("pingstream_")
                    in ("seats", "seats_added_28d", "mrr", "mrr_12m_ago", "mrr_retained")
                    and value
                }

            wanted = {key: value for key, value in expected.gauges.items() if value}
            wait_until(lambda: live() == wanted, f"the gauges are {wanted}")
        site.send(messages)
        with site.worker("--drain", as_of=AS_OF, web_host="off") as worker:
            assert worker.found(r"metrics=(\S+)") == "off"
            assert len(worker.ports()) == 1, "where embedded ClickHouse answers other commands"
            assert worker.wait(DRAIN_SECONDS) == 0, worker.log()
        assert_written(site)


@pytest.mark.long
def test_workers_that_come_and_go_amid_strange_messages_and_another_kafka(tmp_path: Path) -> None:
    pings = strange_records(52, 200, partitions=PARTITIONS, last_day=LONG_AGO, own=LICENCES)
    events = strange_billing_records(52, 450, partitions=PARTITIONS, last_day=LONG_AGO)
    with new_site(tmp_path) as site, site.clickhouse() as clickhouse:
        dsn = clickhouse.found(r"PINGSTREAM_CLICKHOUSE=(http://\S+)")
        site.send([])
        workers: list[WorkerProcess] = []
        try:
            for half in range(2):
                folder = str(tmp_path / f"worker{half}")
                workers.append(site.worker(clickhouse=dsn, as_of=LONG_AGO.isoformat(), data_dir=folder))
                workers[-1].wait_ready()
                site.send_raw(pings[half * 100 : (half + 1) * 100])
                site.send_raw(events[half * 200 : (half + 1) * 200], BILLING_EVENTS)
            workers[0].kill()
        finally:
            for worker in workers:
                worker.kill()
        site.send_raw(events[400:], BILLING_EVENTS)
        site.drain(clickhouse=dsn, as_of=LONG_AGO.isoformat(), data_dir=str(tmp_path / "last"))
        assert_written(site, dsn, LONG_AGO)

        # Another Kafka, with nothing of the state: the same messages again, behind tables that are full.
        with LocalBroker(tmp_path / "kafka2", port=0) as broker:
            second = Site(tmp_path, broker)
            second.send([])
            second.send_raw(pings)
            second.send_raw(events, BILLING_EVENTS)
            second.drain(clickhouse=dsn, as_of=LONG_AGO.isoformat())
            assert_written(second, dsn, LONG_AGO)


def assert_written(site: Site, dsn: str | None = None, as_of: dt.date = LAST_DAY) -> BillingExpected:
    """Every table and view is what the oracle makes of both topics."""
    with site.tables(dsn) as client:
        return assert_equals_oracle(client, [*site.read(USAGE_PINGS), *site.read(BILLING_EVENTS)], as_of)
