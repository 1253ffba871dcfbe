"""The grants of deploy/grants: the engine's own parser takes them, and they are what the program needs, and no more.

The embedded engine keeps no users, so that they are obeyed is ClickHouse's part; what is asked for is seen here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from clickhouse_connect.driver.client import Client

from deploy.doctor.clickhouse import _looks
from schemas.settings import Settings
from sinks.clickhouse.connection import Engine, open_engine
from sinks.clickhouse.schema import LOCK, SchemaError, _locked, migrate, migrations
from sinks.clickhouse.writer import newest_epochs
from tests.running import KEYS, ROOT

FILES = sorted((ROOT / "deploy" / "grants").glob("*.sql"))
ANYBODYS = {"system.databases", "system.tables", "system.columns", "system.settings", "system.one"}
"""What every user of ClickHouse may read; of databases, tables and columns those that it may see."""

NEEDS = (
    (r"CREATE DATABASE", {"CREATE DATABASE"}),
    (r"CREATE TABLE", {"CREATE TABLE"}),
    (r"CREATE OR REPLACE VIEW", {"CREATE VIEW", "DROP VIEW"}),
    (r"ALTER TABLE", {"ALTER TABLE"}),
    (r"DROP TABLE", {"DROP TABLE"}),
    (r"DROP VIEW", {"DROP VIEW"}),
    (r"INSERT INTO", {"INSERT"}),
    (r"SELECT|WITH", {"SELECT"}),
    (r"CHECK GRANT|EXISTS", set[str]()),
)


def statements(name: str) -> list[str]:
    text = (ROOT / "deploy" / "grants" / f"{name}.sql").read_text()
    bare = "\n".join(line for line in text.splitlines() if not line.startswith("--"))
    return [" ".join(statement.split()) for statement in bare.split(";") if statement.strip()]


def granted(name: str) -> set[tuple[str, str]]:
    """(privilege, what it is on) of a file."""
    found = set()
    for statement in statements(name):
        if match := re.fullmatch(rf"GRANT (.+) ON (\S+) TO pingstream_{name}", statement):
            found |= {(privilege.strip(), match[2]) for privilege in match[1].split(",")}
    return found


def limits(name: str) -> dict[str, str]:
    """The settings of a role, without the most that they may be set to."""
    (settings,) = (one for one in statements(name) if one.startswith("ALTER ROLE"))
    return {match[1]: match[2] for match in re.finditer(r"(\w+) = '?(\w+)'?", settings)}


class Recording:
    """A client that notes the statements that go through it."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.statements: list[str] = []

    def __getattr__(self, name: str) -> Any:
        asked = getattr(self._client, name)
        if name not in ("query", "command"):
            return asked

        def note(statement: str, *args: Any, **kwargs: Any) -> Any:
            self.statements.append(statement)
            return asked(statement, *args, **kwargs)

        return note

    def needs(self) -> set[tuple[str, str]]:
        found: set[tuple[str, str]] = set()
        for statement in self.statements:
            (privileges,) = (some for verb, some in NEEDS if re.match(rf"\s*(?:{verb})\b", statement))
            systems = set(re.findall(r"\bsystem\.\w+", statement)) - ANYBODYS
            found |= {("SELECT", table) for table in systems}
            # What is computed from nothing, or of what everybody may read, needs no right.
            if privileges != {"SELECT"} or "pingstream." in statement:
                found |= {(privilege, "pingstream.*") for privilege in privileges}
        return found


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with open_engine(tmp_path_factory.mktemp("grants") / "clickhouse") as engine:
        yield engine


def test_they_are_what_the_program_asks_for(engine: Engine) -> None:
    """From nothing to the current schema by the owner; what a worker and the doctor then ask by the worker; what is left for
    readers."""
    owner = Recording(engine.client())
    for setting, value in limits("owner").items():
        owner.set_client_setting(setting, value)
    with_lock_waited_for(owner)
    assert len(migrate(owner, "pingstream")) == len(migrations())  # type: ignore[arg-type]
    # INSERT … SELECT and views read what they are made of; SHOW TABLES is for system.tables to tell of them.
    assert owner.needs() | {("SHOW TABLES", "pingstream.*")} == granted("owner")

    worker = Recording(engine.client())
    worker.set_client_setting("readonly", "2")
    assert migrate(worker, "pingstream") == []  # type: ignore[arg-type]
    newest_epochs(worker, "pingstream", "usage-pings")  # type: ignore[arg-type]
    list(_looks(worker, Settings(_env_file=None)))  # type: ignore[arg-type,call-arg]
    assert worker.needs() | {("SHOW TABLES", "pingstream.*"), ("INSERT", "pingstream.*")} == granted("worker")

    elsewhere = Recording(engine.client())
    with pytest.raises(SchemaError, match="knows no cluster"):
        migrate(elsewhere, "of_a_cluster", cluster="elsewhere")  # type: ignore[arg-type]
    assert elsewhere.needs() | {("CLUSTER", "*.*")} == granted("cluster")

    for name in ("analyst", "grafana"):
        readers_see_every_view_of_the_contract_through_its_definer_and_nothing_beneath(engine, name)
    answers_within_its_limits(engine, "grafana", set(KEYS))


def with_lock_waited_for(owner: Recording) -> None:
    """So that what one does who finds the lock of another, who was killed, is asked for, too."""
    owner.command("CREATE DATABASE IF NOT EXISTS pingstream", use_database=False)
    with _locked(owner, "pingstream"):  # type: ignore[arg-type]
        owner.command(f"ALTER TABLE pingstream.{LOCK} MODIFY COMMENT 'mine'")


def readers_see_every_view_of_the_contract_through_its_definer_and_nothing_beneath(engine: Engine, name: str) -> None:
    client = engine.client()
    engines = dict(client.query("SELECT name, engine FROM system.tables WHERE database = 'pingstream'").result_rows)
    seen: set[str] = set()
    for privilege, where in granted(name):
        assert privilege == "SELECT"
        pattern = re.fullmatch(r"pingstream\.(\w+\*?)", where)
        assert pattern is not None and pattern[1] != "*"
        matching = {table for table in engines if re.fullmatch(pattern[1].replace("*", ".*"), table)}
        assert matching, f"{where} is nothing"
        seen |= matching
    beneath = {"gap"} if name == "grafana" else set()  # dashboards mark gaps, which no view of the contract lists
    assert seen == KEYS.keys() | beneath
    assert {engines[table] for table in seen - beneath} == {"View"}
    for view in seen - beneath:
        assert "SQL SECURITY DEFINER" in client.query(f"SHOW CREATE VIEW pingstream.{view}").first_row[0]


def answers_within_its_limits(engine: Engine, name: str, views: set[str]) -> None:
    client = engine.client()
    for setting, value in limits(name).items():
        client.set_client_setting(setting, value)
    for view in sorted(views):
        client.query(f"SELECT * FROM pingstream.{view}")


def test_readers_can_change_nothing_and_have_limits() -> None:
    for name in ("analyst", "grafana"):
        found = limits(name)
        assert found["readonly"] == "2"
        assert found.keys() >= {
            "max_execution_time",
            "max_memory_usage",
            "max_result_rows",
            "max_concurrent_queries_for_user",
        }
        (settings,) = (one for one in statements(name) if one.startswith("ALTER ROLE"))
        assert settings.count(" MAX ") == len(found) - 1, (
            "with readonly = 2 a client may set what has no MAX to anything"
        )


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(Path(file).stem))
def test_the_engine_reads_them(engine: Engine, file: Path) -> None:
    client = engine.client()
    for statement in statements(file.stem):
        formatted = client.query("SELECT formatQuery({q:String})", parameters={"q": statement}).first_row[0]
        assert formatted.split()[0] == statement.split()[0]
        assert f"pingstream_{file.stem}" in statement
    assert len(granted(file.stem)) == sum(
        len(one.split(" ON ")[0].split(",")) for one in statements(file.stem) if one.startswith("GRANT")
    )
