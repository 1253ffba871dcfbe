"""ClickHouse's HTTP interface in front of the embedded engine.

    with Door(path, port=8123) as door:          # or door.start() … door.stop()
        print(door.address)                      # http://127.0.0.1:8123

    Door(path, host="127.0.0.1", port=0, password=None, database="default", tls=None)

It may stand in the process of a worker that uses the engine itself, or alone (`pingstream clickhouse`). Spoken:
`GET /ping`, `/`, `/replicas_status`; statements in the URL, the body, or both; `database`, `default_format`,
`param_*`, every setting of the engine's; INSERT data in any format; packed bodies and answers; multipart forms with
external tables. Sessions are accepted and not kept: nothing of one request is seen by the next.

Not spoken: ClickHouse's own block compression (`compress=1`), which clients use only when told to.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import json
import logging
import secrets
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from aiohttp import web

from deploy.clickhouse import encoding, native
from deploy.clickhouse.errors import EngineError, http_status
from deploy.clickhouse.request import Order, authenticate, read_order, statement_and_data
from deploy.clickhouse.session import Answer, Session, kill
from sinks.clickhouse.connection import Engine, open_engine
from streams.web import expected

log = logging.getLogger(__name__)
T = TypeVar("T")

_URL = 1024 * 1024  # bytes of a request line, as ClickHouse's http_max_uri_size
_THREADS = 32  # statements at the same time; each waits in the engine with the interpreter's lock released
_GRACE = 2.0  # seconds that running statements have when the door closes


class Door:
    """The server; one `start` and one `stop`.

    Args:
        path: Folder of the embedded engine, which runs in this process then.
        host: Address to listen on.
        port: Port; 0 takes a free one.
        password: Password of the user `default`. Without one everybody who reaches the port is let in.
        database: Current database of requests that name none; it must exist.
        tls: Certificate and key, to speak https.
    """

    def __init__(
        self,
        path: Path,
        host: str = "127.0.0.1",
        port: int = 0,
        password: str | None = None,
        database: str = "default",
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.path = path
        self.password = password
        self._host, self._port, self._database = host, port, database
        self._tls = tls
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
        # What threads are doing for requests; the engine may not end before it has.
        self._work: set[asyncio.Future[Any]] = set()

    @property
    def address(self) -> str:
        """`http://host:port` (or https), once started."""
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
        scheme = "http" if self._tls is None else "https"
        self._address = f"{scheme}://{host}:{listener.getsockname()[1]}"
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
            app.router.add_route("*", "/{path:.*}", self._handle, expect_handler=expected)
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
            site = web.SockSite(runner, listener, ssl_context=self._tls)
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
        await self._end_statements()
        await runner.cleanup()
        await self._end_statements()

    async def _end_statements(self) -> None:
        """Every statement must end before the engine does, also one whose client has gone away."""
        while self._work:
            await asyncio.wrap_future(self._closers.submit(self._kill, self._mark))
            if self._work:
                await asyncio.wait(set(self._work), timeout=0.2)

    def _in_thread(self, function: Callable[..., T], *args: object) -> asyncio.Future[T]:
        work = asyncio.get_running_loop().run_in_executor(self._threads, function, *args)
        self._work.add(work)
        work.add_done_callback(self._work.discard)
        return work

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
        if request.path in ("/ping", "/replicas_status") or (request.path == "/" and not request.query_string):
            if request.method in ("GET", "HEAD"):
                return _plain(200, "Ok.\n")
        elif request.path != "/":
            return _plain(404, f"There is no handle {request.path}\nUse / or /ping for health checks.\n")
        if request.method not in ("GET", "HEAD", "POST"):
            return _plain(501, "Use GET to read, POST for the rest.\n")
        authenticate(request, self.password)
        order = await read_order(request, self._database)
        mark = self._mark + secrets.token_hex(8)
        work = self._in_thread(self._run, order, mark)
        try:
            answer, session = await asyncio.shield(work)
        except asyncio.CancelledError:
            order.abandoned = True
            work.add_done_callback(self._discard)
            # A query whose client is gone is of no use to anybody; what changes data is carried through.
            if order.statement is not None and order.statement.queries:
                self._closers.submit(self._kill, mark)
            raise
        headers = _headers(order, answer)
        pack = encoding.packer(order.packing) if order.packing else None
        if not answer.complete:
            return await self._send_blocks(request, answer, session, mark, headers, pack)
        whole = b"".join(answer.blocks)
        if pack is not None:
            whole = await self._in_thread(lambda: pack.compress(whole) + pack.flush())
        return web.Response(body=whole, headers=headers)

    async def _send_blocks(
        self,
        request: web.Request,
        answer: Answer,
        session: Session,
        mark: str,
        headers: dict[str, str],
        pack: Any,
    ) -> web.StreamResponse:
        tag = secrets.token_hex(8)
        response = web.StreamResponse(headers=headers | {"X-ClickHouse-Exception-Tag": tag})
        response.enable_chunked_encoding()
        pieces = answer.blocks if pack is None else _packed(answer.blocks, pack)
        pull: asyncio.Future[bytes | None] | None = None
        try:
            await response.prepare(request)
            while True:
                pull = self._in_thread(next, pieces, None)
                if (block := await asyncio.shield(pull)) is None:
                    break
                await response.write(block)
            await response.write_eof()
        except EngineError as exc:
            # The status is out already. The text goes into the answer between marks that the header announced, and
            # the connection closes before the answer's proper end.
            marked = _marked(exc, tag)
            await response.write(marked if pack is None else pack.compress(marked) + pack.flush())
            if request.transport is not None:
                request.transport.close()
        except ConnectionError as exc:
            log.debug("a client went away while it was answered: %s", exc)
        finally:
            if pull is None or pull.done():
                self._closers.submit(session.close)
            else:  # the client has gone; a handle that is at work is not closed but told to stop
                pull.add_done_callback(lambda _: self._closers.submit(session.close))
                self._closers.submit(self._kill, mark)
        return response

    # ---- the same request, in a thread of the pool

    def _run(self, order: Order, mark: str) -> tuple[Answer, Session]:
        assert self._engine is not None
        session = Session(self._engine, mark)
        lasting = False
        try:
            statement, data = statement_and_data(order)
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
            lasting = not answer.complete
            return answer, session
        except ValueError as exc:
            raise EngineError.of(117, "INCORRECT_DATA", str(exc)) from None
        finally:
            order.close()
            if not lasting:
                session.close()

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


def _headers(order: Order, answer: Answer) -> dict[str, str]:
    headers = {
        "Content-Type": _content_type(answer.format),
        "X-ClickHouse-Server-Display-Name": "pingstream",
        "X-ClickHouse-Query-Id": order.query_id,
        "X-ClickHouse-Timezone": order.settings.get("session_timezone") or "UTC",
        "X-ClickHouse-Summary": json.dumps({k: str(v) for k, v in (_NO_FIGURES | answer.summary).items()}),
    }
    if answer.format is not None:
        headers["X-ClickHouse-Format"] = answer.format
    if order.packing is not None:
        headers["Content-Encoding"] = order.packing
    return headers


def _packed(blocks: Iterator[bytes], pack: Any) -> Iterator[bytes]:
    for block in blocks:
        if piece := pack.compress(block):  # what the packer holds back comes with a later block
            yield piece
    if tail := pack.flush():
        yield tail


def _marked(error: EngineError, tag: str) -> bytes:
    text = f"{error}".encode(errors="replace")
    mark = tag.encode()
    return b"__exception__\r\n%b\r\n%b\n%d %b\r\n__exception__\r\n" % (mark, text, len(text) + 1, mark)


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
