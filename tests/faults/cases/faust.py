"""Faust's own faults: records lost around starts, recovery and commits that hang."""

from __future__ import annotations

import time

from sinks.topics import USAGE_PINGS
from tests.faults.case import case
from tests.faults.spoil import spoiled
from tests.faults.stage import Stage
from tests.running import WorkerProcess, wait_until


@case(minutes=4.0)
def starts_under_load(stage: Stage) -> None:
    """A worker starts under load again and again: no record is left out, and what it recovers is what was there before."""
    starts = stage.of(3, 30, 300)
    messages = stage.messages(size=stage.of(2, 6, 40))
    seeks = holes = 0
    with stage.load(messages, seconds=starts * 4.5) as load:
        for _ in range(starts):
            with stage.supervised() as worker:
                worker.wait_ready()
                time.sleep(stage.chance.uniform(0.0, 1.5))
                if stage.chance.random() < 0.5:
                    worker.end()
                else:
                    worker.abandon()
                seeks += worker.log().count("seeking back")
                holes += worker.log().count("are not in the log any more")
        load.join()
    stage.counts |= {"closed by seeking": seeks, "holes": holes}
    assert not holes
    with stage.supervised():
        stage.check()


@case()
def not_ready_in_time(stage: Stage) -> None:
    """Recovery does not end: the worker ends with exit code 1 and says why; the next one works."""
    stage.site.send(stage.messages())
    with stage.worker(program=spoiled("never_recovered", "ready_seconds=6")) as stuck:
        wait_until(lambda: stuck.metrics()["pingstream_recovery_seconds", ()] > 1, "its metrics tell that it recovers")
        assert stuck.wait(60) == 1, stuck.log()[-3000:]
        assert "not ready for 6 s" in stuck.log() and "Traceback" not in stuck.log(), stuck.log()[-3000:]
    with stage.supervised():
        stage.check()


def stands_still(worker: WorkerProcess) -> bool:
    """Whether a worker tells of messages that are read, written, and not committed for seconds."""
    found = worker.metrics()
    waiting, still = (
        found.get((f"pingstream_uncommitted_{unit}", (USAGE_PINGS,)), 0) for unit in ("records", "seconds")
    )
    return waiting > 0 and 2 < still > found["pingstream_oldest_unflushed_seconds", ()]


@case()
def hung_commit(stage: Stage) -> None:
    """A commit hangs: the worker ends with exit code 1 and says why, and its supervisor's next one goes on where it was."""
    messages = stage.messages()
    stuck = stage.worker(program=spoiled("commit_hangs=3", "commit_seconds=4"))
    with stage.load(messages, seconds=15) as load:
        wait_until(lambda: stands_still(stuck), "its metrics tell that commits stand still")
        wait_until(lambda: stuck.code is not None, "it ends", 60)
        assert stuck.code == 1 and "a commit hangs" in stuck.log(), stuck.log()[-3000:]
        load.join()
    assert stage.kafka.behind()
    with stage.supervised():
        stage.check()
