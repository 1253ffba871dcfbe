"""Brokers that die, and one whose disk is full."""

from __future__ import annotations

import resource
import time

import psutil
from aiokafka.structs import TopicPartition

from deploy.kafka.broker import LocalBroker
from sinks.topics import USAGE_PINGS
from tests.faults.case import case
from tests.faults.cluster import Cluster
from tests.faults.disk import fill
from tests.faults.stage import Stage
from tests.running import wait_until


@case(minutes=3.0)
def only_broker_killed(stage: Stage) -> None:
    """The only broker is killed under load and started again after 5 s, and after 60 s; a supervisor restarts the worker."""
    messages = stage.messages(size=stage.of(1, 2, 10))
    away = stage.of([5.0], [5.0, 60.0], [5.0, 60.0, 1.0, 20.0, 120.0])
    broker = stage.site.broker
    with stage.supervised() as worker, stage.load(messages, seconds=sum(away) + 12.0 * len(away)) as load:
        for seconds in away:
            worker.wait_ready(90)
            time.sleep(stage.chance.uniform(1.0, 4.0))
            assert load.running, "the broker was to be killed under load"
            broker.kill()
            time.sleep(seconds)
            broker.start()
        load.join(180)
        stage.counts |= {"away_s": "+".join(f"{s:.0f}" for s in away), "restarts": worker.starts - 1}
        stage.check(seconds=180)


@case(minutes=1.5, disk_mb=300)
def broker_disk_full(stage: Stage) -> None:
    """The broker's disk is full under load: it dies, gets room, starts again. Where no disk can be mounted, a limit on the size
    of its files stands for a full one."""
    messages = stage.messages(size=stage.of(1, 2, 10))
    broker = stage.site.broker
    with stage.supervised() as worker, stage.load(messages, seconds=stage.of(20.0, 40.0, 300.0)) as load:
        worker.wait_ready()
        time.sleep(stage.chance.uniform(1.0, 4.0))
        filler = None
        if stage.kafka_disk is not None:
            filler = fill(stage.kafka_disk)
        else:
            limit_files(broker, 4_096)
        wait_until(lambda: not broker.alive, "a broker that cannot write ends", 90)
        assert load.running, "the disk was to be full under load"
        taken = load.acknowledged
        time.sleep(stage.chance.uniform(5.0, 10.0))
        assert load.acknowledged == taken, "somebody took messages"
        if filler is not None:
            filler.unlink()
        broker.start()
        load.join(180)
        stage.counts |= {
            "full": "a disk" if filler is not None else "a limit", "taken before": taken, "of": len(messages),
            "restarts": worker.starts - 1,
        }  # fmt: skip
        stage.check(seconds=180)


@case(minutes=3.0, cluster=True)
def leader_and_coordinator_killed(stage: Stage) -> None:
    """Of three brokers the leader of a partition is killed under load, and after its return the group's coordinator."""
    messages = stage.messages(size=2)
    cluster = stage.site.broker
    assert isinstance(cluster, Cluster)
    with stage.supervised() as worker, stage.load(messages, seconds=stage.of(30.0, 60.0, 120.0)) as load:
        for role in ("leader", "coordinator"):
            worker.wait_ready()
            time.sleep(stage.chance.uniform(1.0, 4.0))
            before = sum(stage.kafka.committed().values())
            first = TopicPartition(USAGE_PINGS, 0)
            node = cluster.nodes[stage.kafka.leader(first) if role == "leader" else stage.kafka.coordinator()]
            node.kill()
            begun = time.monotonic()
            wait_until(lambda: sum(stage.kafka.committed().values()) > before, "the group works on", 90, pause=0.5)  # noqa: B023
            stage.counts[f"after the {role}'s end_s"] = round(time.monotonic() - begun, 1)
            node.start()
        load.join(180)
        stage.counts |= {"interruptions": load.interruptions, "restarts": worker.starts - 1}
        stage.check(seconds=180)


def limit_files(broker: LocalBroker, size: int) -> None:
    """From now on no file that the broker writes grows beyond so many bytes."""
    for process in psutil.process_iter(["pid", "cwd", "name"]):
        if process.info["name"] == "java" and process.info["cwd"] == str(broker.data_dir):
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (size, size))
            return
    raise AssertionError("the broker's Java was not found")
