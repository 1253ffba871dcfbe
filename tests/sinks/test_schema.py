"""Migrations: idempotent, forwards only; every view of the contract that is there has its columns and its definition."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import pytest
from clickhouse_connect.driver.client import Client

from sinks.clickhouse.connection import open_engine
from sinks.clickhouse.schema import SchemaError, applied, create_database, current, migrate, migrations, statements


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    with open_engine(tmp_path / "clickhouse") as engine:
        yield engine.client()


def test_migrating_twice_is_once(client: Client) -> None:
    assert applied(client, "metrics_of_mine") is None
    assert [step.number for step in migrate(client, "metrics_of_mine")] == [step.number for step in migrations()]
    assert migrate(client, "metrics_of_mine") == []
    assert applied(client, "metrics_of_mine") == current()


def test_views_are_made_again_when_one_is_gone_or_another_program_made_them(client: Client) -> None:
    def made_at() -> object:
        return client.query("SELECT made_at FROM pingstream.schema_views FINAL").result_rows

    migrate(client, "pingstream")
    first = made_at()
    migrate(client, "pingstream")
    assert made_at() == first
    client.command("DROP VIEW pingstream.kpi_mau")
    migrate(client, "pingstream")
    assert client.query("SELECT * FROM pingstream.kpi_mau").result_rows == []
    assert (second := made_at()) != first
    client.command(
        "INSERT INTO pingstream.schema_views (views, digest) SELECT views, 'another' FROM pingstream.schema_views FINAL"
    )
    migrate(client, "pingstream")
    assert made_at() != second


def test_a_newer_database_is_refused(client: Client) -> None:
    migrate(client, "pingstream")
    client.command("INSERT INTO pingstream.schema_migration (number, name) VALUES (9999, 'of the future')")
    with pytest.raises(SchemaError, match="newer Pingstream"):
        migrate(client, "pingstream")


def test_the_replicated_schema_is_read_by_the_engine(client: Client) -> None:
    """No server with replicas is at hand: its own parser takes every statement, and nothing is left that is on one replica alone."""
    made = [
        create_database("metrics", replicated=True),
        create_database("metrics", replicated=True, cluster="all-of-us"),
    ]
    made += [statement for step in migrations() for statement in statements(step.sql, "metrics", True)]
    for statement in made:
        assert client.query(f"EXPLAIN AST {statement}").result_rows
    tables = [statement for statement in made if statement.startswith("CREATE TABLE")]
    assert len(tables) > 8
    assert all("ENGINE = ReplicatedReplacingMergeTree" in statement for statement in tables)
    engine = "ENGINE = Replicated('/clickhouse/databases/metrics', '{shard}', '{replica}')"
    assert engine in made[0] and engine in made[1]
    (read,) = client.query("SELECT formatQuerySingleLine({made:String})", parameters={"made": made[1]}).first_row
    assert read.startswith("CREATE DATABASE IF NOT EXISTS metrics ON CLUSTER `all-of-us`")


def test_a_cluster_that_cannot_hold_the_database_is_refused_before_anything_is_made(client: Client) -> None:
    """The embedded engine knows no cluster; one of several shards, each with a part of the rows, is put in its place."""
    with pytest.raises(SchemaError, match="knows no cluster elsewhere"):
        migrate(client, "pingstream", cluster="elsewhere")
    client.command("CREATE DATABASE told")
    client.command("CREATE TABLE told.clusters (cluster String, shard_num UInt32) ENGINE = Memory")
    client.command("INSERT INTO told.clusters VALUES ('wide', 1), ('wide', 1), ('wide', 2)")
    asked = client.query
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            client, "query", lambda sql, **more: asked(sql.replace("system.clusters", "told.clusters"), **more)
        )
        with pytest.raises(SchemaError, match="wide has 2 shards"):
            migrate(client, "pingstream", cluster="wide")
    assert applied(client, "pingstream") is None


def test_every_view_says_what_it_is_and_answers(client: Client) -> None:
    migrate(client, "pingstream")
    views = client.query(
        "SELECT name, comment FROM system.tables WHERE database = 'pingstream' AND engine = 'View'"
    ).result_rows
    assert {name for name, _ in views} >= {"usage_kpi", "usage_ping", "dead_letter", "kpi_mau", "kpi_stage_adoption"}
    for name, comment in views:
        assert len(comment) > 40, name
        rows = client.query(f"SELECT * FROM pingstream.{name} LIMIT 1").result_rows
        assert rows == ([(dt.date(1900, 1, 1), 0)] if name == "calendar" else [])


def test_the_newest_version_of_a_row_is_read(client: Client) -> None:
    migrate(client, "pingstream")
    client.command("INSERT INTO pingstream.figure_name VALUES (0, '', ''), (7, 'create', '')")
    for version, users in ((2, 9), (1, 5)):
        client.command(
            "INSERT INTO pingstream.usage_day VALUES "
            f"('2026-01-01', 'self_managed', 'u@h', 0, 'exact', [0, 7], [1, 1], [2, 2], [{users}, {users}], [], {version})"
        )
    rows = client.query(
        "SELECT level, stage, dau, wau, mau, sessions FROM pingstream.usage_kpi ORDER BY level"
    ).result_rows
    assert rows == [("stage", "create", 1, 2, 9, None), ("total", "", 1, 2, 9, None)]


def test_the_columns_that_a_view_declares_are_those_of_its_query(client: Client) -> None:
    """ClickHouse makes one of the other without a word, and asks no query for the columns of a view that declares them."""
    migrate(client, "pingstream")
    views = client.query(
        "SELECT name, as_select FROM system.tables WHERE database = 'pingstream' AND engine = 'View'"
    ).result_rows
    assert len(views) > 50
    for name, query in views:
        declared, given = (
            [row[:2] for row in client.query(f"DESCRIBE TABLE {what}").result_rows]
            for what in (f"pingstream.{name}", f"({query})")
        )
        assert declared == given, name


def test_every_view_declares_its_columns() -> None:
    texts = [file.read_text() for file in (resources.files("sinks.clickhouse") / "views").iterdir()]
    made = [statement for text in texts for statement in statements(text, "pingstream", False)]
    created = [statement for statement in made if statement.startswith("CREATE")]
    assert len(created) > 50
    for statement in created:
        assert re.match(r"CREATE OR REPLACE VIEW pingstream\.\w+\n\(\n(    .+\n)+\)\nAS\n", statement), statement[:80]
