"""A start that cannot go on: one sentence with what to change, and nothing left behind."""

from __future__ import annotations

from pathlib import Path

from aiokafka import AIOKafkaProducer

from deploy.kafka.broker import LocalBroker
from schemas.settings import Settings
from sinks.topics import BILLING_EVENTS, USAGE_PINGS, ensure_topics
from tests.running import new_site


def test_topics_that_cannot_be_made_end_the_start_with_what_to_change(tmp_path: Path) -> None:
    with new_site(tmp_path) as site, site.worker(replication="3") as worker:
        assert worker.wait(60) == 2
        *before, last = worker.log().splitlines()
    assert last.startswith("pingstream: the topic usage-pings cannot be made: ")
    assert last.endswith("; set PINGSTREAM_REPLICATION (now 3) to at most the number of brokers")
    assert all("[info" in line for line in before if line), before


async def test_a_producer_is_told_of_all_its_topics_at_once(broker: LocalBroker) -> None:
    """Or it forgets the leaders of those that it knew: what waits for them is refused 40 seconds later."""
    settings = Settings(_env_file=None, kafka=broker.bootstrap)  # type: ignore[call-arg]
    await ensure_topics(settings)
    async with AIOKafkaProducer(bootstrap_servers=broker.bootstrap) as producer:
        cluster = producer.client.cluster
        await producer.client.force_metadata_update()  # as when the coordinator of its id is not there yet
        assert cluster.partitions_for_topic(USAGE_PINGS), "of all topics, while it was told of none"
        await producer.client.add_topic(BILLING_EVENTS)
        assert not cluster.partitions_for_topic(USAGE_PINGS), "mended in aiokafka: set_topics may go"
        await producer.client.set_topics([USAGE_PINGS, BILLING_EVENTS])
        await producer.client.force_metadata_update()
        assert cluster.partitions_for_topic(USAGE_PINGS) and cluster.partitions_for_topic(BILLING_EVENTS)
