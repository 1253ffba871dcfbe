"""Workers that are killed, stopped, and ended."""

from __future__ import annotations

import signal
import time

import psutil

from tests.faults.case import case
from tests.faults.checks import progress
from tests.faults.kafka import USAGE_CHANGELOG
from tests.faults.spoil import spoiled
from tests.faults.stage import Stage
from tests.running import wait_until

SESSION_SECONDS = 10.0
FLUSH_MESSAGES = 8_000
"""As many go into a flush at most."""

TAKEN_OVER = "partitions taken over"


@case(minutes=3.0)
def sigkill_at_random_moments(stage: Stage) -> None:
    """SIGKILL of the worker at random moments under load, again and again, in mid-recovery too."""
    kills = stage.of(4, 30, 300)
    messages = stage.messages(size=stage.of(1, 3, 20))
    after = 0
    with stage.supervised() as worker, stage.load(messages, seconds=kills * 3.0) as load:
        for _ in range(kills):
            starts = worker.starts
            if stage.chance.random() < 0.4:
                time.sleep(stage.chance.uniform(0.2, 3.5))
            else:
                worker.wait_ready()
                time.sleep(stage.chance.uniform(0.0, 2.0))
            after += TAKEN_OVER in worker.worker.log()
            worker.kill()
            wait_until(lambda: worker.starts > starts, "it is started again")  # noqa: B023
        load.join()
        stage.counts |= {"kills": kills, "before taking over": kills - after}
        assert after, "no kill came in mid-stream"
        stage.check()


@case(minutes=2.0)
def sigterm_under_load(stage: Stage) -> None:
    """SIGTERM under load, with a full topic and with one that fills: it ends within 5 s, and at most one batch comes again."""
    messages = stage.messages(size=stage.of(2, 10, 40))
    half = len(messages) // 2
    rounds = stage.of(2, 8, 50)
    seconds: list[float] = []
    again: list[int] = []
    stage.site.send(messages[:half])
    with stage.load(messages[half:], seconds=rounds * 5.0) as load:
        for _ in range(rounds):
            with stage.supervised() as worker:
                worker.wait_ready()
                time.sleep(stage.chance.uniform(0.0, 2.0))
                seconds.append(worker.end())
            committed = stage.kafka.committed()
            with stage.tables() as client:
                applied = {tp: place for tp, (place, _) in progress(client).items()}
            again.append(sum(max(0, place - committed.get(tp, 0)) for tp, place in applied.items()))
        stage.counts |= {"ends": rounds, "slowest_end_s": round(max(seconds), 1), "again": max(again)}
        assert max(again) <= FLUSH_MESSAGES
        load.join()
    with stage.supervised():
        stage.check()


@case(minutes=1.0)
def sigterm_while_it_starts(stage: Stage) -> None:
    """SIGTERM while Faust starts, and at random moments after the start is said: it ends within 5 s, in order."""
    rounds = stage.of(2, 30, 300)
    messages = stage.messages()
    stage.site.send(messages)
    for number in range(rounds):
        program = spoiled("term_in_start") if number == 0 else spoiled()
        with stage.supervised(program=program) as starting:
            worker = starting.worker
            wait_until(lambda: "worker started" in worker.log(), "it says that it starts", 60)  # noqa: B023
            if number:
                time.sleep(stage.chance.uniform(0.0, 1.0))
            else:
                wait_until(lambda: "asked to stop" in worker.log(), "its signal has come", 60)  # noqa: B023
            starting.end()
            assert worker.code == 0 and "[warning" not in worker.log(), worker.log()[-3000:]
    stage.counts |= {"ends": rounds}
    with stage.supervised():
        stage.check()


@case(minutes=2.5)
def sigstop_longer_than_the_session(stage: Stage) -> None:
    """SIGSTOP for longer than the session, another worker takes over, SIGCONT: the woken one overwrites nothing and ends or
    rejoins."""
    rounds = stage.of(1, 3, 20)
    messages = stage.messages(size=2)
    with (
        stage.supervised() as first,
        stage.supervised() as second,
        stage.load(messages, seconds=rounds * 25.0) as load,
    ):
        for number in range(rounds):
            paused, other = (first, second) if number % 2 else (second, first)
            paused.wait_ready()
            other.wait_ready()
            time.sleep(stage.chance.uniform(0.5, 3.0))
            process, before = paused.worker, other.worker.log().count(TAKEN_OVER)
            process.signal(signal.SIGSTOP)
            wait_until(lambda: other.worker.log().count(TAKEN_OVER) >= before + 2, "another takes over", 60)  # noqa: B023
            time.sleep(stage.chance.uniform(0.0, 3.0))
            process.signal(signal.SIGCONT)
        load.join()
        stage.counts |= {"pauses": rounds, "restarts": first.starts + second.starts - 2}
        stage.check()


@case()
def sigstop_between_recovery_and_claim(stage: Stage) -> None:
    """SIGSTOP between recovery and the claim of an epoch; another worker claims and works; SIGCONT: no epoch has two owners."""
    _stopped_and_overtaken(stage, "stop_before_claim")


@case()
def sigstop_between_state_and_rows(stage: Stage) -> None:
    """SIGSTOP between a flush's state and its rows; another worker takes over and goes on; SIGCONT: the old rows overwrite
    nothing."""
    _stopped_and_overtaken(stage, "stop_before_rows")


def _stopped_and_overtaken(stage: Stage, spoiler: str) -> None:
    messages = stage.messages()
    third = len(messages) // 3
    stage.site.send(messages[:third])
    with stage.supervised() as before:
        stage.settle()
        before.end()
    stage.site.send(messages[third : 2 * third])
    late = stage.worker(program=spoiled(spoiler), data_dir=str(stage.folder / "late"))
    wait_until(lambda: psutil.Process(late.pid).status() == psutil.STATUS_STOPPED, "it has stopped itself", 60)
    with stage.supervised() as other:
        wait_until(lambda: other.worker.log().count(TAKEN_OVER) >= 2, "another takes over", 60)
        other.worker.wait_caught_up()
        late.signal(signal.SIGCONT)
        stage.site.send(messages[2 * third :])
        wait_until(lambda: late.code is not None or late.get("/readyz")[0] == 200, "it ends or rejoins", 60)
        stage.counts["it"] = "rejoined" if late.code is None else f"ended with {late.code}"
        assert late.code in (None, 1), late.log()[-3000:]
        stage.settle()
        assert_one_owner_an_epoch(stage)
        if late.code is None:
            late.signal(signal.SIGTERM)
            assert late.wait(10) == 0, late.log()[-3000:]
        stage.check()


def assert_one_owner_an_epoch(stage: Stage) -> None:
    """Revisions of a partition's own record rise within an epoch: two owners of one would both count from the first."""
    newest: dict[tuple[int, int], tuple[int, bytes]] = {}
    for record in stage.site.read(USAGE_CHANGELOG):
        if record.key[:1] == b"p":
            epoch, revision = int.from_bytes(record.value[2:6], "big"), int.from_bytes(record.value[6:14], "big")
            before = newest.get((record.partition, epoch), (0, b""))
            if revision <= before[0] and (revision == 1 or record.value == before[1]):
                continue  # a claim that came too late; or what an older owner wrote over, written again as it was
            assert revision > before[0], f"epoch {epoch} of partition {record.partition} has two owners"
            newest[record.partition, epoch] = revision, record.value
