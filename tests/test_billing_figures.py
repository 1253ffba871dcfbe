"""Every table and view of both halves over strange messages: books in memory, the real engine, the oracle.

What a worker adds to this are Kafka and processes: `tests/streams`. Here many worlds are cheap.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from clickhouse_connect.driver.client import Client

from schemas.ping import EPOCH
from sinks.clickhouse.connection import Engine, open_engine
from sinks.clickhouse.schema import migrate
from sinks.clickhouse.sums import accounts_to_sum, keep_sums
from sinks.prometheus import Metrics
from sinks.topics import BILLING_EVENTS, USAGE_PINGS
from streams.ledger.book import UsageRows
from streams.ledger.state import Version
from streams.rows import AccountBlocks, Progress, RowSink
from tests.oracle import billing as oracle
from tests.oracle.usage import Rules
from tests.running import assert_tables
from tests.strange import strange_records
from tests.strange_billing import LICENCES, strange_billing_records
from tests.streams.ledger.billing.world import BillingWorld
from tests.streams.ledger.record import Record
from tests.streams.ledger.world import World

LAST_DAY = dt.date(2026, 3, 20)
DATABASE = "figures"


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    found = open_engine(tmp_path_factory.mktemp("engine"))
    yield found
    found.close()


class _UsageWorld(World):
    """Keeps what would go to the sink."""

    def __init__(self, sources: Sequence[Sequence[Record]], as_of: dt.date) -> None:
        self.taken: list[UsageRows] = []
        super().__init__(sources, as_of)

    def _take(self, usage: UsageRows) -> None:
        self.taken.append(usage)
        super()._take(usage)


def dealt(records: Sequence[Any], partitions: int) -> list[list[Record]]:
    """Strange records as the logs of a topic."""
    sources: list[list[Record]] = [[] for _ in range(partitions)]
    for one in records:
        log = sources[one.partition]
        log.append(Record(one.key, one.value, len(log), one.timestamp_ms))
    return sources


def said(topic: str, sources: Sequence[Sequence[Record]]) -> Iterator[oracle.Record]:
    for partition, log in enumerate(sources):
        for record in log:
            yield oracle.Record(topic, partition, record.offset, record.timestamp, record.key, record.value)


def write_letters(sink: RowSink, topic: str, letters: dict[tuple[int, int], str], sources: list[list[Record]]) -> None:
    rows = [(topic, *place, reason, "", sources[place[0]][place[1]].timestamp, 1) for place, reason in letters.items()]
    if rows:
        assert asyncio.run(sink.write_letters(rows, lambda: True))


def write_progress(
    sink: RowSink, topic: str, sources: list[list[Record]], as_of: dt.date, version: Callable[[int], Version]
) -> None:
    rows = [
        (
            Progress(
                topic, partition, (as_of - EPOCH.date()).days, max((r.timestamp for r in log), default=None), len(log)
            ),
            version(partition),
        )
        for partition, log in enumerate(sources)
    ]
    assert asyncio.run(sink.write_progress(rows, lambda: True))


ADDED_UP = ("kpi_seats", "kpi_mrr", "kpi_seats_added", "kpi_net_retention", "kpi_tier_movement", "kpi_mrr_movement")


def added_up(client: Client) -> dict[str, list[tuple[Any, ...]]]:
    """The rows of the views that add accounts up."""
    return {name: sorted(client.query(f"SELECT * FROM {DATABASE}.{name}").result_rows, key=repr) for name in ADDED_UP}


@pytest.mark.parametrize(
    ("seed", "as_of"),
    [
        pytest.param(1, LAST_DAY, marks=pytest.mark.long),
        (2, LAST_DAY - dt.timedelta(25)),
        (3, LAST_DAY + dt.timedelta(400)),
    ],
)
def test_all_figures_of_strange_pings_and_strange_events(engine: Engine, seed: int, as_of: dt.date) -> None:
    """Also while there are facts of days to come, and long after the last one."""
    rng = random.Random(seed)
    client = engine.client()
    client.command(f"DROP DATABASE IF EXISTS {DATABASE}")
    migrate(client, DATABASE)
    sink = RowSink(engine.client, DATABASE, Metrics("test"))
    partitions = rng.randint(1, 4)
    pings = dealt(
        strange_records(seed, 250, partitions=partitions, days=60, last_day=LAST_DAY, own=LICENCES), partitions
    )
    events = dealt(strange_billing_records(seed, 400, partitions=partitions, last_day=LAST_DAY), partitions)

    usage = _UsageWorld(pings, as_of)
    usage.drain(rng, 60)
    usage.roll()
    billing = BillingWorld(events)
    billing.drain(rng, 60, crashes=0.1, restarts=0.1)

    for rows in usage.taken:
        if rows.scopes:
            assert asyncio.run(sink.write(usage.names, rows, [], [], lambda: True))
    told = [(0, 1, ping) for ping in usage.pings.values()]
    assert asyncio.run(sink.write(usage.names, UsageRows(), told, [], lambda: True))
    for start in range(0, len(billing.written), 3):
        blocks = AccountBlocks()
        for some in billing.written[start : start + 3]:
            blocks.add(some)
        assert asyncio.run(sink.write_accounts(billing.cells, blocks, lambda: True))
    write_letters(sink, USAGE_PINGS, usage.letters, pings)
    write_letters(sink, BILLING_EVENTS, billing.letters, events)
    write_progress(sink, USAGE_PINGS, pings, as_of, lambda p: usage.books[p].version)
    # Sums are kept while the clock is at an earlier day, and say nothing of it.
    write_progress(sink, BILLING_EVENTS, events, as_of - dt.timedelta(40), lambda p: Version(0, 1))
    accounts = accounts_to_sum(client, DATABASE)
    assert accounts is not None
    keep_sums(client, DATABASE, accounts)
    write_progress(sink, BILLING_EVENTS, events, as_of, lambda p: billing.books[p].version)

    records = [*said(USAGE_PINGS, pings), *said(BILLING_EVENTS, events)]
    assert_tables(client, oracle.expect(records, Rules(as_of)), DATABASE)
    assert accounts_to_sum(client, DATABASE) is None  # they were of kept sums


def test_kept_sums_are_of_the_accounts_as_they_are(engine: Engine) -> None:
    """Whatever is written of an account, even the same again: sums from before it are taken no more."""
    client = engine.client()
    client.command(f"DROP DATABASE IF EXISTS {DATABASE}")
    migrate(client, DATABASE)
    assert accounts_to_sum(client, DATABASE) is None
    sink = RowSink(engine.client, DATABASE, Metrics("test"))
    events = dealt(strange_billing_records(1, 120, partitions=2, last_day=LAST_DAY), 2)
    billing = BillingWorld(events)
    billing.drain(random.Random(1), 60)
    write_progress(sink, BILLING_EVENTS, events, LAST_DAY, lambda p: billing.books[p].version)
    seen = set()
    for some in billing.written[:4]:
        blocks = AccountBlocks()
        blocks.add(some)
        assert asyncio.run(sink.write_accounts(billing.cells, blocks, lambda: True))
        accounts = accounts_to_sum(client, DATABASE)
        assert accounts is not None and accounts not in seen
        seen.add(accounts)
        keep_sums(client, DATABASE, accounts)
        assert accounts_to_sum(client, DATABASE) is None
    kept = added_up(client)
    assert all(kept.values())
    client.command(f"TRUNCATE TABLE {DATABASE}.billing_sums")
    assert added_up(client) == kept
    keep_sums(client, DATABASE, 0)  # of accounts that have changed meanwhile
    assert accounts_to_sum(client, DATABASE) == accounts
    client.command(f"OPTIMIZE TABLE {DATABASE}.billing_account FINAL")
    assert accounts_to_sum(client, DATABASE) == accounts  # merged or not, they are the same
