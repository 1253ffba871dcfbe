"""Partitions that are far apart in event time."""

from __future__ import annotations

from sinks.topics import SOURCES
from streams.forwarder import partition_of
from tests.faults.case import case
from tests.faults.stage import Stage
from tests.faults.world import LAST_DAY

PARTITIONS = 4
DAYS = 100
HELD_DAYS = 60
DAY_MS = 86_400_000

Raw = tuple[int, bytes | None, bytes | None, int]
"""Partition, key, value, timestamp in ms."""


@case()
def one_partition_held_back_for_60_days(stage: Stage) -> None:
    """One partition of both topics is held back for 60 days of event time while the others run on, then let go."""
    messages = stage.messages(days=DAYS)
    held = stage.chance.randrange(PARTITIONS)
    moment = (LAST_DAY.toordinal() - 719_163 - HELD_DAYS) * DAY_MS
    now: dict[str, list[Raw]] = {topic: [] for topic in SOURCES}
    later: dict[str, list[Raw]] = {topic: [] for topic in SOURCES}
    for number, message in enumerate(messages):
        partition = number % PARTITIONS if message.key is None else partition_of(message.key, PARTITIONS)
        some = later if partition == held and message.timestamp_ms > moment else now
        some[message.topic].append((partition, message.key, message.value, message.timestamp_ms))
    with stage.supervised() as worker:
        for topic in SOURCES:
            stage.site.send_raw(now[topic], topic)
        stage.settle()
        if stage.chance.random() < 0.5:
            worker.kill()
        for topic in SOURCES:
            stage.site.send_raw(later[topic], topic)
        stage.counts["held back"] = sum(map(len, later.values()))
        stage.check()
