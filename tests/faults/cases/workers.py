"""Workers that are killed, stopped, and ended."""

from __future__ import annotations

import time

from tests.faults.case import case
from tests.faults.stage import Stage


@case()
def sigkill_at_random_moments(stage: Stage) -> None:
    """SIGKILL of the worker at random moments under load, again and again, in mid-recovery too."""
    kills = stage.of(4, 30, 300)
    messages = stage.messages(size=stage.of(1, 3, 20))
    ready = early = 0
    with stage.supervised() as worker, stage.load(messages, seconds=kills * 3.0) as load:
        for _ in range(kills):
            starts = worker.starts
            if stage.chance.random() < 0.4:
                time.sleep(stage.chance.uniform(0.2, 3.5))
            else:
                worker.worker.wait_ready()
                time.sleep(stage.chance.uniform(0.0, 2.0))
            ready += "partitions taken over" in worker.worker.log()
            early += "partitions taken over" not in worker.worker.log()
            worker.kill()
            while worker.starts == starts:
                time.sleep(0.02)
        load.join()
    stage.counts |= {"kills": kills, "after taking over": ready, "before": early}
    assert ready, "no kill came in mid-stream"
    with stage.supervised():
        stage.check()
