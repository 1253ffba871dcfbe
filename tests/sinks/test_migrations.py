"""From every earlier schema to the current one, by several at once: rows of then are right, and every view answers.

A database of level N is made by the first N migrations, which never change, with rows as the program of then wrote them.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import pytest
from clickhouse_connect.driver.client import Client

from deploy.clickhouse.door import Door
from sinks.clickhouse import schema
from sinks.clickhouse.connection import connect
from sinks.clickhouse.schema import SchemaError, current, migrate, migrations

DAY = dt.date(2026, 1, 1)
AT_ONCE = 3

ROWS: dict[int, list[str]] = {
    1: [
        "figure_name (id, stage, feature) VALUES (0, '', ''), (7, 'create', '')",
        "usage_day (as_of, population, scope_id, basis, names, dau, wau, mau, sessions, version) VALUES "
        "('2026-01-01', 'self_managed', 'u@h', 'exact', [0, 7], [1, 1], [2, 2], [9, 5], [], 2)",
        "ping (uuid, hostname, namespace_id, recorded_at, received_at, population, scope_id, version, edition, plan, "
        "registered_users, counters, failed_counters, row_version) VALUES ('u', 'h', '', '2026-01-01 06:00:00', "
        "'2026-01-01 06:00:01', 'self_managed', 'u@h', '18.1.0', 'EE', 'premium', 40, 3, 1, 1)",
        "letter (topic, partition, offset, reason, error, received_at, row_version) VALUES "
        "('usage-pings', 1, 5, 'not_json', 'no JSON', '2026-01-01 06:00:01', 1)",
    ],
    2: [
        "usage_day (as_of, population, scope_id, shard, basis, names, dau, wau, mau, sessions, version) VALUES "
        "('2026-01-01', 'gitlab_com', 'gitlab.com', 0, 'exact', [0], [1], [1], [3], [], 2), "
        "('2026-01-01', 'gitlab_com', 'gitlab.com', 1, 'exact', [0], [1], [1], [4], [], 2)",
        "ping (uuid, hostname, namespace_id, recorded_at, received_at, population, scope_id, home, reports, stage_map, "
        "reported_names, reported_mau, row_version) VALUES ('r', 'h', '', '2026-01-01 06:00:00', '2026-01-01 06:00:01', "
        "'self_managed', 'r@h', 0, true, 1, [0], [30], 1)",
        "progress (topic, partition, as_of, received_at, next_offset, row_version) VALUES "
        "('usage-pings', 0, '2026-01-01', '2026-01-01 06:00:01', 3, 1)",
        "gap (topic, partition, first_offset, last_offset) VALUES ('usage-pings', 0, 7, 8)",
    ],
    3: [
        "billing_account (account_id, home, first_day, tick_day, row_version) VALUES "
        "('a', 0, '2026-01-01', ['2299-12-31', '2026-01-01', '2299-12-31', '2299-12-31', '2299-12-31', '2299-12-31'], 1)",
        "billing_subscription (account_id, subscription_id, home, state_day, state_last, state_deployment, state_plan, "
        "state_seats, state_mrr, row_version) VALUES "
        "('a', 's', 0, ['2026-01-01'], ['2299-12-31'], ['self_managed'], ['premium'], [12], [34800], 1)",
        "progress (topic, partition, as_of, received_at, next_offset, row_version) VALUES "
        "('billing-events', 0, '2026-01-01', '2026-01-01 06:00:01', 3, 1)",
    ],
}

FOUND: dict[int, list[tuple[str, list[tuple[Any, ...]]]]] = {
    1: [
        (
            "SELECT level, stage, dau, wau, mau, sessions FROM usage_kpi WHERE scope_id = 'u@h' ORDER BY level",
            [("stage", "create", 1, 2, 5, None), ("total", "", 1, 2, 9, None)],
        ),
        ("SELECT version, registered_users, counters, failed_counters FROM usage_ping WHERE uuid = 'u'", [("18.1.0", 40, 3, 1)]),
        ("SELECT topic, partition, offset, reason FROM dead_letter", [("usage-pings", 1, 5, "not_json")]),
    ],
    2: [
        ("SELECT as_of, mau FROM kpi_mau WHERE population = 'gitlab_com' AND basis = 'exact'", [(DAY, 7)]),
        ("SELECT as_of, mau FROM usage_kpi WHERE basis = 'reported' AND scope_id = 'r@h'", [(DAY, 30)]),
        ("SELECT sum(gaps) FROM kpi_freshness", [(1,)]),
    ],
    3: [
        ("SELECT as_of, subscription_id, plan, seats, mrr FROM account_kpi", [(DAY, "s", "premium", 12, Decimal("348.00"))]),
        ("SELECT account_id, purchase, done FROM kpi_self_service", [("a", 1, 1)]),
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    with Door(tmp_path_factory.mktemp("engine") / "clickhouse") as door:
        yield door


@pytest.fixture
def client(door: Door) -> Iterator[Client]:
    client = connect(door.address)
    yield client
    client.close()


def database_of(client: Client, level: int) -> str:
    """A database of this level, with the rows of all levels up to it. 0: none at all."""
    database = f"level_{level}"
    if level:
        client.command(f"CREATE DATABASE {database}")
        client.command(
            f"CREATE TABLE {database}.schema_migration (number UInt32, name String, applied_at DateTime('UTC') DEFAULT now()) "
            "ENGINE = ReplacingMergeTree ORDER BY number"
        )
    for step in migrations()[:level]:
        schema.take(client, database, step, False)
        for rows in ROWS.get(step.number, ()):
            client.command(f"INSERT INTO {database}.{rows}")
    return database


def structure(client: Client, database: str) -> set[tuple[Any, ...]]:
    """Every column of every table and view, and how tables are kept."""
    columns = client.query(
        f"SELECT table, name, type, compression_codec, is_in_sorting_key FROM system.columns WHERE database = '{database}'"
    ).result_rows
    tables = client.query(
        f"SELECT name, replaceAll(create_table_query, '{database}.', '') FROM system.tables WHERE database = '{database}' AND "
        "engine = 'View'"
    ).result_rows
    return {*map(tuple, columns), *map(tuple, tables)}


@pytest.mark.long
def test_from_every_level_by_several_at_once(door: Door, client: Client) -> None:
    steps = [step.number for step in migrations()]
    fresh: set[tuple[Any, ...]] = set()
    for level in range(len(steps) + 1):
        database = database_of(client, level)

        def one(_: int, database: str = database) -> list[int]:
            own = connect(door.address, database)  # as a worker does, also where it does not exist yet
            try:
                return [step.number for step in migrate(own, database)]
            finally:
                own.close()

        with ThreadPoolExecutor(AT_ONCE) as threads:
            taken = list(threads.map(one, range(AT_ONCE)))
        assert [number for some in taken for number in some] == steps[level:], "each step by one of them"
        noted = client.query(f"SELECT number FROM {database}.schema_migration ORDER BY number").result_rows
        assert noted == [(number,) for number in steps], "each step once, also without FINAL"
        assert not client.query(f"EXISTS {database}.schema_lock").first_row[0]
        fresh = fresh or structure(client, database)
        assert structure(client, database) == fresh, f"level {level} became what a new database is"
        client.database = database
        for number in steps[:level]:
            for query, rows in FOUND.get(number, ()):
                assert client.query(query).result_rows == rows, query
    who_may_only_read_finds_a_current_schema_and_is_told_of_an_older_one(door, client, database)


def who_may_only_read_finds_a_current_schema_and_is_told_of_an_older_one(
    door: Door, client: Client, database: str
) -> None:
    reader = connect(door.address)
    reader.set_client_setting("readonly", 2)
    try:
        assert migrate(reader, database) == []
        with pytest.raises(SchemaError, match="pingstream migrate"):
            migrate(reader, "another")
        client.command(f"INSERT INTO {database}.schema_migration (number, name) VALUES (9999, 'of the future')")
        with pytest.raises(SchemaError, match=f"schema 9999, this program knows {current()}"):
            migrate(reader, database)
    finally:
        reader.close()


def test_the_lock_of_one_that_was_killed_goes(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "STALE_SECONDS", 1)
    client.command("CREATE DATABASE abandoned")
    assert schema._lock(client, "abandoned")
    assert not schema._lock(client, "abandoned"), "one at a time"
    with schema._locked(client, "abandoned"):
        assert client.query("EXISTS abandoned.schema_lock").first_row[0]
    assert not client.query("EXISTS abandoned.schema_lock").first_row[0]


def test_the_lock_moves_while_its_holder_goes_on(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    client.command("CREATE DATABASE going_on")

    def comment() -> object:
        return client.query("SELECT comment FROM system.tables WHERE name = 'schema_lock'").first_row[0]

    with schema._locked(client, "going_on") as lock:
        lock.still_held()
        assert comment() == "", "not at every step"
        monkeypatch.setattr(schema, "MOVE_SECONDS", 0)
        lock.still_held()
        assert comment() != ""
