"""One request's own handle on the embedded engine, and what the engine answers.

A handle costs 0.3 ms to open, so each request has a fresh one: no USE, SET, parameter or temporary table of one
request is seen by another, and requests run side by side.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from deploy.clickhouse.errors import EngineError
from deploy.clickhouse.statement import Statement
from sinks.clickhouse.connection import Engine

# Each block of these formats stands for itself, so an answer can go out block by block. The others have a head or
# a foot and are made in one piece.
_BLOCKWISE = {
    "native",
    "tabseparated",
    "tsv",
    "tabseparatedraw",
    "tsvraw",
    "csv",
    "rowbinary",
    "jsoneachrow",
    "jsoncompacteachrow",
}

# Bytes of an answer that are gathered before its head goes out. A small answer is whole by then: its length, its
# figures and an error late in the query still reach the head.
_AHEAD = 1024 * 1024

_LONG = 64 * 1024  # characters of parameters that fit into a statement of ordinary length, however they are quoted

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")


@dataclass
class Answer:
    """What a statement gave.

    Attributes:
        blocks: The bytes, in one or more pieces; unless `complete`, reading on may raise EngineError and needs the
            session still open.
        complete: All of them are here already, so nothing can go wrong any more.
        format: Output format; None for a statement that answers with no rows.
        summary: Figures for X-ClickHouse-Summary.
    """

    blocks: Iterator[bytes]
    complete: bool
    format: str | None = None
    summary: dict[str, int] = field(default_factory=dict)


class Session:
    """Not safe for threads at the same time; any thread may go on with it.

    Args:
        engine: The engine of this process.
        mark: Text that the session's statements carry, by which `kill` finds them.
    """

    def __init__(self, engine: Engine, mark: str) -> None:
        self._connection = engine.connection()
        self._stream: Any = None
        self._mark = mark

    def prepare(self, database: str | None, settings: dict[str, str], parameters: dict[str, str]) -> None:
        """Sets the current database, settings and query parameters.

        Raises:
            EngineError: an unknown database or setting, or a value that cannot be.
        """
        if database and database != "default":  # where a fresh handle is
            self._query(f"USE {_quote(database, '`')}")
        size = sum(map(len, parameters.values()))
        if size > _LONG:
            # over HTTP a parameter may be longer than a statement, here it comes in one
            self._settings(max_query_size=str(_LONG + 8 * size))
        given = {f"param_{name}": value for name, value in parameters.items()}
        self._settings(**given | settings | {"log_comment": self._mark})

    def read_only(self) -> None:
        """From here on data stay as they are; call it last."""
        self._settings(readonly="2")

    def temporary_table(self, name: str, structure: str, input_format: str, data: Iterator[bytes]) -> None:
        """A table of this session only, filled with `data`."""
        self._query(f"CREATE TEMPORARY TABLE {_quote(name, '`')} ({structure}) ENGINE = Memory")
        self._insert(f"INSERT INTO {_quote(name, '`')}", input_format, data)

    def run(self, statement: Statement, data: Iterator[bytes], default_format: str, *, blockwise: bool) -> Answer:
        """Runs one statement.

        Args:
            statement: What to run.
            data: Bytes for an INSERT that carries data, in its input format.
            default_format: Format of the answer where the statement names none.
            blockwise: Give a large answer out while it is made, where the format allows.

        Raises:
            EngineError: the engine refuses, or the data are not what the format says.
        """
        if statement.input_format is not None:
            return self._insert(statement.text.decode(errors="surrogateescape"), statement.input_format, data)
        output_format = statement.output_format or default_format
        if blockwise and statement.queries and not statement.totals and output_format.lower() in _BLOCKWISE:
            return self._blocks(statement.text, output_format)
        result = self._query(statement.text, output_format)
        body = result.bytes()
        return Answer(
            blocks=iter([body] if body else []),
            complete=True,
            # SHOW TABLES without a table answers as well, with nothing; CREATE does not
            format=output_format if statement.answers or body else None,
            summary=_read_summary(result),
        )

    def close(self) -> None:
        """Ends the session and an answer that is still being made; harmless when it has ended."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _blocks(self, text: bytes, output_format: str) -> Answer:
        ahead: list[bytes] = []
        size = 0
        chunk = None
        try:
            stream = self._stream = self._connection.send_query(text, output_format)
            while size < _AHEAD and (following := stream.fetch()) is not None:
                chunk = following
                ahead.append(chunk.bytes())
                size += len(ahead[-1])
        except RuntimeError as exc:
            raise EngineError.read(exc) from None
        if size < _AHEAD:
            summary = _read_summary(chunk) if chunk is not None else {}
            return Answer(
                blocks=iter(ahead), complete=True, format=output_format, summary=summary | {"result_bytes": size}
            )
        return Answer(blocks=_chain(ahead, stream), complete=False, format=output_format)

    def _insert(self, head: str, input_format: str, data: Iterator[bytes]) -> Answer:
        inserter = None
        begun = time.monotonic_ns()
        try:
            inserter = self._connection.send_insert(head, input_format)
            for chunk in data:
                inserter.append(chunk)
            result = inserter.finish()
        except RuntimeError as exc:
            raise EngineError.read(exc) from None
        finally:
            if inserter is not None:
                inserter.cancel()  # without effect after `finish`
        rows, size = result.rows_written, result.bytes_written
        summary = {"read_rows": rows, "read_bytes": size, "written_rows": rows, "written_bytes": size}
        summary["elapsed_ns"] = time.monotonic_ns() - begun
        return Answer(blocks=iter(()), complete=True, summary=summary)

    def _settings(self, **settings: str) -> None:
        for name in settings:
            if not _NAME.fullmatch(name):
                raise EngineError.of(115, "UNKNOWN_SETTING", f"Unknown setting {name!r}.")
        if settings:
            self._query("SET " + ", ".join(f"{name} = {_quote(value)}" for name, value in settings.items()))

    def _query(self, text: str | bytes, output_format: str = "TabSeparated") -> Any:
        try:
            return self._connection.query(text, output_format)
        except RuntimeError as exc:
            raise EngineError.read(exc) from None


def _chain(ahead: list[bytes], stream: Any) -> Iterator[bytes]:
    yield from ahead
    try:
        while (chunk := stream.fetch()) is not None:
            yield chunk.bytes()
    except RuntimeError as exc:
        raise EngineError.read(exc) from None


def kill(engine: Engine, marks: str) -> None:
    """Ends the running statements whose mark begins with `marks`; they fail with QUERY_WAS_CANCELLED."""
    connection = engine.connection()
    try:
        connection.query(f"KILL QUERY WHERE startsWith(Settings['log_comment'], {_quote(marks)}) ASYNC", "Null")
    finally:
        connection.close()


def _quote(text: str, mark: str = "'") -> str:
    return mark + text.replace("\\", "\\\\").replace(mark, "\\" + mark) + mark


def _read_summary(result: Any) -> dict[str, int]:
    return {
        "read_rows": result.storage_rows_read(),
        "read_bytes": result.storage_bytes_read(),
        "written_rows": result.rows_written(),
        "written_bytes": result.bytes_written(),
        "result_rows": result.rows_read(),
        "result_bytes": result.size(),
        "elapsed_ns": int(result.elapsed() * 1e9),
    }
