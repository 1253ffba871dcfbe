"""Java's start-up archive for Kafka: classes already loaded and linked, kept beside the jars.

Java makes it of itself from one recorded run (an "AOT cache"). With it, a broker answers after about a third of the time.
Without it, or when Java finds that it doesn't fit, everything works all the same.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import time
from pathlib import Path

import click
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError

from deploy.kafka import distribution
from deploy.kafka.broker import BrokerError, LocalBroker, java_flags

# Java writes the archive when the recorded run ends, with a second Java. Measured: 9 s on two shared cores.
_WRITE_SECONDS = 180.0


class _RecordedBroker(LocalBroker):
    """A broker whose run Java records into `archive`."""

    def __init__(self, data_dir: Path, archive: Path) -> None:
        super().__init__(data_dir, port=0)
        self._archive = archive

    def _flags(self) -> list[str]:
        return [*java_flags(self._heap_mb), f"-XX:AOTCacheOutput={self._archive}"]


def ensure() -> None:
    """Makes the archive if it isn't there: some 20 s, once. A failure is said and costs nothing but the speed."""
    archive = distribution.startup_archive()
    if archive.is_file():
        return
    with distribution.alone(archive.with_name(".recording.lock")):
        if not archive.is_file():  # another process may have made it while this one waited
            _record(archive)


def _record(archive: Path) -> None:
    click.echo("Kafka: recording a start, for faster ones (once)", err=True)
    started = time.monotonic()
    # Beside the archive, to be moved into place in one step; of a process that was killed, if it exists: we are alone.
    folder = archive.with_name(".recording")
    shutil.rmtree(folder, ignore_errors=True)
    recorded = folder / archive.name
    broker = _RecordedBroker(folder / "data", recorded)
    try:
        try:
            broker.start()
            asyncio.run(_exercise(broker.bootstrap))
        finally:
            broker.stop(grace=_WRITE_SECONDS)
        if not recorded.is_file():
            raise BrokerError(f"Java wrote no archive:\n{broker.log_end()}")
        recorded.replace(archive)
    except (BrokerError, KafkaError) as exc:
        click.echo(f"Kafka: no recording, starts stay slower: {exc}", err=True)
    else:
        click.echo(f"Kafka: recorded after {time.monotonic() - started:.0f} s", err=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def _exercise(bootstrap: str) -> None:
    """What every user of a broker does first, so that it is in the recording: a topic, records, a group that reads."""
    # A new node's first group finds no coordinator for a moment; aiokafka asks again, and logs an error each time.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    await admin.create_topics([NewTopic("recording", num_partitions=1, replication_factor=1)])
    await admin.close()
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all") as producer:
        for _ in range(100):
            await producer.send_and_wait("recording", b"value", key=b"key")
    async with AIOKafkaConsumer(
        "recording", bootstrap_servers=bootstrap, group_id="recording", auto_offset_reset="earliest"
    ) as consumer:
        await consumer.getone()
        await consumer.commit()
