"""Pings through a real Kafka, a worker and embedded ClickHouse: every table is what the oracle computes."""

from __future__ import annotations

import datetime as dt
import threading
from pathlib import Path

import pytest

from deploy.fleet import Fleet, FleetSpec
from sinks.topics import USAGE_PINGS
from tests.running import assert_equals_oracle, expected, new_site, stop_in_order

LAST_DAY = dt.date(2026, 3, 20)


def fleet(seed: int, installations: int, days: int) -> Fleet:
    return Fleet(
        FleetSpec(
            last_day=LAST_DAY, days=days, seed=seed, installations=installations, groups=4, users=8, duplicates=0.08,
            reordered=0.2, reorder_days=17, late=0.04, future=0.04, broken=0.05, wrong_keys=0.1,
        )
    )  # fmt: skip


@pytest.mark.long
def test_tables_equal_the_oracle_whatever_is_sent_again_and_however_the_clock_moves(tmp_path: Path) -> None:
    """First a clock that is behind the facts, then one that has come up with them, while all is sent a second time."""
    messages = list(fleet(seed=11, installations=16, days=50).messages())
    early = LAST_DAY - dt.timedelta(days=9)
    with new_site(tmp_path) as site:
        site.send(messages)
        site.drain(as_of=early.isoformat())
        records = site.read()
        with site.tables() as client:
            assert_equals_oracle(client, records, early)
        first = expected(records, LAST_DAY)
        assert len(first.usage_kpi) > 5_000
        assert {letter["reason"] for letter in first.dead_letter} >= {"late", "future", "invalid", "not_json"}

        with site.worker(as_of=LAST_DAY.isoformat()) as worker:
            worker.wait_ready()
            again = site.send(messages)
            worker.wait_read(again)
            worker.wait_caught_up()
            counted = worker.outcomes()
            stop_in_order(worker)
        records = site.read()
        with site.tables() as client:
            both = assert_equals_oracle(client, records, LAST_DAY)
        assert both.usage_kpi == first.usage_kpi
        assert counted == both.outcomes - first.outcomes
        assert not counted[USAGE_PINGS, "applied"] and counted[USAGE_PINGS, "duplicate"] > len(messages) // 2

        for days in (3, 40):
            as_of = LAST_DAY + dt.timedelta(days=days)
            site.drain(as_of=as_of.isoformat())
            with site.tables() as client:
                aged = assert_equals_oracle(client, records, as_of)
        ended = {
            row["population"]: row for row in aged.kpi_mau if row["basis"] == "exact"
        }  # the last row of each, as rows are in the order of as_of
        assert ended.keys() == {"self_managed", "group", "gitlab_com"}
        assert all(row["mau"] == 0 and row["as_of"] < as_of for row in ended.values())


@pytest.mark.long
def test_a_running_worker_keeps_up_with_messages_that_trickle_in_and_stops_in_the_middle_of_them(
    tmp_path: Path,
) -> None:
    messages = list(fleet(seed=12, installations=10, days=45).messages())
    with new_site(tmp_path) as site:
        with site.worker(as_of=LAST_DAY.isoformat()) as worker:
            worker.wait_ready()
            sender = threading.Thread(target=site.send, args=(messages,), kwargs={"rate": 60})
            sender.start()
            worker.wait_read(len(messages) // 3)
            stop_in_order(worker)
            assert sender.is_alive(), "the worker was to be stopped in mid-stream"
        with site.worker(as_of=LAST_DAY.isoformat()) as worker:
            sender.join()
            records = site.read()
            assert len(records) == len(messages)
            worker.wait_ready()
            # Whatever the first one left, the second one has to be through with when there is no lag.
            rest = len(messages) - len(messages) // 3
            worker.wait_caught_up()
            assert sum(worker.outcomes().values()) <= rest, "an orderly end commits what was acknowledged"
            with site.tables() as client:
                assert_equals_oracle(client, records, LAST_DAY)
            stop_in_order(worker)
        with site.tables() as client:
            assert_equals_oracle(client, records, LAST_DAY)
