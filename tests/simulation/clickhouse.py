"""ClickHouse in memory: of each key the row of the highest version, as the views read the tables (FINAL).

Tables, their keys and the columns of their versions are those of the migrations.
"""

from __future__ import annotations

import re
from functools import cached_property
from typing import Any, NamedTuple

import pyarrow as pa
from clickhouse_connect.driver.exceptions import OperationalError

from sinks.clickhouse.schema import migrations
from tests.simulation.loop import VirtualLoop, current

DATABASE = "simulated"
Key = tuple[Any, ...]


class Table(NamedTuple):
    """The sorting key of a table, and the column of its versions; '' when the last row stands."""

    key: tuple[str, ...]
    version: str


def tables() -> dict[str, Table]:
    """Every table of the migrations."""
    found: dict[str, Table] = {}
    for migration in migrations():
        for name, engine, columns in re.findall(
            r"CREATE TABLE IF NOT EXISTS \{database\}\.(\w+)\n.*?\nENGINE = \{replacing(\w*)\}\n(?:PARTITION BY \S+\n)?"
            r"ORDER BY (.*?)\n",
            migration.sql,
            re.DOTALL,
        ):
            found[name] = Table(_columns(columns), engine.removeprefix("_"))
        for statement in migration.sql.split(";\n"):
            table = re.search(r"ALTER TABLE \{database\}\.(\w+)", statement)
            key = re.search(r"MODIFY ORDER BY (\([^)]*\))", statement)
            if table is not None and key is not None:
                found[table[1]] = found[table[1]]._replace(key=_columns(key[1]))
    return found


def _columns(key: str) -> tuple[str, ...]:
    return tuple(re.findall(r"\w+", key))


TABLES = tables()


class Block:
    """What one insert brought; its rows as Python has them are made once, when they are first asked for."""

    def __init__(self, table: pa.Table) -> None:
        self.table = table

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """Its rows."""
        rows: list[dict[str, Any]] = self.table.to_pylist()
        return rows


class Row(NamedTuple):
    """A row that stands: its version, where it is, and who wrote it."""

    version: int
    block: Block
    place: int
    writer: str

    def values(self) -> dict[str, Any]:
        """Its columns."""
        return dict(self.block.rows[self.place])

    def content(self, table: str) -> dict[Any, Any]:
        """What it says, without its version: its columns; of `usage_day` the figures by their names, and links in order."""
        row = self.values()
        row.pop(TABLES[table].version, None)
        if table == "billing_account":
            columns = [row.pop(f"link_{name}") for name in ("kind", "id", "subscription", "claimed")]
            row["links"] = sorted(zip(*columns, strict=True))
        if table != "usage_day":
            return row
        names, figures = row["names"], len(row["mau"])
        sessions = row["sessions"] or [-1] * len(names)
        return {
            name: (*((row["dau"][at], row["wau"][at], row["mau"][at]) if at < figures else ()), sessions[at])
            for at, name in enumerate(names)
        }


class ClickHouse:
    """The tables.

    Attributes:
        inserts: every block that was taken, in order.
        conflicts: rows of one key and version with different content, in words.
    """

    def __init__(self, loop: VirtualLoop) -> None:
        self.rows: dict[str, dict[Key, Row]] = {name: {} for name in TABLES}
        self.inserts: list[tuple[str, pa.Table]] = []
        self.conflicts: list[str] = []
        self._loop = loop

    def connect(self) -> Any:
        """A client."""
        return Client(self, self._loop)

    def take(self, name: str, block: pa.Table, writer: str) -> None:
        """Inserts a block."""
        self._loop.note("inserted", f"{name} {block.num_rows}", writer)
        self.inserts.append((name, block))
        table, standing = TABLES[name], self.rows[name]
        whole = Block(block)
        keys = zip(*(block.column(column).to_pylist() for column in table.key), strict=True)
        versions = block.column(table.version).to_pylist() if table.version else [0] * block.num_rows
        for place, (key, version) in enumerate(zip(keys, versions, strict=True)):
            row, known = Row(version, whole, place, writer), standing.get(key)
            if known is not None and known.version == version and known.writer != writer and name != "progress":
                before, now = known.content(name), row.content(name)
                if before != now:
                    self.conflicts.append(f"{name} {key}: {known.writer} wrote version {version} as {before}")
                    self.conflicts.append(f"  and {writer} as {now}")
            if known is None or known.version <= version:
                standing[key] = row

    def newest_epochs(self, topic: str) -> list[tuple[int, int]]:
        """(partition, highest version) of the rows of a topic in `progress`."""
        return [(key[1], row.version) for key, row in self.rows["progress"].items() if key[0] == topic]


class Client:
    """What `sinks.clickhouse.writer` asks of a client."""

    def __init__(self, clickhouse: ClickHouse, loop: VirtualLoop) -> None:
        self._clickhouse = clickhouse
        self._loop = loop

    def raw_insert(self, table: str, columns: list[str], data: bytes, settings: Any, form: str) -> None:
        """Takes a block, or fails before, after, or before it is taken all the same."""
        process = current()
        writer = process.name if process is not None else "-"
        name = table.removeprefix(f"{DATABASE}.")
        block = pa.ipc.open_stream(data).read_all()
        fails = self._loop.faults.sink_fails()
        if fails in (None, "after"):
            self._clickhouse.take(name, block, writer)
        elif fails == "late":
            self._loop.later(self._loop.faults.rng.random() * 20, self._clickhouse.take, name, block, writer)
        if fails is not None:
            self._loop.note(f"insert fails {fails}", name, writer)
            raise OperationalError(f"simulated: {fails}")

    def query(self, sql: str, parameters: dict[str, str]) -> Any:
        """`newest_epochs`, the one query there is."""
        assert "FROM simulated.progress" in sql
        if self._loop.faults.sink_fails() is not None:
            raise OperationalError("simulated")
        return _Result(self._clickhouse.newest_epochs(parameters["topic"]))

    def close(self) -> None:
        """Nothing is open."""


class _Result(NamedTuple):
    result_rows: list[tuple[int, int]]
