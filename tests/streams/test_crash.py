"""A crash loses nothing, whenever it comes: what is not acknowledged comes again, and coming again changes nothing."""

from __future__ import annotations

import datetime as dt
import random
import threading
import time
from collections import defaultdict
from pathlib import Path

import pytest
from aiokafka.structs import ConsumerRecord

from deploy.fleet import Fleet, FleetSpec
from deploy.message import Message
from streams.ledger.book import Book, Rules
from streams.ledger.names import Names
from streams.ledger.pseudonym import Pseudonymiser
from streams.ledger.state import VERSION
from streams.ledger.usage import Figures
from tests.oracle.usage import Expected
from tests.running import CHANGELOG, KEY, Process, Site, assert_equals_oracle, new_site, table, wait_until

LAST_DAY = dt.date(2026, 3, 20)
EPOCH = dt.date(1970, 1, 1)
KILLS = 6

Figure = tuple[dt.date, str, str, str]


def fleet(seed: int, installations: int, days: int) -> list[Message]:
    spec = FleetSpec(
        last_day=LAST_DAY, days=days, seed=seed, installations=installations, users=5, duplicates=0.05,
        reordered=0.1, reorder_days=10, late=0.02, future=0.02, broken=0.02, wrong_keys=0.1,
    )  # fmt: skip
    return list(Fleet(spec).messages())


def state_figures(changelog: list[ConsumerRecord], as_of: dt.date) -> dict[Figure, tuple[int, int, int]]:
    """(day, scope_id, stage, feature) -> (dau, wau, mau), from the records of the changelog and nothing else."""
    names, found = Names(), defaultdict(lambda: (0, 0, 0))
    for partition in {record.partition for record in changelog}:
        values: dict[bytes, bytes] = {}
        for record in changelog:
            if record.partition == partition:
                assert record.key is not None and record.value is not None
                known = values.get(record.key)
                if known is None or known[VERSION] <= record.value[VERSION]:
                    values[record.key] = record.value
        for scope in Book(partition, values, names, Pseudonymiser(KEY.encode()), Rules()).all_scopes():
            ledger = scope.ledger
            if ledger.newest < 0:
                continue
            last = min((as_of - EPOCH).days, ledger.last_day)
            figures = Figures()
            lengths, counted = ledger.count_days(ledger.oldest, last, figures)
            at = 0
            for back, (length, some) in enumerate(zip(lengths.tolist(), counted.tolist(), strict=True)):
                day = EPOCH + dt.timedelta(days=ledger.oldest + back)
                for i in range(at, at + some):
                    key = (day, scope.key.scope_id, *names.name(int(figures.name[i])))
                    dau, wau, mau = found[key]  # of another shard
                    found[key] = dau + int(figures.dau[i]), wau + int(figures.wau[i]), mau + int(figures.mau[i])
                at += length
    return dict(found)


def oracle_figures(wanted: Expected) -> dict[Figure, tuple[int, int, int]]:
    """The same from the oracle."""
    return {
        (row["as_of"], row["scope_id"], row["stage"], row["feature"]): (row["dau"], row["wau"], row["mau"])
        for row in wanted.usage_kpi
        if row["basis"] == "exact"
    }


@pytest.mark.slow
def test_kills_in_mid_stream_leave_every_table_and_the_state_right(tmp_path: Path) -> None:
    """SIGKILL at seeded moments: two before the worker is ready, the others while messages come in."""
    messages = fleet(seed=21, installations=70, days=50)
    chance = random.Random(21)
    as_of = LAST_DAY.isoformat()
    settings = {"as_of": as_of, "flush_seconds": "0.02"}
    with new_site(tmp_path) as site:
        share = len(messages) // KILLS + 1
        epochs = committed_between = 0
        for number in range(KILLS):
            some = messages[number * share : (number + 1) * share]
            with site.worker(**settings) as worker:
                if number in (1, 3):
                    site.send(some)
                    time.sleep(chance.uniform(1.5, 3.5))
                else:
                    worker.wait_ready()
                    sender = threading.Thread(target=site.send, args=(some,), kwargs={"rate": len(some) / 1.5})
                    sender.start()
                    time.sleep(chance.uniform(0.1, 1.5))
                assert worker.code is None, worker.log()[-4000:]
                worker.kill()
                epochs += "partitions taken over" in worker.log()
                if number not in (1, 3):
                    committed_between += sender.is_alive()
                    sender.join()
        assert epochs >= KILLS - 2 and committed_between >= 2, "the kills were to be in mid-stream"
        site.drain(**settings)
        records = site.read()
        assert len(records) == len(messages)
        with site.tables() as client:
            wanted = assert_equals_oracle(client, records, LAST_DAY)
        assert state_figures(site.read(CHANGELOG), LAST_DAY) == oracle_figures(wanted)
        for letter in site.read("usage-pings.dlq"):
            headers = dict(letter.headers)
            place = int(headers["pingstream-partition"]), int(headers["pingstream-offset"])
            assert place in {(row["partition"], row["offset"]) for row in wanted.dead_letter}


@pytest.mark.slow
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
        assert state_figures(site.read(CHANGELOG), LAST_DAY) == oracle_figures(wanted)


def address(clickhouse: Process) -> str:
    """Where a `pingstream clickhouse` answers."""
    return clickhouse.found(r"PINGSTREAM_CLICKHOUSE=(http://\S+)")


def _quiet(site: Site) -> bool:
    before = len(site.read(CHANGELOG))
    time.sleep(1.0)
    return len(site.read(CHANGELOG)) == before
