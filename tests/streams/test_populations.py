"""Installations, groups and GitLab.com through real processes, however far the partitions are apart."""

from __future__ import annotations

import datetime as dt
import json
import random
import threading
from pathlib import Path

import pytest

from deploy.fleet import Fleet, FleetSpec
from deploy.kafka.broker import LocalBroker
from deploy.message import Message
from sinks.topics import USAGE_PINGS, internal_topic
from streams.forwarder import partition_of
from tests.running import (
    CHANGELOG,
    Site,
    WorkerProcess,
    assert_equals_oracle,
    assert_tables,
    expected,
    new_site,
    wait_until,
)
from tests.strange import strange_records
from tests.streams.nowhere import assert_nowhere

LAST_DAY = dt.date(2026, 3, 20)
AS_OF = LAST_DAY.isoformat()
EPOCH = dt.date(1970, 1, 1)
PARTITIONS = 4

Raw = tuple[int, bytes | None, bytes | None, int]


def fleet(seed: int, days: int, installations: int = 4, groups: int = 5) -> list[Raw]:
    """A fleet's pings with the partition each goes to; one in eight to any."""
    spec = FleetSpec(
        last_day=LAST_DAY, days=days, seed=seed, installations=installations, groups=groups, users=6,
        duplicates=0.05, reordered=0.1, reorder_days=17, late=0.03, future=0.03,
    )  # fmt: skip
    chance = random.Random(seed)
    return [_dealt(message, chance) for message in Fleet(spec).messages() if message.topic == USAGE_PINGS]


def _dealt(message: Message, chance: random.Random) -> Raw:
    wrong = chance.random() < 0.125
    partition = chance.randrange(PARTITIONS) if wrong else partition_of(message.key or b"", PARTITIONS)
    return partition, None if wrong else message.key, message.value, message.timestamp_ms


def strange(seed: int, count: int) -> list[Raw]:
    return [tuple(record) for record in strange_records(seed, count, partitions=PARTITIONS, last_day=LAST_DAY)]  # type: ignore[misc]


@pytest.mark.long
def test_partitions_that_come_one_after_the_other(tmp_path: Path) -> None:
    """140 days of one partition, then 140 days of the next: GitLab.com's activity comes from all of them. Each order is
    tried in memory; this one with processes."""
    messages = fleet(seed=41, days=140, installations=2, groups=4)
    with new_site(tmp_path) as site:
        site.send([])
        for partition in (2, 0, 3, 1):
            site.send_raw([raw for raw in messages if raw[0] == partition])
            site.drain(as_of=AS_OF)
        with site.tables() as client:
            wanted = assert_equals_oracle(client, site.read(), LAST_DAY)
        assert {row["population"] for row in wanted.usage_kpi} == {"self_managed", "group", "gitlab_com"}


@pytest.mark.long
def test_three_workers_strange_pings_and_a_replay_into_an_empty_and_a_full_database(tmp_path: Path) -> None:
    messages = strange(seed=42, count=900)
    first = messages[:600]
    with new_site(tmp_path) as site, site.clickhouse() as clickhouse:
        dsn = clickhouse.found(r"PINGSTREAM_CLICKHOUSE=(http://\S+)")
        site.send([])
        workers: list[WorkerProcess] = []
        try:
            for start in range(0, 600, 200):
                workers.append(site.worker(clickhouse=dsn, as_of=AS_OF, data_dir=str(tmp_path / f"worker{start}")))
                workers[-1].wait_ready()
                site.send_raw(first[start : start + 200])
            site.drain(clickhouse=dsn, as_of=AS_OF, data_dir=str(tmp_path / "last"))
            for worker in workers:
                worker.wait_caught_up()
        finally:
            for worker in workers:
                worker.kill()
        records = site.read()
        with site.tables(dsn) as client:
            assert_equals_oracle(client, records, LAST_DAY)

        # Another Kafka, with nothing of the state: the same messages again and more of them, behind tables that are full.
        with LocalBroker(tmp_path / "kafka2", port=0) as broker:
            second = Site(tmp_path, broker)
            second.send([])
            second.send_raw(messages)
            second.drain(clickhouse=dsn, as_of=AS_OF)
            with second.tables(dsn) as client:
                assert_equals_oracle(client, second.read(), LAST_DAY)


@pytest.mark.long
def test_a_worker_sees_midnight_and_one_that_was_off_for_ten_days_catches_up(tmp_path: Path) -> None:
    messages = fleet(seed=43, days=40)
    today = tmp_path / "today"

    def days(worker: WorkerProcess, as_of: dt.date) -> None:
        worker.wait_ready()
        worker.wait_caught_up()
        wanted = expected(records, as_of)

        def equal() -> bool:
            try:
                with site.tables() as client:
                    assert_tables(client, wanted)
            except AssertionError:
                return False
            return True

        wait_until(equal, f"the rows of {as_of} are written", seconds=30, pause=0.5)

    with new_site(tmp_path) as site:
        site.send([])
        site.send_raw(messages)
        records = site.read()
        offsets_of_state = -1
        for first, later in ((-3, 3), (13, 14)):
            today.write_text(str((LAST_DAY - EPOCH).days + first))
            with clocked(site, today) as worker:
                days(worker, LAST_DAY + dt.timedelta(first))
                read = sum(worker.outcomes().values())
                for offset in range(first + 1, later + 1):
                    today.write_text(str((LAST_DAY - EPOCH).days + offset))
                days(worker, LAST_DAY + dt.timedelta(later))
                assert sum(worker.outcomes().values()) == read, "no message has to come for a day to end"
                worker.kill()
            assert len(site.read(CHANGELOG)) > offsets_of_state
            offsets_of_state = len(site.read(CHANGELOG))


@pytest.mark.slow
def test_messages_that_come_in_all_the_time_do_not_put_midnight_off(tmp_path: Path) -> None:
    messages = list(Fleet(FleetSpec(last_day=LAST_DAY, days=60, seed=45, installations=12, users=4)).messages())
    today = tmp_path / "today"
    today.write_text(str((LAST_DAY - EPOCH).days - 2))
    with new_site(tmp_path) as site, clocked(site, today) as worker:
        worker.wait_ready()
        sender = threading.Thread(target=site.send, args=(messages,), kwargs={"rate": 60})
        sender.start()
        worker.wait_read(30)
        today.write_text(str((LAST_DAY - EPOCH).days - 1))

        def written() -> bool:
            with site.tables() as client:
                ((day, partitions),) = client.query(
                    "SELECT min(as_of), count() FROM pingstream.progress FINAL WHERE topic = 'usage-pings'"
                ).result_rows
            return bool(partitions == PARTITIONS and day == LAST_DAY - dt.timedelta(days=1))

        wait_until(written, "the new day is written", seconds=6)
        assert sender.is_alive(), "it was to be written while messages come in"
        worker.kill()
        sender.join()


def clocked(site: Site, today: Path) -> WorkerProcess:
    """A worker whose as-of clock reads a file."""
    log = site.folder / f"clocked-{today.read_text()}.log"
    return WorkerProcess(site.worker_arguments(), site.folder, log, ["-m", "tests.clocked", str(today)])


@pytest.mark.long
def test_a_changed_pseudonym_key_is_refused_and_can_be_asked_for(tmp_path: Path) -> None:
    messages = fleet(seed=44, days=30, installations=2, groups=2)
    other = "another key, of more than 16 characters"
    with new_site(tmp_path) as site:
        site.send([])
        site.send_raw(messages)
        site.drain(as_of=AS_OF)
        changelog = len(site.read(CHANGELOG))
        with site.worker("--drain", as_of=AS_OF, pseudonym_key=other) as worker:
            assert worker.wait(60) == 2
            log = worker.log()
        assert "PINGSTREAM_PSEUDONYM_KEY" in log and "--new-pseudonym-key" in log and "Traceback" not in log
        assert other not in log
        assert len(site.read(CHANGELOG)) == changelog, "nothing may be written under the other key"
        with site.tables() as client:
            assert_equals_oracle(client, site.read(), LAST_DAY)
        with site.worker("--drain", "--new-pseudonym-key", as_of=AS_OF, pseudonym_key=other) as worker:
            assert worker.wait(60) == 0, worker.log()[-2000:]
        with site.worker("--drain", as_of=AS_OF, pseudonym_key=other) as worker:
            assert worker.wait(60) == 0, worker.log()[-2000:]


@pytest.mark.slow
def test_no_user_id_goes_over_the_internal_topic(tmp_path: Path) -> None:
    """Everything under a wrong key, so that all of it is forwarded, and GitLab.com's activity once more by user."""
    ids = ["jane.doe@example.com", "user-4711-of-acme", 8_123_456_789_012_345_678]
    entry = {"date": AS_OF, "stage": "create", "feature": "wiki", "users": ids, "sessions": 2}
    messages = []
    for number, extra in enumerate(
        ({"hostname": "a.example"}, {"hostname": "gitlab.com", "namespace_id": "9970"}, {"hostname": "gitlab.com"})
    ):
        document = {
            "uuid": f"u{number}", "recorded_at": f"{AS_OF}T10:00:00Z", "activity": [entry],
            "sessions": [{"user": ids[0], "at": f"{AS_OF}T08:00:00Z", "stage": "plan", "feature": "epics"}],
            "licensee": {"Name": "Jane Licensee", "Email": "jane.licensee@example.com"}, "license_key": "eyJ-secret-key", **extra,
        }  # fmt: skip
        moment = int(dt.datetime.combine(LAST_DAY, dt.time(10), dt.UTC).timestamp() * 1000)
        messages += [(partition, None, json.dumps(document | {"recorded_at": f"{AS_OF}T10:00:0{partition}Z"}).encode(), moment)
                     for partition in range(PARTITIONS)]  # fmt: skip
    with new_site(tmp_path) as site:
        site.send([])
        site.send_raw(messages)
        site.drain(as_of=AS_OF)
        with site.tables() as client:
            assert_equals_oracle(client, site.read(), LAST_DAY)
        assert len(site.read(internal_topic("usage-pings"))) > 12
        integer = int(ids[2])
        assert_nowhere(site, [*map(str, ids), "Jane Licensee", "jane.licensee@example.com", "eyJ-secret-key",
                              integer.to_bytes(8, "little"), integer.to_bytes(8, "big")])  # fmt: skip
