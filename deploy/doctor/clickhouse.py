"""ClickHouse: version, schema, grants, the settings that could change what views say, clock and disk."""

from __future__ import annotations

import time
from collections.abc import Iterator

from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError

from deploy.doctor.finding import Finding, ok, problem, warning
from schemas.settings import Settings
from sinks.clickhouse.connection import ConnectionFailed, EngineInUse, connect
from sinks.clickhouse.schema import applied, current, is_replicated

PART = "clickhouse"
OLDEST = (25, 3)
CLOCK_SECONDS = 60
GIB = 1024**3
RIGHTS = ("SELECT", "INSERT", "SHOW TABLES")
"""What a worker needs on its database (deploy/grants/worker.sql)."""

OWNERS_RIGHTS = ("CREATE TABLE", "CREATE VIEW", "ALTER TABLE", "DROP TABLE", "DROP VIEW")
"""And who makes the schema, or brings it up to date (deploy/grants/owner.sql); CREATE DATABASE once as well."""

DEFAULTS = {
    "join_use_nulls": "0",
    "transform_null_in": "0",
    "aggregate_functions_null_for_empty": "0",
    "prefer_column_name_to_alias": "0",
    "union_default_mode": "",
    "final": "0",
}
"""Settings of a profile that change what a query means."""


def check_clickhouse(settings: Settings) -> Iterator[Finding]:
    """Looks, and changes nothing: a schema that is missing is left missing."""
    path = settings.embedded_path
    if path is not None and not path.exists():
        yield ok(PART, "connection", f"embedded; the first worker makes {path}")
        return
    try:
        client = connect(settings.clickhouse_dsn, None, wait=5)
    except EngineInUse as exc:
        yield problem(PART, "connection", str(exc), "end that process, or share its engine: `pingstream clickhouse`")
        return
    except ConnectionFailed as exc:
        yield problem(PART, "connection", str(exc), "look at PINGSTREAM_CLICKHOUSE, and whether it runs")
        return
    try:
        yield from _looks(client, settings)
    except ClickHouseError as exc:
        yield problem(
            PART, "connection", f"it refuses to answer: {str(exc)[:300]}", "allow this user to read system tables"
        )
    finally:
        client.close()


def _looks(client: Client, settings: Settings) -> Iterator[Finding]:
    version = str(client.query("SELECT version()").first_row[0])
    major, minor = (int(part) for part in version.split(".")[:2])
    where = "embedded" if settings.embedded_path is not None else "server"
    if (major, minor) < OLDEST:
        yield problem(PART, "version", f"{where} {version}", f"it must be {OLDEST[0]}.{OLDEST[1]} or newer")
    else:
        yield ok(PART, "version", f"{where} {version}")
    found = applied(client, settings.database)
    yield _schema(found, settings.database)
    if settings.replicated and found is not None and not is_replicated(client, settings.database):
        yield problem(
            PART, "replicas", f"{settings.database} was made without replicas, and stays so: this server alone has it",
            "start over with the tables dropped (docs/operations.md), or take the setting back",
        )  # fmt: skip
    yield _rights(client, settings.database, owner=found != current())
    yield from _settings(client)
    drift = float(client.query("SELECT toUnixTimestamp64Milli(now64(3))").first_row[0]) / 1000 - time.time()
    if abs(drift) > CLOCK_SECONDS:
        yield warning(
            PART, "clocks", f"its clock is {abs(drift):,.0f} s {'ahead of' if drift > 0 else 'behind'} this machine's",
            "set both by NTP: each takes its own midnight for the as-of day",
        )  # fmt: skip
    if not _may(client, "SELECT", "system.disks"):
        yield warning(
            PART, "disk", "this user may not see how full its disks are", "GRANT SELECT ON system.disks TO the user"
        )
        return
    for name, free, size in client.query("SELECT name, free_space, total_space FROM system.disks").result_rows:
        if size and free < max(GIB, size // 20):
            yield warning(PART, "disk", f"{free / GIB:,.1f} GiB free on its disk {name}", "make room")


def _schema(found: int | None, database: str) -> Finding:
    if found is None:
        return ok(PART, "schema", f"none in {database} yet: a worker or `pingstream migrate` makes it")
    if found > current():
        return problem(
            PART, "schema", f"{database} has schema {found}, this program knows {current()}",
            "run the newer version of Pingstream again",
        )  # fmt: skip
    if found < current():
        return ok(
            PART, "schema", f"{database} has schema {found}; a worker or `pingstream migrate` brings it to {current()}"
        )
    return ok(PART, "schema", f"{current()} in {database}")


def _rights(client: Client, database: str, *, owner: bool) -> Finding:
    """`owner`: the schema is to be made, or brought up to date."""
    missing = [right for right in RIGHTS if not _may(client, right, f"{database}.*")]
    if missing:
        return problem(
            PART, "grants", f"this user may not {', '.join(missing)} on {database}",
            f"GRANT {', '.join(missing)} ON {database}.* TO the user: deploy/grants/worker.sql",
        )  # fmt: skip
    if owner and (missing := [right for right in OWNERS_RIGHTS if not _may(client, right, f"{database}.*")]):
        return problem(
            PART, "grants", f"the schema is to be brought to {current()}, and this user may not {', '.join(missing)} on {database}",
            "let one who may (deploy/grants/owner.sql) run `pingstream migrate`",
        )  # fmt: skip
    return ok(PART, "grants", f"everything a worker needs on {database}")


def _may(client: Client, right: str, where: str) -> bool:
    return bool(int(client.query(f"CHECK GRANT {right} ON {where}").first_row[0]))


def _settings(client: Client) -> Iterator[Finding]:
    asked = [*DEFAULTS, "async_insert", "wait_for_async_insert", "readonly"]
    found = dict(
        client.query(
            "SELECT name, value FROM system.settings WHERE name IN {names:Array(String)}", parameters={"names": asked}
        ).result_rows
    )
    changed = [f"{name}={found[name]}" for name, usual in DEFAULTS.items() if found.get(name, usual) != usual]
    if changed:
        yield warning(
            PART, "settings", f"this user's profile changes what queries mean: {', '.join(changed)}",
            "use a profile with ClickHouse's defaults for Pingstream",
        )  # fmt: skip
    if found.get("async_insert") == "1" and found.get("wait_for_async_insert") == "0":
        yield problem(
            PART, "settings", "inserts are answered before they are kept (async_insert=1, wait_for_async_insert=0)",
            "set wait_for_async_insert=1 in this user's profile, or a crash of the server loses rows",
        )  # fmt: skip
    if found.get("readonly", "0") != "0":
        yield problem(PART, "settings", "this user can only read", "set readonly=0 in its profile: a worker writes")
    if not changed:
        yield ok(PART, "settings", "its profile leaves queries as they are meant")
