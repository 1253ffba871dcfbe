"""A crash between a flush's state and its rows loses nothing. `tests.faults` has crashes at any other moment."""

from __future__ import annotations

import datetime as dt
import time
from pathlib import Path

import pytest

from deploy.fleet import Fleet, FleetSpec
from deploy.message import Message
from tests.faults.state import oracle_figures, usage_figures
from tests.running import CHANGELOG, Process, Site, assert_equals_oracle, new_site, table, wait_until

LAST_DAY = dt.date(2026, 3, 20)


def fleet(seed: int, installations: int, days: int) -> list[Message]:
    spec = FleetSpec(
        last_day=LAST_DAY, days=days, seed=seed, installations=installations, users=5, duplicates=0.05,
        reordered=0.1, reorder_days=10, late=0.02, future=0.02, broken=0.02, wrong_keys=0.1,
    )  # fmt: skip
    return list(Fleet(spec).messages())


@pytest.mark.long
def test_clickhouse_is_away_and_the_worker_waits_or_dies_between_state_and_rows(tmp_path: Path) -> None:
    """ClickHouse dies, so a flush gets as far as its state. Once it comes back in time; once the worker dies first."""
    messages = fleet(seed=22, installations=8, days=40)
    third = len(messages) // 3
    as_of = LAST_DAY.isoformat()
    with new_site(tmp_path) as site:
        first = site.clickhouse()
        with first:
            dsn = address(first)
            port = int(dsn.rpartition(":")[2])
            worker = site.worker(clickhouse=dsn, as_of=as_of)
            worker.wait_ready()
        with worker:
            site.send(messages[:third])
            worker.found(r"(ClickHouse does not take rows)")
            assert sum(worker.outcomes().values()) == 0
            errors = {key: value for key, value in worker.metrics().items() if key[0] == "pingstream_sink_errors_total"}
            assert sum(errors.values()) >= 1
            with site.clickhouse(port=port) as second:
                assert address(second) == dsn
                worker.wait_read(third)
                with site.tables(dsn) as client:
                    assert_equals_oracle(client, site.read(), LAST_DAY)
            before = len(site.read(CHANGELOG))
            site.send(messages[third:])
            wait_until(lambda: len(site.read(CHANGELOG)) > before, "the state is written while the rows wait")
            wait_until(lambda: _quiet(site), "the changelog is quiet")
            assert sum(worker.outcomes().values()) == third, "nothing may be acknowledged before its rows are accepted"
            worker.kill()
        records = site.read()
        with site.clickhouse(port=port) as third_time:
            assert address(third_time) == dsn
            with site.tables(dsn) as client:
                rows = len(table(client, "usage_ping"))
            site.drain(clickhouse=dsn, as_of=as_of)
            with site.tables(dsn) as client:
                wanted = assert_equals_oracle(client, records, LAST_DAY)
        assert rows < len(wanted.usage_ping), "rows had to be missing after the crash"
        assert usage_figures(site.read(CHANGELOG), LAST_DAY) == oracle_figures(wanted)


def address(clickhouse: Process) -> str:
    """Where a `pingstream clickhouse` answers."""
    return clickhouse.found(r"PINGSTREAM_CLICKHOUSE=(http://\S+)")


def _quiet(site: Site) -> bool:
    before = len(site.read(CHANGELOG))
    time.sleep(1.0)
    return len(site.read(CHANGELOG)) == before
