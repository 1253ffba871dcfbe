"""Workers that join and leave, and partitions that move while they are busy."""

from __future__ import annotations

import signal
import time

from tests.faults.case import case
from tests.faults.kafka import USAGE_CHANGELOG
from tests.faults.stage import Stage
from tests.faults.supervisor import Supervisor
from tests.running import wait_until

MOST_WORKERS = 4


@case(minutes=3.5)
def workers_join_and_leave(stage: Stage) -> None:
    """1 to 4 workers join and leave every few seconds under load; some leave in order, some by SIGKILL."""
    seconds = stage.of(20, 120, 3_600)
    messages = stage.messages(size=stage.of(1, 3, 20))
    there: list[Supervisor] = []
    joined = left = killed = 0
    with stage.load(messages, seconds=seconds * 0.9) as load:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if len(there) < 1 or (len(there) < MOST_WORKERS and stage.chance.random() < 0.55):
                there.append(stage.supervised().__enter__())
                joined += 1
            else:
                one = there.pop(stage.chance.randrange(len(there)))
                if stage.chance.random() < 0.3:
                    one.abandon()
                    killed += 1
                else:
                    one.end()
                    left += 1
            time.sleep(stage.chance.uniform(1.0, 6.0))
        load.join()
        stage.counts |= {"joined": joined, "left": left, "killed": killed}
        if not there:
            stage.supervised().__enter__()
        stage.check()


@case(minutes=2.0)
def partition_moves_while_its_batch_waits(stage: Stage) -> None:
    """ClickHouse hangs, a batch waits for it, and another worker joins: once the first lives on, once it is killed."""
    messages = stage.messages()
    third = len(messages) // 3
    assert stage.clickhouse is not None
    with stage.supervised() as first, stage.supervised() as second:
        for number, worker in enumerate((first, second)):
            worker.wait_ready()
            wait_until(lambda: not stage.kafka.behind(), "all is committed", 60, pause=0.5)
            before = sum(stage.kafka.ends(USAGE_CHANGELOG).values())
            stage.clickhouse.signal(signal.SIGSTOP)
            stage.site.send(messages[number * third : (number + 1) * third])
            wait_until(lambda: sum(stage.kafka.ends(USAGE_CHANGELOG).values()) > before, "a state waits for its rows")  # noqa: B023
            with stage.supervised() as third_worker:
                time.sleep(stage.chance.uniform(4.0, 8.0))
                assert stage.kafka.behind(), "nothing may be committed before its rows are accepted"
                if number:
                    worker.kill()
                    time.sleep(12.0)  # longer than its session
                stage.clickhouse.signal(signal.SIGCONT)
                wait_until(lambda: not stage.kafka.behind(), "all is committed", 90, pause=0.5)
                third_worker.end()
        stage.site.send(messages[2 * third :])
        stage.check()
