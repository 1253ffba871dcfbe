"""The database's schema: numbered migrations, forwards only, and one `.sql` file a view, made anew when any has changed.

Everything is idempotent, so two workers that start together do no harm.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from importlib import resources
from typing import NamedTuple

from clickhouse_connect.driver.client import Client

ENGINES = {
    "replacing": "ReplacingMergeTree",
    "replacing_version": "ReplacingMergeTree(version)",
    "replacing_row_version": "ReplacingMergeTree(row_version)",
}


class SchemaError(Exception):
    """The database cannot be used by this program; the text says what to do."""


class Migration(NamedTuple):
    """A numbered step."""

    number: int
    name: str
    sql: str


def migrations() -> list[Migration]:
    """Every step there is, in order."""
    files = (resources.files(__package__) / "migrations").iterdir()
    named = ((re.fullmatch(r"(\d{4})_(\w+)\.sql", file.name), file) for file in files)
    return sorted(Migration(int(match[1]), match[2], file.read_text()) for match, file in named if match)


def current() -> int:
    """The schema this program works with."""
    return migrations()[-1].number


def applied(client: Client, database: str) -> int | None:
    """The database's schema, None where there is none."""
    there = client.query(
        "SELECT count() FROM system.tables WHERE database = {database:String} AND name = 'schema_migration'",
        parameters={"database": database},
    ).result_rows
    if not there[0][0]:
        return None
    rows = client.query(f"SELECT max(number) FROM {database}.schema_migration").result_rows
    return int(rows[0][0])


def migrate(client: Client, database: str) -> list[Migration]:
    """Brings the database to the current schema; returns the steps that were taken.

    Raises:
        SchemaError: the database has a newer schema.
    """
    client.command(f"CREATE DATABASE IF NOT EXISTS {database}", use_database=False)
    client.command(
        f"CREATE TABLE IF NOT EXISTS {database}.schema_migration (number UInt32, name String, applied_at DateTime('UTC') DEFAULT now()) "
        "ENGINE = ReplacingMergeTree ORDER BY number"
    )
    done = applied(client, database) or 0
    if done > current():
        raise SchemaError(
            f"the database {database} has schema {done}, this program knows {current()}: run the newer Pingstream again"
        )
    taken = [step for step in migrations() if step.number > done]
    for step in taken:
        for statement in _statements(step.sql, database):
            client.command(statement)
        client.command(f"INSERT INTO {database}.schema_migration (number, name) VALUES ({step.number}, '{step.name}')")
    _make_views(client, database)
    return taken


def _make_views(client: Client, database: str) -> None:
    """Makes all views, or none where they are as they should be."""
    files = sorted((resources.files(__package__) / "views").iterdir(), key=lambda file: file.name)
    texts = [file.read_text() for file in files if file.name.endswith(".sql")]
    digest = hashlib.sha256("\0".join(texts).encode()).hexdigest()
    client.command(
        f"CREATE TABLE IF NOT EXISTS {database}.schema_views (views UInt32, digest String, made_at DateTime64(6, 'UTC') DEFAULT now64(6)) "
        "ENGINE = ReplacingMergeTree(made_at) ORDER BY tuple()"
    )
    made = client.query(f"SELECT views, digest FROM {database}.schema_views FINAL").result_rows
    there = client.query(
        "SELECT count() FROM system.tables WHERE database = {database:String} AND engine = 'View'",
        parameters={"database": database},
    ).result_rows[0][0]
    if made == [(there, digest)]:
        return
    for sql in texts:
        definition = " ".join(line.removeprefix("--").strip() for line in sql.splitlines() if line.startswith("--"))
        for statement in _statements(sql, database):
            client.command(statement + "\nCOMMENT '" + definition.replace("'", "''") + "'")
    client.command(
        f"INSERT INTO {database}.schema_views (views, digest) "
        f"SELECT count(), '{digest}' FROM system.tables WHERE database = '{database}' AND engine = 'View'"
    )


def _statements(sql: str, database: str) -> Iterator[str]:
    names = {"database": database, **ENGINES}
    for statement in sql.split(";\n"):
        bare = "\n".join(line for line in statement.splitlines() if not line.startswith("--")).strip().rstrip(";")
        if bare:
            yield re.sub(r"\{(\w+)\}", lambda match: names[match[1]], bare)
