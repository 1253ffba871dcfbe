"""The database's schema: numbered migrations, forwards only, and one `.sql` file a view, made anew when any has changed.

Who finds the schema as it should be only reads, and needs no right to change it. Else one at a time brings it up to date: the
table `schema_lock` is there while somebody does, which ClickHouse lets only one make. Every statement is idempotent, so one
that was killed in the middle leaves nothing that the next does not mend; its lock goes when it has not moved for a minute.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import time
from collections.abc import Iterator
from importlib import resources
from typing import NamedTuple

import structlog
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError

log = structlog.get_logger("pingstream.schema")

ENGINES = {
    "replacing": "ReplacingMergeTree",
    "replacing_version": "ReplacingMergeTree(version)",
    "replacing_row_version": "ReplacingMergeTree(row_version)",
    "replacing_made_at": "ReplacingMergeTree(made_at)",
}
"""What the statements call the engines of tables. In a replicated database each is its replicated kind."""

REPLICATED = "Replicated('/clickhouse/databases/{database}', '{{shard}}', '{{replica}}')"
"""The engine of a database that ClickHouse keeps alike on all replicas of a shard: tables, views, and what is done to them. The
names in braces are macros of the servers' configuration. The statement that makes it goes to all servers of a cluster; what is
made in it then, on one of them, ClickHouse makes on all, on those too that come later. Of one shard: each view reads all rows."""


LOCK = "schema_lock"
STALE_SECONDS = 60
"""After so long without a step the process that holds the lock is taken for dead. If it lives, two do the same work, and
nothing is done twice by that: every statement makes what is missing, or the same again."""
POLL_SECONDS = 0.2
MOVE_SECONDS = 5
"""So often others are told that we go on."""

TABLE_ALREADY_EXISTS = 57, "TABLE_ALREADY_EXISTS"
UNKNOWN_DATABASE = 81, "UNKNOWN_DATABASE"
READONLY = 164, "READONLY"
ACCESS_DENIED = 497, "ACCESS_DENIED"


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


def migrate(client: Client, database: str, *, replicated: bool = False, cluster: str = "") -> list[Migration]:
    """Brings the database to the current schema; returns the steps that were taken. Several may do so at once.

    Args:
        replicated: whether a database that is made is one of the replicas of a shard. Tables are replicated where their
            database is, whoever made it.
        cluster: the servers on all of which a database that is made is made, as replicas of a shard; '' for this one alone.

    Raises:
        SchemaError: the database has a newer schema, or is to be changed by a user who may not, or the cluster is none to make it
            on.
    """
    if _is_current(client, database):
        return []
    try:
        if cluster:
            _refuse_shards(client, cluster)
        client.command(create_database(database, replicated, cluster), use_database=False)
        with _locked(client, database) as lock:
            return _bring_up_to_date(client, database, lock)
    except ClickHouseError as exc:
        if _is(exc, ACCESS_DENIED) or _is(exc, READONLY):
            raise SchemaError(
                f"the schema of the database {database} is to be brought to {current()}, and this user may not change it; let one "
                "who may (deploy/grants/owner.sql) run `pingstream migrate` first"
            ) from None
        raise


def create_database(database: str, replicated: bool, cluster: str = "") -> str:
    """The statement that makes the database: on this server, or as replicas on all of a cluster."""
    everywhere = f" ON CLUSTER `{cluster}`" if cluster else ""
    engine = f" ENGINE = {REPLICATED.format(database=database)}" if replicated or cluster else ""
    return f"CREATE DATABASE IF NOT EXISTS {database}{everywhere}{engine}"


def _refuse_shards(client: Client, cluster: str) -> None:
    shards = client.query(
        "SELECT uniqExact(shard_num) FROM system.clusters WHERE cluster = {cluster:String}",
        parameters={"cluster": cluster},
    ).first_row[0]
    if not shards:
        raise SchemaError(f"ClickHouse knows no cluster {cluster} (system.clusters): see CLICKHOUSE_CLUSTER")
    if shards > 1:
        raise SchemaError(
            f"the cluster {cluster} has {shards} shards, and each would see a part of the rows: name one whose servers are replicas of "
            "one shard (remote_servers in their configuration)"
        )


def _bring_up_to_date(client: Client, database: str, lock: _Held) -> list[Migration]:
    replicated = is_replicated(client, database)
    for statement in statements(_MIGRATION_TABLE, database, replicated):
        client.command(statement)
    done = applied(client, database) or 0
    _refuse_newer(done, database)
    taken = [step for step in migrations() if step.number > done]
    for step in taken:
        lock.still_held()
        take(client, database, step, replicated)
    if not _views_are_made(client, database):
        _make_views(client, database, replicated, lock)
    return taken


def take(client: Client, database: str, step: Migration, replicated: bool) -> None:
    """Takes a step, and notes that it is taken."""
    for statement in statements(step.sql, database, replicated):
        client.command(statement)
    client.command(f"INSERT INTO {database}.schema_migration (number, name) VALUES ({step.number}, '{step.name}')")


def _is_current(client: Client, database: str) -> bool:
    try:
        done = applied(client, database)
    except ClickHouseError as exc:
        if _is(exc, UNKNOWN_DATABASE):  # the client's own, which need not exist yet
            return False
        raise
    if done is None:
        return False
    _refuse_newer(done, database)
    return done == current() and _views_are_made(client, database)


def _refuse_newer(done: int, database: str) -> None:
    if done > current():
        raise SchemaError(
            f"the database {database} has schema {done}, this program knows {current()}: run the newer Pingstream again"
        )


# ---- the lock ----------------------------------------------------------------------------------------------------------------


class _Held:
    """The lock while it is ours: it has to move, or others take us for dead."""

    def __init__(self, client: Client, database: str) -> None:
        self._client = client
        self._database = database
        self._moved = time.monotonic()

    def still_held(self) -> None:
        """Tells those who wait that we go on, if they have not heard of us for a while."""
        if time.monotonic() - self._moved < MOVE_SECONDS:
            return
        self._moved = time.monotonic()
        with contextlib.suppress(ClickHouseError):  # it was taken from us, after a minute without a step
            self._client.command(f"ALTER TABLE {self._database}.{LOCK} MODIFY COMMENT '{time.time_ns()}'")


@contextlib.contextmanager
def _locked(client: Client, database: str) -> Iterator[_Held]:
    """Waits until nobody else changes the schema, and keeps others from it."""
    said = False
    while not _lock(client, database):
        if not said:
            said = True
            log.info("another process brings the schema up to date; waiting for it", database=database)
        if (_idle_seconds(client, database) or 0) > STALE_SECONDS:
            log.warning("the process that brought the schema up to date is gone; going on", database=database)
            client.command(f"DROP TABLE IF EXISTS {database}.{LOCK} SYNC")
        time.sleep(POLL_SECONDS)
    try:
        yield _Held(client, database)
    finally:
        with contextlib.suppress(
            ClickHouseError
        ):  # it is away: what has failed before says so, and the lock goes stale
            client.command(f"DROP TABLE IF EXISTS {database}.{LOCK} SYNC")


def _lock(client: Client, database: str) -> bool:
    """Takes the lock if it is free."""
    try:
        client.command(f"CREATE TABLE {database}.{LOCK} (nothing UInt8) ENGINE = MergeTree ORDER BY tuple()")
    except ClickHouseError as exc:
        if _is(exc, TABLE_ALREADY_EXISTS):
            return False
        raise
    return True


def _idle_seconds(client: Client, database: str) -> int | None:
    """How long the lock has not moved, by ClickHouse's own clock; None when it is free."""
    rows = client.query(
        "SELECT dateDiff('second', metadata_modification_time, now()) FROM system.tables "
        "WHERE database = {database:String} AND name = {name:String}",
        parameters={"database": database, "name": LOCK},
    ).result_rows
    return int(rows[0][0]) if rows else None


def _is(error: ClickHouseError, code: tuple[int, str]) -> bool:
    # The embedded engine's errors have the code in their text alone.
    return getattr(error, "code", None) == code[0] or f"({code[1]})" in str(error)


# ---- views -------------------------------------------------------------------------------------------------------------------


def _views() -> tuple[list[str], str]:
    """The texts of all views, those first that others read, and their digest."""
    files = sorted((resources.files(__package__) / "views").iterdir(), key=lambda file: file.name)
    texts = [file.read_text() for file in files if file.name.endswith(".sql")]
    return texts, hashlib.sha256("\0".join(texts).encode()).hexdigest()


def _views_are_made(client: Client, database: str) -> bool:
    """Whether all of them are there, and are this program's."""
    views, noted = client.query(
        "SELECT countIf(engine = 'View'), countIf(name = 'schema_views') FROM system.tables WHERE database = {database:String}",
        parameters={"database": database},
    ).result_rows[0]
    if not noted:
        return False
    made = client.query(f"SELECT views, digest FROM {database}.schema_views FINAL").result_rows
    return bool(made == [(views, _views()[1])])


def _make_views(client: Client, database: str, replicated: bool, lock: _Held) -> None:
    texts, digest = _views()
    for statement in statements(_VIEWS_TABLE, database, replicated):
        client.command(statement)
    # ClickHouse keeps this setting of a user and, by a setting of the server, does not look at it. A view of its definer shows
    # what it shows to users who may not read the tables beneath.
    security = client.query("SELECT getSetting('default_normal_view_sql_security')").first_row[0]
    definer = " DEFINER = CURRENT_USER SQL SECURITY DEFINER" if security == "DEFINER" else ""
    for sql in texts:
        definition = " ".join(line.removeprefix("--").strip() for line in sql.splitlines() if line.startswith("--"))
        lock.still_held()
        for statement in statements(sql, database, replicated):
            statement = statement.replace("\n)\nAS\n", f"\n){definer}\nAS\n", 1)  # behind the columns
            client.command(statement + "\nCOMMENT '" + definition.replace("'", "''") + "'")
    client.command(
        f"INSERT INTO {database}.schema_views (views, digest) "
        f"SELECT count(), '{digest}' FROM system.tables WHERE database = '{database}' AND engine = 'View'"
    )


_MIGRATION_TABLE = """
CREATE TABLE IF NOT EXISTS {database}.schema_migration
(number UInt32, name String, applied_at DateTime('UTC') DEFAULT now())
ENGINE = {replacing} ORDER BY number
"""
_VIEWS_TABLE = """
CREATE TABLE IF NOT EXISTS {database}.schema_views
(views UInt32, digest String, made_at DateTime64(6, 'UTC') DEFAULT now64(6))
ENGINE = {replacing_made_at} ORDER BY tuple()
"""


def is_replicated(client: Client, database: str) -> bool:
    """Whether ClickHouse keeps the database alike on several servers."""
    rows = client.query(
        "SELECT engine FROM system.databases WHERE name = {database:String}", parameters={"database": database}
    ).result_rows
    return bool(rows) and rows[0][0] == "Replicated"


def statements(sql: str, database: str, replicated: bool) -> Iterator[str]:
    """Each statement of a text, with its names filled in."""
    kind = "Replicated" if replicated else ""
    names = {"database": database} | {name: kind + engine for name, engine in ENGINES.items()}
    for statement in sql.split(";\n"):
        bare = "\n".join(line for line in statement.splitlines() if not line.startswith("--")).strip().rstrip(";")
        if bare:
            yield re.sub(r"\{(\w+)\}", lambda match: names[match[1]], bare)
