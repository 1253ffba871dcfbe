"""ClickHouse fails in every way that it has: the worker waits, says so once, and goes on; what no waiting mends is a sentence."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from sinks.clickhouse import schema
from tests.faults.case import case
from tests.faults.disk import NoDisk, fill, mount, small_disk
from tests.faults.proxy import (
    MEMORY,
    READ_ONLY_TABLE,
    READ_ONLY_USER,
    TOO_MANY_PARTS,
    WRONG_PASSWORD,
    Proxy,
)
from tests.faults.stage import Skip, Stage
from tests.faults.supervisor import Supervisor
from tests.faults.world import world
from tests.running import wait_until

SAID = "ClickHouse does not take rows"
GOES_ON = "ClickHouse takes rows again"
SINKS = 2
"""Each topic has a sink of its own, which says for itself that it waits."""


@contextmanager
def proxied(stage: Stage, seconds: float | None = None) -> Iterator[tuple[Proxy, Supervisor]]:
    """A worker that has settled on a third of the messages, behind a proxy; the others are on their way over some seconds."""
    messages = stage.messages()
    third = len(messages) // 3
    assert stage.dsn is not None
    with Proxy(stage.dsn, stage.chance) as proxy, stage.supervised(clickhouse=proxy.dsn) as worker:
        stage.site.send(messages[:third])
        stage.settle()
        with stage.load(messages[third:], seconds or stage.of(1.0, 4.0, 20.0)) as load:
            yield proxy, worker
            load.join()
        stage.check()
        assert worker.starts == 1, "the worker was to wait"


def errors(worker: Supervisor) -> float:
    """Inserts that failed, as the worker counts them."""
    samples = worker.worker.metrics()
    return sum(value for (name, _), value in samples.items() if name == "pingstream_sink_errors_total")


def wait_and_see(stage: Stage, worker: Supervisor, seconds: float, *, fails: bool = True) -> None:
    """Lets the fault last; the worker is alive, not caught up, and says once a sink what it waits for."""
    before = worker.log().count(SAID)
    failed = errors(worker)
    if fails:
        wait_until(lambda: errors(worker) > failed, "an insert fails", 30)
    time.sleep(seconds)
    assert stage.kafka.behind(), "nothing was waiting"
    assert worker.worker.code is None
    samples = worker.worker.metrics()
    assert samples["pingstream_oldest_unflushed_seconds", ()] > min(seconds, 5) / 2
    if fails:
        said = worker.log().count(SAID) - before
        assert said <= SINKS, f"said {said} times"
        # Pauses grow from 0.2 s to 10: some seven tries in the first 13 s, then one in 10 s.
        tries = errors(worker) - failed
        assert tries <= SINKS * (9 + seconds / 10), f"{tries} tries in {seconds:.0f} s"
        stage.counts["tries"] = stage.counts.get("tries", 0) + int(tries)


@case(minutes=2.5)
def clickhouse_away(stage: Stage) -> None:
    """Nobody listens where ClickHouse was, for a minute."""
    with proxied(stage) as (proxy, worker):
        proxy.away()
        wait_and_see(stage, worker, stage.of(3.0, 60.0, 300.0))
        proxy.back()
        wait_until(lambda: GOES_ON in worker.log(), "it goes on", 30)


@case(minutes=2.0)
def clickhouse_hangs(stage: Stage) -> None:
    """ClickHouse takes requests and answers none, for half a minute."""
    with proxied(stage) as (proxy, worker):
        proxy.hang()
        time.sleep(1.0)  # what was on its way is answered
        wait_and_see(stage, worker, stage.of(4.0, 30.0, 330.0), fails=False)
        proxy.answer()


@case()
def clickhouse_denies_what_it_took(stage: Stage) -> None:
    """ClickHouse carries inserts out and answers 500: they come again, and every row stands once."""
    with proxied(stage) as (proxy, worker):
        proxy.denying = 0.7
        wait_until(lambda: proxy.denied > stage.of(3, 20, 100), "inserts are denied", 240, pause=0.2)
        assert worker.starts == 1
        proxy.denying = 0.0
        stage.counts["denied"] = proxy.denied


@case(minutes=2.0)
def clickhouse_refuses(stage: Stage) -> None:
    """ClickHouse refuses, once for each reason that passes: too many parts (code 252), a user who may only read (164), a table
    without its keeper (242), no memory (241), another password (516). The log says which."""
    refusals = [TOO_MANY_PARTS, READ_ONLY_USER, READ_ONLY_TABLE, MEMORY, WRONG_PASSWORD]
    stage.chance.shuffle(refusals)
    with proxied(stage, seconds=len(refusals) * stage.of(6.0, 14.0, 70.0)) as (proxy, worker):
        for refusal in refusals:
            proxy.refusal = refusal
            wait_and_see(stage, worker, stage.of(1.0, 8.0, 60.0))
            said = [words for words in (refusal.words, refusal.ours) if words and words in worker.log()]
            assert said, f"the log does not say {refusal.words!r}"
            proxy.refusal = None
            again = worker.log().count(GOES_ON)
            wait_until(lambda: worker.log().count(GOES_ON) > again or not stage.kafka.behind(), "it goes on", 60)  # noqa: B023
        stage.counts["refused"] = proxy.refused


@case()
def clickhouse_password_wrong_at_start(stage: Stage) -> None:
    """A worker with a wrong password ends with exit code 2 and a sentence; with the right one all is well."""
    stage.site.send(stage.messages())
    assert stage.dsn is not None
    with Proxy(stage.dsn, stage.chance) as proxy:
        proxy.refusal = WRONG_PASSWORD
        with stage.worker(clickhouse=proxy.dsn.replace("://", "://default:wrong-secret@")) as worker:
            assert worker.wait(60) == 2, worker.log()[-3000:]
            log = worker.log()
            assert "refuses this user name and password" in log and "Traceback" not in log
            assert "wrong-secret" not in log, "the password is in the log"
        proxy.refusal = None
        with stage.supervised(clickhouse=proxy.dsn):
            stage.check()


@case()
def clickhouse_table_dropped(stage: Stage) -> None:
    """A table is gone (code 60) while the worker runs, and comes back."""
    with proxied(stage) as (_, worker):
        others = world(stage.seed + 1)  # what every table gets new rows of, whichever is gone
        stage.chance.shuffle(others)
        tables = stage.chance.sample(["usage_day", "ping", "letter", "billing_account"], stage.of(1, 2, 4))
        for number, table in enumerate(tables):
            with stage.tables() as client:
                client.command(f"RENAME TABLE pingstream.{table} TO pingstream.{table}_gone")
            stage.site.send(others[number :: len(tables)])
            wait_and_see(stage, worker, stage.of(1.0, 6.0, 30.0))
            with stage.tables() as client:
                client.command(f"RENAME TABLE pingstream.{table}_gone TO pingstream.{table}")
            wait_until(lambda: not stage.kafka.behind(), "it goes on", 60, pause=0.5)


@case()
def schema_older_than_the_program(stage: Stage) -> None:
    """The database has the first migrations only: a worker brings it up to date by itself."""
    with stage.tables() as client:
        client.command("DROP DATABASE pingstream")
        client.command("CREATE DATABASE pingstream", use_database=False)
        client.command(
            "CREATE TABLE pingstream.schema_migration (number UInt32, name String, applied_at DateTime('UTC') DEFAULT now()) "
            "ENGINE = ReplacingMergeTree ORDER BY number"
        )
        steps = schema.migrations()
        for step in steps[: stage.chance.randint(1, len(steps) - 1)]:
            for statement in schema.statements(step.sql, "pingstream", False):
                client.command(statement)
            client.command(
                f"INSERT INTO pingstream.schema_migration (number, name) VALUES ({step.number}, '{step.name}')"
            )
    stage.site.send(stage.messages())
    with stage.supervised() as worker:
        wait_until(lambda: "schema brought up to date" in worker.log(), "it is brought up to date", 60)
        stage.check()


@case()
def schema_newer_than_the_program(stage: Stage) -> None:
    """The database has a newer schema: a worker ends with exit code 2, says so, and has written nothing."""
    stage.site.send(stage.messages())
    with stage.tables() as client:
        client.command("INSERT INTO pingstream.schema_migration (number, name) VALUES (9999, 'of_the_future')")
        with stage.worker() as worker:
            assert worker.wait(60) == 2, worker.log()[-3000:]
            assert "has schema 9999, this program knows" in worker.log() and "Traceback" not in worker.log()
        assert client.command("SELECT count() FROM pingstream.ping") == 0
        client.command("ALTER TABLE pingstream.schema_migration DELETE WHERE number = 9999 SETTINGS mutations_sync = 1")
    with stage.supervised():
        stage.check()


@contextmanager
def engine_disk(stage: Stage) -> Iterator[None]:
    """The data folder of the case on a disk of its own."""
    try:
        with small_disk(stage.site.data_dir, 512):
            try:
                yield
            finally:
                stage.close()
    except NoDisk as why:
        raise Skip(str(why)) from None


@case(embedded=True)
def embedded_disk_full(stage: Stage) -> None:
    """The disk under the embedded engine is full for a while."""
    messages = stage.messages()
    half = len(messages) // 2
    with engine_disk(stage), stage.supervised() as worker:
        stage.site.send(messages[:half])
        wait_until(lambda: not stage.kafka.behind(), "the first half is done", 120, pause=0.5)
        filler = fill(stage.site.data_dir)
        stage.site.send(messages[half:])
        wait_until(lambda: SAID in worker.log() or worker.starts > 1, "it notices", 60)
        time.sleep(stage.of(2.0, 15.0, 60.0))
        assert stage.kafka.behind(), "nothing was waiting"
        stage.counts["starts"] = worker.starts
        filler.unlink()
        stage.check()


@case(embedded=True)
def embedded_folder_read_only(stage: Stage) -> None:
    """The embedded engine's folder cannot be written to when a worker starts: it ends and says so, and has read nothing."""
    folder = str(stage.site.data_dir)
    messages = stage.messages()
    half = len(messages) // 2
    with engine_disk(stage):
        with stage.supervised() as worker:
            stage.site.send(messages[:half])
            wait_until(lambda: not stage.kafka.behind(), "the first half is done", 120, pause=0.5)
            worker.end()
        stage.site.send(messages[half:])
        before = stage.kafka.committed()
        done = mount("-o", "remount,ro", folder)
        if done.returncode:
            raise Skip(f"the disk cannot be made read-only: {done.stderr.decode().splitlines()[0]}")
        with stage.worker() as refused:
            stage.counts["code"] = refused.wait(60)
            assert refused.code in (1, 2) and folder in refused.log(), refused.log()[-3000:]
            assert "Traceback" not in refused.log(), refused.log()[-3000:]
        assert stage.kafka.committed() == before
        assert not mount("-o", "remount,rw", folder).returncode
        with stage.supervised():
            wait_until(lambda: not stage.kafka.behind(), "the second half is done", 120, pause=0.5)  # the engine is its
            stage.check()
