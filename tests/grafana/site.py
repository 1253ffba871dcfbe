"""A fleet that has been sent, read and written by a real worker, with a real Prometheus watching: what dashboards show."""

from __future__ import annotations

import asyncio
import datetime as dt
import re
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.structs import TopicPartition

from deploy.fleet import Fleet, FleetSpec
from sinks.topics import USAGE_PINGS
from tests.grafana.prometheus import INSTALLED, free_port, prometheus
from tests.grafana.reading import Sources
from tests.running import Site, WorkerProcess, new_site, wait_until

LOST = 5
"""Messages in partition 0 that Kafka deletes before anybody reads them: a gap."""

FETCH_SECONDS = 2.5
"""Kafka has answered every request of a frozen consumer by then: Faust's wait for 1.5 s at most."""

TO_THE_END = -1
"""Kafka's word for all records that there are."""

UNFINISHED = "SELECT uniqExact(topic) < 2 OR min(as_of) < '{day}' FROM progress FINAL"


@dataclass
class Shown:
    """What dashboards can be asked about.

    Attributes:
        sources: both data sources; Prometheus only where it is installed.
        last_day: the newest day that figures should be looked at, the one before the as-of clock.
        begun: when the worker was started, in seconds since 1970.
    """

    sources: Sources
    last_day: dt.date
    begun: int

    @property
    def end(self) -> int:
        """The end of the last day, as Grafana's `now-1d/d`."""
        return int(dt.datetime.combine(self.last_day, dt.time(23, 59, 59), dt.UTC).timestamp())


@contextmanager
def shown(
    folder: Path, spec: FleetSpec, part: float = 0.5, rate: float = 0.0, patience: float = 60.0
) -> Iterator[Shown]:
    """A site whose worker has read the whole fleet, and runs on.

    Args:
        part: the share of messages that is there before the worker starts; the rest comes while it runs.
        rate: messages a second while it runs, 0 for as many as possible.
        patience: seconds that the worker may take for a part.
    """
    messages = list(Fleet(spec).messages())
    first = int(part * len(messages))
    as_of = spec.last_day + dt.timedelta(days=1)
    with new_site(folder, as_of=as_of.isoformat()) as site, ExitStack() as running:
        site.send(messages[:first])
        port = free_port()
        address = running.enter_context(prometheus(folder / "prometheus", [f"127.0.0.1:{port}"])) if INSTALLED else ""
        begun = int(time.time())
        worker = running.enter_context(site.worker(web_port=str(port)))
        worker.wait_ready(patience)
        wait_until(lambda: _has_read_all(worker), "the worker has caught up", patience, pause=0.5)
        _lose(site, worker)
        site.send(messages[first:], rate=rate)
        wait_until(lambda: _has_read_all(worker), "the worker has caught up", patience, pause=0.5)
        client = running.enter_context(site.tables())
        wait_until(
            lambda: not client.query(UNFINISHED.format(day=as_of)).result_rows[0][0],
            "the clock has written every day",
            patience,
        )
        yield Shown(Sources(client, address), spec.last_day, begun)


def _has_read_all(worker: WorkerProcess) -> bool:
    """Whether everything is applied; a worker that has too much to do for an answer has not."""
    assert worker.code is None, worker.log()[-4000:]
    _, text = worker.get("/metrics")
    lags = re.findall(r"^pingstream_consumer_lag_records\{.+\} (\S+)$", text, re.MULTILINE)
    return bool(lags) and not any(map(float, lags))


def _lose(site: Site, worker: WorkerProcess) -> None:
    """Kafka deletes messages that the worker, which is frozen meanwhile, has not read."""
    worker.signal(signal.SIGSTOP)
    time.sleep(FETCH_SECONDS)
    site.send_raw([(0, None, b"nobody reads this", int(time.time() * 1000))] * LOST)
    asyncio.run(_delete(site))
    worker.signal(signal.SIGCONT)


async def _delete(site: Site) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=site.broker.bootstrap)
    await admin.start()
    try:
        await admin.delete_records({TopicPartition(USAGE_PINGS, 0): RecordsToDelete(TO_THE_END)})
    finally:
        await admin.close()
