"""The product as processes beside a test: workers, what they say, what they wrote, and the comparison with the oracle."""

from __future__ import annotations

import asyncio
import datetime as dt
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import psutil
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.structs import ConsumerRecord, TopicPartition
from clickhouse_connect.driver.client import Client
from prometheus_client.parser import text_string_to_metric_families

from deploy.kafka.broker import LocalBroker
from deploy.message import Message
from deploy.producing import produce
from schemas.dead_letters import HEADER_ATTEMPT
from schemas.settings import PREFIX, Settings
from sinks.clickhouse.connection import connect
from sinks.topics import USAGE_PINGS
from tests.oracle.billing import BillingExpected, expect
from tests.oracle.usage import Record, Rules

ROOT = Path(__file__).parents[1]
CHANGELOG = "pingstream-usage-changelog"
KEY = "a key that only tests have"

ADDRESS = r"metrics[\"']?[=:] ?[\"']?(http://[^/\s]+)/metrics"
START_SECONDS = 60.0
DRAIN_SECONDS = 90.0

KEYS: Mapping[str, tuple[str, ...]] = {
    "usage_kpi": ("as_of", "population", "scope_id", "basis", "level", "stage", "feature"),
    "usage_ping": ("uuid", "hostname", "namespace_id", "recorded_at"),
    "users_by": ("as_of", "population", "scope_id", "dimension", "value"),
    "dead_letter": ("topic", "partition", "offset"),
    "kpi_mau": ("as_of", "population", "basis"),
    "kpi_smau": ("as_of", "population", "basis", "stage"),
    "kpi_smau_factor": ("as_of", "population", "basis"),
    "kpi_feature_mau": ("as_of", "population", "basis", "stage", "feature"),
    "kpi_feature_mau_factor": ("as_of", "population", "basis", "stage"),
    "kpi_stage_adoption": ("as_of", "population", "basis", "more_than"),
    "kpi_sessions": ("as_of", "population", "stage", "feature"),
    "kpi_usage_pings": ("as_of", "population"),
    "kpi_versions": ("as_of", "population", "version", "edition"),
    "kpi_user_count": ("as_of", "population", "plan"),
    "kpi_users_by": ("as_of", "population", "dimension", "value"),
    "kpi_account_usage": ("as_of", "account_id"),
    "kpi_freshness": ("population",),
    "account_kpi": ("as_of", "account_id", "subscription_id"),
    "seat_movement": ("account_id", "event_id"),
    "addon_purchase": ("account_id", "event_id"),
    "self_service_action": ("account_id", "motion", "event_id"),
    "kpi_seats": ("as_of", "dimension", "value"),
    "kpi_seats_added": ("as_of", "dimension", "value"),
    "kpi_seats_by_stage": ("as_of", "deployment", "stage", "basis"),
    "kpi_seat_utilization": ("as_of", "account_id", "subscription_id"),
    "kpi_net_retention": ("as_of", "level"),
    "kpi_tier_movement": ("as_of", "segment", "plan_from", "plan_to"),
    "kpi_mrr": ("as_of", "dimension", "value"),
    "kpi_mrr_movement": ("as_of", "segment", "kind"),
    "kpi_addons": ("as_of", "addon", "channel"),
    "kpi_self_service": ("as_of", "account_id"),
    "kpi_self_service_total": ("as_of",),
}
"""The tables and views that are compared, by their keys (contract, section 3)."""

Row = dict[str, Any]


def wait_until(happened: Callable[[], bool], what: str, seconds: float = 30.0, pause: float = 0.05) -> None:
    """Returns once `happened` says so; fails the test with `what` when it does not in time."""
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        time.sleep(pause)


def environment() -> dict[str, str]:
    """This process's environment without Pingstream's settings, and the project on Python's path."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    return clean | {"PYTHONPATH": str(ROOT)}


class Process:
    """A `pingstream` command that runs, its standard error in a file.

    Ended with SIGKILL when the `with` block is left and it still runs.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        folder: Path,
        log: Path,
        program: Sequence[str] = ("-m", "deploy.cli.main"),
        *,
        command: Sequence[str] = (sys.executable,),
        variables: Mapping[str, str] | None = None,
    ) -> None:
        self.log_file = log
        with log.open("wb") as err:
            self._process = subprocess.Popen(
                [*command, *program, *arguments], cwd=folder, env=environment() | dict(variables or {}),
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=err,
            )  # fmt: skip

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def code(self) -> int | None:
        """The exit code, None while it runs."""
        return self._process.poll()

    def ports(self) -> set[int]:
        """Ports on which it listens."""
        found = psutil.Process(self.pid).net_connections("tcp")
        return {connection.laddr.port for connection in found if connection.status == psutil.CONN_LISTEN}

    def log(self) -> str:
        """Everything it has said so far."""
        return self.log_file.read_text(errors="replace")

    def found(self, pattern: str, seconds: float = START_SECONDS) -> str:
        """Waits for a line of its log that matches and gives the first group."""
        deadline = time.monotonic() + seconds
        while True:
            ended = self.code is not None
            if match := re.search(pattern, self.log()):
                return match.group(1)
            assert not ended, f"it ended with {self.code}:\n{self.log()[-4000:]}"
            assert time.monotonic() < deadline, f"no {pattern!r} within {seconds:.0f} s:\n{self.log()[-4000:]}"
            time.sleep(0.02)

    def wait(self, seconds: float) -> int:
        """Waits for its end and gives the exit code."""
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"it did not end within {seconds:.0f} s:\n{self.log()[-4000:]}") from None

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def kill(self) -> None:
        """Ends it as a crash would, and waits for that."""
        self._process.kill()
        self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


class WorkerProcess(Process):
    """A worker with a web end on a port of its own.

    Attributes:
        token: what its metrics ask for, '' for nothing.
    """

    token = ""
    _address = ""

    @property
    def has_address(self) -> bool:
        """Whether it has said where its web end is."""
        return bool(self._address or re.search(ADDRESS, self.log()))

    @property
    def address(self) -> str:
        """Where its web end is, `http://host:port`; waits until the worker has said so."""
        if not self._address:
            self._address = self.found(ADDRESS)
        return self._address

    def get(self, path: str) -> tuple[int, str]:
        """(status, text) of a page; status 0 when nobody answers."""
        try:
            headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
            request = urllib.request.Request(f"{self.address}{path}", headers=headers)
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as refused:
            return refused.code, refused.read().decode()
        except OSError:
            return 0, ""

    def metrics(self) -> dict[tuple[str, tuple[str, ...]], float]:
        """Every sample by its name and the values of its labels in the order of their names."""
        status, text = self.get("/metrics")
        assert status == 200
        return {
            (sample.name, tuple(value for _, value in sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def outcomes(self) -> Counter[tuple[str, str]]:
        """How many messages had which outcome, by (topic, outcome), since this worker's start."""
        found: Counter[tuple[str, str]] = Counter()
        for (name, labels), value in self.metrics().items():
            if name == "pingstream_events_total":
                outcome, topic = labels
                found[topic, outcome] += int(value)
        return found

    def wait_ready(self, seconds: float = START_SECONDS) -> None:
        """Returns when state is recovered and partitions are assigned."""

        def ready() -> bool:
            assert self.code is None, f"it ended with {self.code}:\n{self.log()[-4000:]}"
            return self.get("/readyz")[0] == 200

        wait_until(ready, f"the worker is ready\n{self.log()[-2000:]}", seconds)

    def wait_read(self, messages: int, seconds: float = 60.0) -> None:
        """Returns when it has judged this many messages since its start, and their rows are accepted."""

        def done() -> bool:
            assert self.code is None, f"it ended with {self.code}:\n{self.log()[-4000:]}"
            return sum(self.outcomes().values()) >= messages

        wait_until(done, f"{messages} messages are read", seconds, pause=0.2)

    def wait_caught_up(self, seconds: float = 60.0) -> None:
        """Returns when everything in the topic is applied."""

        def done() -> bool:
            assert self.code is None, f"it ended with {self.code}:\n{self.log()[-4000:]}"
            lags = [value for (name, _), value in self.metrics().items() if name == "pingstream_consumer_lag_records"]
            return bool(lags) and not any(lags)

        wait_until(done, "the worker has caught up", seconds, pause=0.2)


@dataclass
class Site:
    """A broker, a data folder, and the commands that run there.

    Attributes:
        folder: where commands run and keep their data.
        broker: a Kafka that nobody else uses: names of topics and of the group are fixed.
        settings: flags of every command here, as `partitions="4"`.
    """

    folder: Path
    broker: LocalBroker
    settings: dict[str, str] = field(default_factory=dict)
    _commands: int = 0

    @property
    def data_dir(self) -> Path:
        return self.folder / "data"

    def _flags(self, more: dict[str, str]) -> list[str]:
        base = {"kafka": self.broker.bootstrap, "data_dir": str(self.data_dir), "pseudonym_key": KEY}
        every = base | self.settings | more
        return [f"--{name.replace('_', '-')}={value}" for name, value in every.items()]

    def _log(self, name: str) -> Path:
        self._commands += 1
        return self.folder / f"{self._commands:02d}-{name}.log"

    def worker(self, *flags: str, **settings: str) -> WorkerProcess:
        """Starts a worker and does not wait."""
        return WorkerProcess(self.worker_arguments(*flags, **settings), self.folder, self._log("worker"))

    def worker_arguments(self, *flags: str, **settings: str) -> list[str]:
        """The arguments of a worker here, its name first."""
        return ["worker", *flags, *self._flags({"web_port": "0", "flush_seconds": "0.05"} | settings)]

    def drain(self, **settings: str) -> str:
        """Runs `worker --drain` to its end, which must be a good one; gives its log."""
        with self.worker("--drain", **settings) as worker:
            assert worker.wait(DRAIN_SECONDS) == 0, worker.log()[-4000:]
            return worker.log()

    def clickhouse(self, port: int = 0) -> Process:
        """Starts `pingstream clickhouse` in this folder and does not wait."""
        arguments = ["clickhouse", f"--port={port}", f"--data-dir={self.data_dir}"]
        return Process(arguments, self.folder, self._log("clickhouse"))

    def run(self, *arguments: str, **settings: str) -> str:
        """Runs any other command to its end; gives its standard output."""
        done = subprocess.run(
            [sys.executable, "-m", "deploy.cli.main", *arguments, *self._flags(settings)],
            cwd=self.folder, env=environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    def send(self, messages: Iterable[Message], rate: float = 0.0) -> int:
        """Sends messages and returns once they are acknowledged; gives their number. Makes missing topics."""
        settings = Settings(_env_file=None, kafka=self.broker.bootstrap, **self.settings)  # type: ignore[arg-type]
        return sum(asyncio.run(produce(settings, messages, rate=rate)).values())

    def send_raw(
        self, records: Iterable[tuple[int, bytes | None, bytes | None, int]], topic: str = USAGE_PINGS
    ) -> None:
        """Sends (partition, key, value, timestamp in ms) to a topic as they are, also what `send` never would."""
        asyncio.run(_send_raw(self.broker.bootstrap, list(records), topic))

    def read(self, topic: str = USAGE_PINGS) -> list[ConsumerRecord]:
        """Every record of a topic, by partition and offset; none when there is no such topic."""
        return asyncio.run(_read(self.broker.bootstrap, topic))

    @contextmanager
    def tables(self, dsn: str | None = None) -> Iterator[Client]:
        """A client of the ClickHouse here (or at `dsn`), while a worker runs and when none does."""
        client = connect(dsn or f"chdb://{self.data_dir / 'clickhouse'}", "pingstream", wait=20)
        try:
            yield client
        finally:
            client.close()


@contextmanager
def new_site(folder: Path, **settings: str) -> Iterator[Site]:
    """A site with a broker of its own."""
    with LocalBroker(folder / "kafka", port=0) as broker:
        yield Site(folder, broker, settings)


async def _send_raw(bootstrap: str, records: list[tuple[int, bytes | None, bytes | None, int]], topic: str) -> None:
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", max_request_size=64 * 1024 * 1024) as producer:
        for partition, key, value, timestamp in records:
            batch = producer.create_batch()
            assert batch.append(key=key, value=value, timestamp=timestamp) is not None
            batch.close()
            await (await producer.send_batch(batch, topic, partition=partition))


async def _read(bootstrap: str, topic: str) -> list[ConsumerRecord]:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        counts = {found["topic"]: len(found["partitions"]) for found in await admin.describe_topics()}
    finally:
        await admin.close()
    partitions = [TopicPartition(topic, number) for number in range(counts.get(topic, 0))]
    if not partitions:
        return []
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=32 * 1024 * 1024,
    )
    await consumer.start()
    try:
        consumer.assign(partitions)
        ends = await consumer.end_offsets(partitions)
        found: list[ConsumerRecord] = []
        deadline = asyncio.get_running_loop().time() + 60
        while any([await consumer.position(tp) < end for tp, end in ends.items()]):
            assert asyncio.get_running_loop().time() < deadline, f"{topic} cannot be read to its end"
            for records in (await consumer.getmany(timeout_ms=500)).values():
                found += records
    finally:
        await consumer.stop()
    return sorted(found, key=lambda record: (record.partition, record.offset))


# ---- comparing -----------------------------------------------------------------------------------------------------------


def expected(records: Iterable[ConsumerRecord], as_of: dt.date, **rules: Any) -> BillingExpected:
    """What the oracle says to records that were read back."""
    plain = [
        Record(r.topic, r.partition, r.offset, r.timestamp, r.key, r.value, int(dict(r.headers).get(HEADER_ATTEMPT, 0)))
        for r in records
    ]
    return expect(plain, Rules(as_of, **rules))


def table(client: Client, name: str, columns: Sequence[str] = ("*",), database: str = "pingstream") -> list[Row]:
    """The rows of a table or view, read plainly; moments in UTC."""
    result = client.query(f"SELECT {', '.join(columns)} FROM {database}.{name}")
    return [dict(zip(result.column_names, map(_plain, row), strict=True)) for row in result.result_rows]


def _plain(value: Any) -> Any:
    if isinstance(value, dt.datetime):
        return value.replace(tzinfo=dt.UTC) if value.tzinfo is None else value.astimezone(dt.UTC)
    return value


def assert_equals_oracle(
    client: Client, records: Iterable[ConsumerRecord], as_of: dt.date, **rules: Any
) -> BillingExpected:
    """Every table and view is what the oracle computes from the same records; gives what it computed."""
    wanted = expected(records, as_of, **rules)
    assert_tables(client, wanted)
    return wanted


def assert_tables(client: Client, wanted: BillingExpected, database: str = "pingstream") -> None:
    """Every table and view is what the oracle has computed."""
    differences = []
    for name, key in KEYS.items():
        rows: list[Row] = getattr(wanted, name)
        columns = (*key, "reason") if name == "dead_letter" else ("*",)
        if text := difference(name, key, rows, table(client, name, columns, database)):
            differences.append(text)
    assert not differences, "\n\n".join(differences)


def difference(name: str, key: Sequence[str], wanted: list[Row], found: list[Row]) -> str:
    """What tells two lists of rows apart, in words; '' when nothing does. Order is none of it."""
    there = Counter(tuple(row[column] for column in key) for row in found)
    twice = [k for k, number in there.items() if number > 1]
    left = {tuple(row[column] for column in key): row for row in wanted}
    right = {tuple(row[column] for column in key): row for row in found}
    missing = sorted(left.keys() - right.keys())
    extra = sorted(right.keys() - left.keys())
    other = sorted(k for k in left.keys() & right.keys() if left[k] != right[k])
    if not (twice or missing or extra or other):
        return ""
    lines = [
        f"{name}: {len(wanted)} rows expected, {len(found)} found: {len(missing)} missing, {len(extra)} extra, "
        f"{len(other)} different, {len(twice)} more than once"
    ]
    lines += [f"  missing   {left[k]}" for k in missing[:3]]
    lines += [f"  extra     {right[k]}" for k in extra[:3]]
    lines += [f"  twice     {k}" for k in twice[:3]]
    for k in other[:5]:
        columns = {
            c: (left[k].get(c), right[k].get(c)) for c in left[k] | right[k] if left[k].get(c) != right[k].get(c)
        }
        lines.append(f"  different {k}: " + ", ".join(f"{c} is {b!r}, not {a!r}" for c, (a, b) in columns.items()))
    return "\n".join(lines)


def stop_in_order(worker: WorkerProcess, seconds: float = 5.0) -> None:
    """SIGTERM ends a worker well, and soon."""
    begun = time.monotonic()
    worker.signal(signal.SIGTERM)
    assert worker.wait(seconds + 5) == 0, worker.log()[-4000:]
    assert time.monotonic() - begun < seconds
