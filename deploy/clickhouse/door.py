"""ClickHouse's HTTP interface in front of the embedded engine.

    with Door(path, port=8123) as door:          # or door.start() … door.stop()
        print(door.address)                      # http://127.0.0.1:8123

    Door(path, host="127.0.0.1", port=0, password=None, database="default")

It may stand in the process of a worker that uses the engine itself, or alone (`pingstream clickhouse`). Spoken:
`GET /ping`, `/`, `/replicas_status`; statements in the URL, the body, or both; `database`, `default_format`,
`param_*`, every setting of the engine's; INSERT data in any format; packed bodies and answers; multipart forms with
external tables. Sessions are accepted and not kept: nothing of one request is seen by the next.

Not spoken: ClickHouse's own block compression (`compress=1`), which clients use only when told to.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import concurrent.futures
import hmac
import json
import logging
import secrets
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, TypeVar
from urllib.parse import urlsplit

from aiohttp import BodyPartReader, web

from deploy.clickhouse import encoding, native
from deploy.clickhouse.session import Answer, EngineError, Session, kill
from deploy.clickhouse.statement import Statement, read_statement
from sinks.clickhouse.connection import Engine, open_engine

log = logging.getLogger(__name__)
T = TypeVar("T")

_SPOOL = 16 * 1024 * 1024  # bytes of a body that stay in memory; more go to a temporary file
_HEAD = 256 * 1024  # bytes in which an INSERT must come to its data, as ClickHouse's max_query_size
_STATEMENT = 64 * 1024 * 1024  # bytes of any other statement
_URL = 1024 * 1024  # bytes of a request line, as ClickHouse's http_max_uri_size
_THREADS = 32  # statements at the same time; each waits in the engine with the interpreter's lock released
_GRACE = 2.0  # seconds that running statements have when the door closes

# Parameters of the HTTP interface that are no settings of the engine.
_OF_HTTP = {
    "query", "database", "default_format", "user", "password", "quota_key", "query_id", "session_id",
    "session_timeout", "session_check", "close_session", "role", "stacktrace", "compress", "decompress",
    "client_protocol_version", "buffer_size", "wait_end_of_query", "enable_http_compression", "log_comment",
}  # fmt: skip

_NOT_FOUND = {
    "UNKNOWN_TABLE", "UNKNOWN_FUNCTION", "UNKNOWN_IDENTIFIER", "UNKNOWN_TYPE", "UNKNOWN_STORAGE", "UNKNOWN_DATABASE",
    "UNKNOWN_SETTING", "UNKNOWN_AGGREGATE_FUNCTION", "UNKNOWN_FORMAT", "UNKNOWN_DATABASE_ENGINE", "UNKNOWN_ROLE",
    "UNKNOWN_TYPE_OF_QUERY", "UNKNOWN_DIRECTION_OF_SORTING",
}  # fmt: skip
_BAD_REQUEST = {
    "SYNTAX_ERROR", "TYPE_MISMATCH", "INCORRECT_DATA", "BAD_ARGUMENTS", "ILLEGAL_TYPE_OF_ARGUMENT", "ILLEGAL_COLUMN",
    "NUMBER_OF_ARGUMENTS_DOESNT_MATCH", "NO_SUCH_COLUMN_IN_TABLE", "DUPLICATE_COLUMN", "UNKNOWN_QUERY_PARAMETER",
    "BAD_QUERY_PARAMETER", "NUMBER_OF_COLUMNS_DOESNT_MATCH", "NO_COMMON_TYPE", "TOO_LARGE_STRING_SIZE",
    "VALUE_IS_OUT_OF_RANGE_OF_DATA_TYPE", "ATTEMPT_TO_READ_AFTER_EOF", "UNEXPECTED_END_OF_FILE", "NOT_AN_AGGREGATE",
}  # fmt: skip
_REFUSED = {"AUTHENTICATION_FAILED", "REQUIRED_PASSWORD", "WRONG_PASSWORD", "UNKNOWN_USER", "ACCESS_DENIED"}


def http_status(error: EngineError) -> int:
    """The status that ClickHouse's HTTP interface gives for an error."""
    if error.name in _REFUSED:
        return 403
    if error.name in _NOT_FOUND:
        return 404
    if error.name in _BAD_REQUEST or error.name.startswith(("CANNOT_PARSE", "CANNOT_READ")):
        return 400
    return 500


@dataclass
class _Order:
    """A request, read."""

    mark: str
    query_id: str
    url_query: bytes
    body: IO[bytes]
    encoding: str
    database: str | None
    default_format: str
    settings: dict[str, str]
    parameters: dict[str, str]
    read_only: bool
    blockwise: bool
    packing: str | None
    native_revision: int
    tables: dict[str, _ExternalTable] = field(default_factory=dict)
    statement: Statement | None = None  # once it is read
    abandoned: bool = False  # its client has gone away


@dataclass
class _ExternalTable:
    structure: str
    input_format: str
    data: IO[bytes]


class Door:
    """The server; one `start` and one `stop`.

    Args:
        path: Folder of the embedded engine, which runs in this process then.
        host: Address to listen on.
        port: Port; 0 takes a free one.
        password: Password of the user `default`. Without one everybody who reaches the port is let in.
        database: Current database of requests that name none; it must exist.
    """

    def __init__(
        self, path: Path, host: str = "127.0.0.1", port: int = 0, password: str | None = None, database: str = "default"
    ) -> None:
        self.path = path
        self.password = password
        self._host, self._port, self._database = host, port, database
        self._mark = f"door-{secrets.token_hex(8)}-"
        self._address = ""
        self._stopping = False
        self._engine: Engine | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._wanted_stop = asyncio.Event()
        self._threads = concurrent.futures.ThreadPoolExecutor(_THREADS, thread_name_prefix="clickhouse-door")
        # Ending and closing must not queue behind the statements that they end.
        self._closers = concurrent.futures.ThreadPoolExecutor(2, thread_name_prefix="clickhouse-door-close")
        self._work: set[asyncio.Future[tuple[Answer, Session]]] = set()

    @property
    def address(self) -> str:
        """`http://host:port`, once started."""
        return self._address

    def start(self) -> None:
        """Opens the engine and the port; returns when it answers.

        Raises:
            OSError: the port cannot be had.
            EngineInUse: another process runs the engine.
        """
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        listener = socket.create_server((self._host, self._port), family=family, backlog=256)
        try:
            self._engine = open_engine(self.path)
        except BaseException:
            listener.close()
            raise
        host = f"[{self._host}]" if ":" in self._host else self._host
        self._address = f"http://{host}:{listener.getsockname()[1]}"
        ready: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._serve(listener, ready)), name="clickhouse-door", daemon=True
        )
        self._thread.start()
        try:
            ready.result(timeout=30)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Takes no more requests, gives running ones a moment, ends them, and closes its share of the engine."""
        if self._thread is not None:
            if self._loop is not None and self._thread.is_alive():
                self._loop.call_soon_threadsafe(self._wanted_stop.set)
            self._thread.join()
            self._thread = None
        self._threads.shutdown()
        self._closers.shutdown()
        if self._engine is not None:
            self._engine.close()
            self._engine = None

    def __enter__(self) -> Door:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    async def _serve(self, listener: socket.socket, ready: concurrent.futures.Future[None]) -> None:
        try:
            self._loop = asyncio.get_running_loop()
            app = web.Application()
            app.router.add_route("*", "/{path:.*}", self._handle)
            runner = web.AppRunner(
                app,
                access_log=None,
                handler_cancellation=True,  # a client that goes away ends its query
                auto_decompress=False,
                max_line_size=_URL,
                max_field_size=_URL,
                shutdown_timeout=1.0,  # for answers on their way; statements have had theirs by then
            )
            await runner.setup()
            site = web.SockSite(runner, listener)
            await site.start()
        except BaseException as exc:
            ready.set_exception(exc)
            raise
        ready.set_result(None)
        await self._wanted_stop.wait()
        self._stopping = True
        await site.stop()
        if self._work:
            await asyncio.wait(set(self._work), timeout=_GRACE)
        # Every statement must end before the engine does, also one whose request has been given up.
        while self._work:
            await asyncio.wrap_future(self._closers.submit(self._kill, self._mark))
            if self._work:
                await asyncio.wait(set(self._work), timeout=0.2)
        await runner.cleanup()

    def _in_thread(self, function: Callable[..., T], *args: object) -> asyncio.Future[T]:
        return asyncio.get_running_loop().run_in_executor(self._threads, function, *args)

    # ---- one request, in the event loop

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        try:
            return await self._answer(request)
        except EngineError as exc:
            return _refusal(exc)
        except (asyncio.CancelledError, ConnectionError):
            raise
        except Exception as exc:
            log.exception("a request failed")
            return _refusal(EngineError.of(1002, "UNKNOWN_EXCEPTION", f"{type(exc).__name__}: {exc}"))

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        _refuse_foreign_pages(request)
        if request.path in ("/ping", "/replicas_status") or (request.path == "/" and not request.query_string):
            if request.method in ("GET", "HEAD"):
                return _plain(200, "Ok.\n")
        elif request.path != "/":
            return _plain(404, f"There is no handle {request.path}\nUse / or /ping for health checks.\n")
        if request.method not in ("GET", "HEAD", "POST"):
            return _plain(501, "Use GET to read, POST for the rest.\n")
        self._authenticate(request)
        order = await self._read(request)
        work = self._in_thread(self._run, order)
        self._work.add(work)
        work.add_done_callback(self._work.discard)
        try:
            answer, session = await asyncio.shield(work)
        except asyncio.CancelledError:
            work.add_done_callback(self._discard)
            order.abandoned = True
            # A query whose client is gone is of no use to anybody; what changes data is carried through.
            if self._stopping or (order.statement is not None and order.statement.queries):
                self._closers.submit(self._kill, order.mark)
            raise
        try:
            return await self._send(request, order, answer)
        finally:
            self._closers.submit(session.close)

    def _authenticate(self, request: web.Request) -> None:
        if self.password is None:
            return
        user, password = "default", ""
        scheme, _, credentials = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "basic":
            try:
                user, _, password = base64.b64decode(credentials, validate=True).decode().partition(":")
            except (binascii.Error, UnicodeDecodeError):
                user = ""
        elif "X-ClickHouse-User" in request.headers or "X-ClickHouse-Key" in request.headers:
            user = request.headers.get("X-ClickHouse-User", "default")
            password = request.headers.get("X-ClickHouse-Key", "")
        else:
            user, password = request.query.get("user", "default"), request.query.get("password", "")
        right = hmac.compare_digest(password.encode(), self.password.encode())
        if user != "default" or not right:
            raise EngineError.of(
                516,
                "AUTHENTICATION_FAILED",
                f"{user}: Authentication failed: password is incorrect, or there is no user with such name.",
            )

    async def _read(self, request: web.Request) -> _Order:
        given: dict[str, str] = dict(request.query)
        body = _spool()
        files: dict[str, IO[bytes]] = {}
        if request.content_type == "multipart/form-data":
            form, files = await _read_form(request)
            given |= form
        else:
            async for piece in request.content.iter_any():
                body.write(piece)
            body.seek(0)
        for name in ("compress", "decompress"):
            if given.get(name, "0") not in ("0", "false"):
                raise EngineError.of(
                    344,
                    "SUPPORT_IS_DISABLED",
                    f"{name}=1 is not spoken here; use Content-Encoding and Accept-Encoding.",
                )
        tables: dict[str, _ExternalTable] = {}
        for name, data in files.items():
            structure = given.pop(f"{name}_structure", None) or _structure_of(given.pop(f"{name}_types", ""))
            tables[name] = _ExternalTable(structure, given.pop(f"{name}_format", "TabSeparated"), data)
        headers = request.headers
        packed = given.get("enable_http_compression", "0") in ("1", "true")
        revision = given.get("client_protocol_version", "0")
        return _Order(
            mark=self._mark + secrets.token_hex(8),
            query_id=given.get("query_id") or secrets.token_hex(16),
            url_query=given.get("query", "").encode(errors="surrogateescape"),
            body=body,
            encoding=headers.get("Content-Encoding", "").lower(),
            database=given.get("database") or headers.get("X-ClickHouse-Database") or self._database,
            default_format=given.get("default_format") or headers.get("X-ClickHouse-Format") or "TabSeparated",
            settings={k: v for k, v in given.items() if k not in _OF_HTTP and not k.startswith("param_")},
            parameters={k.removeprefix("param_"): v for k, v in given.items() if k.startswith("param_")},
            read_only=request.method != "POST",
            blockwise=given.get("wait_end_of_query", "0") not in ("1", "true") and given.get("extremes", "0") == "0",
            packing=encoding.choose_packing(headers.get("Accept-Encoding", "")) if packed else None,
            native_revision=int(revision) if revision.isdigit() else 0,
            tables=tables,
        )

    async def _send(self, request: web.Request, order: _Order, answer: Answer) -> web.StreamResponse:
        headers = {
            "Content-Type": _content_type(answer.format),
            "X-ClickHouse-Server-Display-Name": "pingstream",
            "X-ClickHouse-Query-Id": order.query_id,
            "X-ClickHouse-Timezone": order.settings.get("session_timezone") or "UTC",
            "X-ClickHouse-Summary": json.dumps({k: str(v) for k, v in (_NO_FIGURES | answer.summary).items()}),
        }
        if answer.format is not None:
            headers["X-ClickHouse-Format"] = answer.format
        pack = encoding.packer(order.packing) if order.packing else None
        if order.packing:
            headers["Content-Encoding"] = order.packing
        if answer.complete:
            whole = b"".join(answer.blocks)
            if pack is not None:
                whole = await self._in_thread(lambda: pack.compress(whole) + pack.flush())
            return web.Response(body=whole, headers=headers)

        # What goes wrong from here on cannot change the status any more. The text goes into the answer between
        # marks that the header announces, and the connection closes before the answer's proper end.
        tag = secrets.token_hex(8)
        response = web.StreamResponse(headers=headers | {"X-ClickHouse-Exception-Tag": tag})
        response.enable_chunked_encoding()
        try:
            await response.prepare(request)
            while (block := await self._in_thread(next, answer.blocks, None)) is not None:
                if pack is not None:
                    block = await self._in_thread(pack.compress, block)
                await response.write(block)
            if pack is not None:
                await response.write(pack.flush())
            await response.write_eof()
        except EngineError as exc:
            text = f"{exc}".encode(errors="replace")
            marked = b"__exception__\r\n%b\r\n%b\n%d %b\r\n__exception__\r\n" % (
                tag.encode(),
                text,
                len(text) + 1,
                tag.encode(),
            )
            await response.write(marked if pack is None else pack.compress(marked) + pack.flush())
            if request.transport is not None:
                request.transport.close()
        return response

    # ---- the same request, in a thread of the pool

    def _run(self, order: _Order) -> tuple[Answer, Session]:
        assert self._engine is not None
        session = Session(self._engine, order.mark)
        try:
            statement, data = _statement_and_data(order)
            _refuse_what_has_no_place(statement)
            order.statement = statement
            session.prepare(order.database, order.settings, order.parameters)
            for name, table in order.tables.items():
                session.temporary_table(name, table.structure, table.input_format, encoding.unpacked(table.data, ""))
            if order.read_only:
                session.read_only()
            if order.abandoned and statement.queries:
                raise EngineError.of(394, "QUERY_WAS_CANCELLED", "The client has gone away.")
            answer = session.run(statement, data, order.default_format, blockwise=order.blockwise)
            if (answer.format or "").lower() == "native" and order.native_revision >= native.FIRST_REVISION:
                answer.blocks = _with_headers(answer.blocks)
                if answer.complete:
                    answer.blocks = iter(list(answer.blocks))
            return answer, session
        except ValueError as exc:
            session.close()
            raise EngineError.of(117, "INCORRECT_DATA", str(exc)) from None
        except BaseException:
            session.close()
            raise
        finally:
            order.body.close()
            for table in order.tables.values():
                table.data.close()

    def _discard(self, work: asyncio.Future[tuple[Answer, Session]]) -> None:
        """The answer to a request whose client is gone."""
        if not work.cancelled() and work.exception() is None:
            self._closers.submit(work.result()[1].close)

    def _kill(self, marks: str) -> None:
        if self._engine is not None:
            try:
                kill(self._engine, marks)
            except RuntimeError as exc:
                log.warning("a statement could not be ended: %s", exc)


_NO_FIGURES = {
    "read_rows": 0, "read_bytes": 0, "written_rows": 0, "written_bytes": 0, "total_rows_to_read": 0,
    "result_rows": 0, "result_bytes": 0, "elapsed_ns": 0,
}  # fmt: skip


def _statement_and_data(order: _Order) -> tuple[Statement, Iterator[bytes]]:
    """The statement, and the data behind it: URL and body are one text, with a line break between them."""
    content = encoding.unpacked(order.body, order.encoding)
    head = order.url_query + b"\n" if order.url_query and not order.url_query.endswith(b"\n") else order.url_query
    limit = len(head) + _HEAD
    for piece in content:
        head += piece
        if len(head) >= limit:
            break
    statement = read_statement(head)
    if statement.input_format is not None:
        return statement, _data(head[statement.data_from :], content)
    rest = [head]
    size = len(head)
    for piece in content:
        rest.append(piece)
        size += len(piece)
        if size > _STATEMENT:
            raise EngineError.of(62, "SYNTAX_ERROR", f"the statement is longer than {_STATEMENT} bytes")
    statement = read_statement(b"".join(rest)) if len(rest) > 1 else statement
    if not statement.text:
        raise EngineError.of(62, "SYNTAX_ERROR", "Empty query")
    return statement, iter(())


def _data(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    if first:
        yield first
    yield from rest


def _refuse_what_has_no_place(statement: Statement) -> None:
    if statement.several:
        raise EngineError.of(62, "SYNTAX_ERROR", "Multi-statements are not allowed: send one statement a request.")
    if statement.local_file:
        raise EngineError.of(358, "INTO_OUTFILE_NOT_ALLOWED", "INTO OUTFILE and FROM INFILE are not allowed here.")


def _refuse_foreign_pages(request: web.Request) -> None:
    """A browser lets any web page post to a port of this machine; such requests carry the page's origin."""
    origin = request.headers.get("Origin")
    if origin and urlsplit(origin).hostname not in ("localhost", "127.0.0.1", "::1"):
        raise EngineError.of(497, "ACCESS_DENIED", f"Requests of web pages from {origin[:100]} are not served.")


async def _read_form(request: web.Request) -> tuple[dict[str, str], dict[str, IO[bytes]]]:
    fields: dict[str, str] = {}
    files: dict[str, IO[bytes]] = {}
    reader = await request.multipart()
    while (part := await reader.next()) is not None:
        if not isinstance(part, BodyPartReader) or not part.name:
            continue
        if part.filename is None:
            fields[part.name] = (await part.read()).decode(errors="surrogateescape")
            continue
        file = _spool()
        while piece := await part.read_chunk(1024 * 1024):
            file.write(piece)
        file.seek(0)
        files[part.name] = file
    return fields, files


def _spool() -> IO[bytes]:
    return tempfile.SpooledTemporaryFile(max_size=_SPOOL)


def _structure_of(types: str) -> str:
    return ", ".join(f"_{number} {name}" for number, name in enumerate(types.split(","), 1))


def _with_headers(blocks: Iterator[bytes]) -> Iterator[bytes]:
    for block in blocks:
        try:
            yield native.with_headers(block)
        except ValueError as exc:
            raise EngineError.of(48, "NOT_IMPLEMENTED", str(exc)) from None


def _content_type(output_format: str | None) -> str:
    name = (output_format or "").lower()
    if "eachrow" in name:
        return "application/x-ndjson; charset=UTF-8"
    if name.startswith("json"):
        return "application/json; charset=UTF-8"
    if name.startswith("csv"):
        return "text/csv; charset=UTF-8"
    if name.startswith(("tsv", "tabseparated")):
        return "text/tab-separated-values; charset=UTF-8"
    if name in ("native", "rowbinary", "arrow", "arrowstream", "parquet", "orc", "avro"):
        return "application/octet-stream"
    return "text/plain; charset=UTF-8"


def _plain(status: int, text: str) -> web.Response:
    return web.Response(status=status, text=text, headers={"X-ClickHouse-Timezone": "UTC"})


def _refusal(error: EngineError) -> web.Response:
    return web.Response(
        status=http_status(error),
        text=f"{error}\n",
        headers={"X-ClickHouse-Exception-Code": str(error.code), "X-ClickHouse-Timezone": "UTC"},
    )
