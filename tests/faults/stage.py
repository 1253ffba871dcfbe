"""Where a case plays: a Kafka and a ClickHouse of its own, workers, a load, and the checks at the end."""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from aiokafka.structs import ConsumerRecord
from clickhouse_connect.driver.client import Client

from deploy.kafka.broker import LocalBroker
from deploy.message import Message
from sinks.clickhouse.schema import migrate
from sinks.topics import SOURCES
from tests.faults import checks
from tests.faults.cluster import Cluster
from tests.faults.disk import NoDisk, small_disk
from tests.faults.kafka import BILLING_CHANGELOG, INTERNAL, USAGE_CHANGELOG, Kafka
from tests.faults.load import Load
from tests.faults.supervisor import Supervisor
from tests.faults.world import LAST_DAY, world
from tests.oracle.billing import BillingExpected
from tests.running import KEY, Process, Site, WorkerProcess

N = TypeVar("N")

SMALL, USUAL, LONG = 0, 1, 2
"""How much of a case: the short cut of `make test`, `make faults`, `make faults-long`."""

SCALES = {"small": SMALL, "usual": USUAL, "long": LONG}


class Skip(Exception):
    """The case cannot be staged here; the text says why."""


class Stage:
    """A case's surroundings.

    Attributes:
        seed, chance: the case's seed, and dice from it: what happens when.
        folder: of this case alone; logs of every process are in it.
        site: the broker and its commands (see `tests.running`). kafka: the same broker, seen from outside.
        clickhouse: the `pingstream clickhouse` that workers share, and its address `dsn`; without one, workers have the engine
            embedded.
        counts: what the table of results shows of this case.
    """

    def __init__(self, folder: Path, site: Site, seed: int, scale: int) -> None:
        self.folder = folder
        self.site = site
        self.seed = seed
        self.scale = scale
        self.chance = random.Random(seed)
        self.kafka = Kafka(site.broker.bootstrap)
        self.clickhouse: Process | None = None
        self.dsn: str | None = None
        self.as_of = LAST_DAY
        self.counts: dict[str, Any] = {}
        self.kafka_disk: Path | None = None
        """Kafka's own disk, if it has one."""
        self.supervisors: list[Supervisor] = []
        self._workers = 0
        self._ends = ExitStack()

    # ---- what is there -----------------------------------------------------------------------------------------------

    def of(self, small: N, usual: N, long: N) -> N:
        """A number by the scale of the run."""
        return (small, usual, long)[self.scale]

    def start_clickhouse(self) -> None:
        """Starts the shared ClickHouse, or starts it again on its port and its data."""
        port = int(self.dsn.rpartition(":")[2]) if self.dsn else 0
        self.clickhouse = self._ends.enter_context(self.site.clickhouse(port))
        self.dsn = self.clickhouse.found(r"PINGSTREAM_CLICKHOUSE=(http://\S+)")

    def messages(self, size: int = 1, days: int = 40, **changes: float) -> list[Message]:
        """The world of this seed (see `tests.faults.world`); the first call makes the topics too."""
        self.site.send([])
        return world(self.seed, size, days, **changes)

    def load(self, messages: Sequence[Message], seconds: float = 0.0) -> Load:
        """Sends in the background, evenly over these seconds; a context manager."""
        rate = len(messages) / seconds if seconds else 0.0
        partitions = len(self.kafka.partitions(SOURCES[0]))
        return Load(self.site.broker.bootstrap, messages, rate, partitions)

    def worker(
        self,
        *flags: str,
        program: Sequence[str] = ("-m", "deploy.cli.main"),
        variables: dict[str, str] | None = None,
        command: Sequence[str] = (sys.executable,),
        **settings: str,
    ) -> WorkerProcess:
        """Starts a worker and does not wait. It has a data folder of its own, and the shared ClickHouse if there is one.

        Args:
            flags: of the command, as `--drain`.
            program, variables, command: what is started in place of Pingstream's command; more variables; its Python.
            settings: win over the stage's, an empty one takes a setting away.
        """
        self._workers += 1
        base = {"as_of": self.as_of.isoformat()}
        if self.dsn is not None:
            base |= {"clickhouse": self.dsn, "data_dir": str(self.folder / f"worker{self._workers}")}
        chosen = {name: value for name, value in (base | settings).items() if value}
        arguments = self.site.worker_arguments(*flags, **chosen)
        log = self.folder / f"worker{self._workers:03d}.log"
        return self._ends.enter_context(
            WorkerProcess(arguments, self.folder, log, program, variables=variables, command=command)
        )

    def supervised(self, pause: float = 0.2, **options: Any) -> Supervisor:
        """A worker that is started again whenever it ends; a context manager. Options are those of `worker`."""
        if self.dsn is not None:
            options = {"data_dir": str(self.folder / f"supervised{len(self.supervisors)}")} | options
        supervisor = Supervisor(lambda: self.worker(**options), pause)
        self.supervisors.append(supervisor)
        return supervisor

    @contextmanager
    def tables(self) -> Iterator[Client]:
        """A client of the case's ClickHouse."""
        with self.site.tables(self.dsn) as client:
            yield client

    # ---- the end -----------------------------------------------------------------------------------------------------

    def settle(self, seconds: float = 120.0) -> float:
        """Waits until everything is read, committed and written; gives the seconds that it took."""

        def refused() -> Iterator[str]:
            for supervisor in self.supervisors:
                if 2 in supervisor.ends:
                    yield f"a worker ended for good:\n{supervisor.worker.log()[-3000:]}"

        with self.tables() as client:
            took = checks.wait_settled(self.kafka, client, self.as_of, seconds, _Again(refused))
        self.counts["settled_s"] = round(took, 1)
        return took

    def check(
        self, *, state: bool = True, records: Sequence[ConsumerRecord] | None = None, seconds: float = 120.0
    ) -> BillingExpected:
        """Settles, ends the workers in order, and holds what they left against the oracle (see `tests.faults.checks`).

        Args:
            state: the usage state still holds every day of the world.
            records: what was in the source topics, when Kafka does not hold it any more.
            seconds: how long settling may take.
        """
        self.settle(seconds)
        self._look_at_balances()
        counted = self.supervisors[0].worker.outcomes() if self._workers == 1 else None
        ended = [supervisor.end() for supervisor in self.supervisors if supervisor.worker.code is None]
        wanted = self.compare(state=state, records=records, ended=ended)
        if counted is not None:  # nothing came again: what the only process has counted is what there is
            due = {one: number for one, number in wanted.outcomes.items() if number}
            assert {one: number for one, number in counted.items() if number} == due, f"{counted} counted, {due} due"
        return wanted

    def compare(
        self,
        *,
        state: bool = True,
        records: Sequence[ConsumerRecord] | None = None,
        ended: Sequence[float] = (),
        gaps: int = 0,
        balance: bool = True,
        committed: bool = True,
    ) -> BillingExpected:
        """The checks alone, for a case that has settled and ended its workers.

        Args:
            state, records: as of `check`.
            gaps: ranges of pings that had left the topic before they could be read.
            balance: the billing state is there to be counted.
            committed: offsets can be committed up to the ends.
        """
        found = [record for topic in SOURCES for record in self.site.read(topic)] if records is None else list(records)
        begun = time.monotonic()
        wanted = checks.expected(found, self.as_of)
        for row in wanted.kpi_freshness:
            row["gaps"] = gaps
        with self.tables() as client:
            checks.assert_tables(client, wanted)
            if balance:
                checks.assert_balance(self.site, client, wanted, found)
        if committed:
            checks.assert_committed(self.kafka)
        if state:
            checks.assert_state(self.site, wanted, self.as_of)
        self._look_at_logs()
        self.counts |= {
            "messages": len(found),
            "rows": sum(len(getattr(wanted, name)) for name in checks.KEYS),
            "starts": self._workers,
            "checked_s": round(time.monotonic() - begun, 1),
        }
        if ended:
            self.counts["end_s"] = round(max(ended), 1)
        return wanted

    def _look_at_balances(self) -> None:
        """Every message that a running worker has read has one outcome, as it counts itself."""
        for worker in (supervisor.worker for supervisor in self.supervisors):
            if worker.code is None and worker.has_address and worker.get("/healthz")[0] == 200:
                found = {
                    key: value for key, value in worker.metrics().items() if key[0] == "pingstream_balance_messages"
                }
                assert len(found) == len(SOURCES) and not any(found.values()), found

    def _look_at_logs(self) -> None:
        for log in self.folder.glob("*.log"):
            assert KEY not in log.read_text(errors="replace"), f"{log.name} shows the pseudonym key"

    def start_over(self) -> None:
        """What the docs tell an operator to do when the state cannot be used, while no worker runs."""
        self.kafka.delete_group()
        self.kafka.delete_topics([*INTERNAL, USAGE_CHANGELOG, BILLING_CHANGELOG])
        with self.tables() as client:
            client.command("DROP DATABASE pingstream")
            migrate(client, "pingstream")
        self.supervisors.clear()

    def close(self) -> None:
        """Kills what still runs."""
        for supervisor in self.supervisors:
            supervisor.abandon()
        self._ends.close()


class _Again:
    """Asks anew each time it is gone through."""

    def __init__(self, ask: Callable[[], Iterator[str]]) -> None:
        self._ask = ask

    def __iter__(self) -> Iterator[str]:
        return self._ask()


@contextmanager
def staged(
    folder: Path, seed: int, scale: int = USUAL, *, embedded: bool = False, cluster: bool = False, disk_mb: int = 0
) -> Iterator[Stage]:
    """A stage with a Kafka of its own and a shared ClickHouse.

    Args:
        embedded: workers have the engine embedded instead.
        cluster: Kafka is three nodes, and topics have three replicas.
        disk_mb: Kafka has a disk of its own of so many megabytes, where one can be mounted.
    """
    with ExitStack() as ends:
        own_disk = False
        if disk_mb:
            with suppress(NoDisk):
                ends.enter_context(small_disk(folder / "kafka", disk_mb))
                own_disk = True
        node: LocalBroker | Cluster = Cluster(folder / "kafka") if cluster else LocalBroker(folder / "kafka", port=0)
        ends.enter_context(node)
        settings = {"partitions": "4", "replication": "3"} if cluster else {"partitions": "4"}
        stage = Stage(folder, Site(folder, node, settings), seed, scale)  # type: ignore[arg-type]
        stage.kafka_disk = folder / "kafka" if own_disk else None
        ends.callback(stage.close)
        if not embedded:
            stage.start_clickhouse()
            with stage.tables() as client:
                migrate(client, "pingstream")  # as the first worker does, so that a case may look before it does
        yield stage


__all__ = ["LONG", "SCALES", "SMALL", "USUAL", "Skip", "Stage", "staged"]
