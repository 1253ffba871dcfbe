"""The HTTP ends: ClickHouse's door and the worker's web end, called by whom one does not know."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import logging
import socket
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, urlsplit

from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web_protocol import PayloadAccessError, RequestPayloadError
from hypothesis import strategies as st

from deploy.clickhouse.door import Door
from schemas.settings import Settings
from sinks.prometheus import Metrics
from streams.web import Web

STATEMENTS = [
    "SELECT 1", "SELECT {x:UInt8}", "SELECT {s:String} AS s FORMAT JSON", "SELECT number FROM system.numbers LIMIT 3",
    "INSERT INTO FUNCTION null('n UInt32, s String') FORMAT JSONEachRow", "INSERT INTO FUNCTION null('n UInt32') FORMAT CSV",
    "INSERT INTO FUNCTION null('n UInt32') VALUES (1)", "SELECT * FROM t", "SELEC", "", ";", "--", "/*", "SELECT 'x", "\x00", "💡",
    "EXISTS DATABASE nowhere", "SELECT 1 FORMAT Native", "SELECT 1 INTO OUTFILE '/nowhere/x'",
]  # fmt: skip
NAMES = [
    "query", "database", "default_format", "user", "password", "session_id", "query_id", "param_x", "param_s", "compress",
    "decompress", "max_threads", "max_block_size", "wait_end_of_query", "enable_http_compression", "client_protocol_version", "x",
    "readonly", "role", "async_insert", "session_timezone", "max_execution_time", "log_comment",
]  # fmt: skip
HEADERS = [
    "Content-Type: multipart/form-data; boundary=b", "Content-Type: multipart/form-data", "Content-Type: text/plain", "Content-Encoding: gzip",
    "Content-Encoding: zstd", "Content-Encoding: lz4", "Content-Encoding: br", "Content-Encoding: x", "Accept-Encoding: gzip, zstd, x;q=0",
    "Accept-Encoding: zstd", "Authorization: Basic !!", "Authorization: Basic ZGVmYXVsdDo=", "Authorization: Bearer x", "X-ClickHouse-User: default",
    "X-ClickHouse-Key: \xff", "X-ClickHouse-Format: JSON", "X-ClickHouse-Database: nowhere", "Origin: http://evil.example", "Origin: [",
    "Expect: 100-continue", "Transfer-Encoding: chunked", "Range: bytes=0-1",
]  # fmt: skip
BODIES = [
    b"", b'{"n": 1, "s": "x"}\n', b'{"n": -1}', b"1\n2\n", b"\x00" * 100, b"x" * 200_000, gzip.compress(b'{"n": 1}'), gzip.compress(b"")[:9],
    b"\x28\xb5\x2f\xfd", b'--b\r\nContent-Disposition: form-data; name="query"\r\n\r\nSELECT 1\r\n--b--\r\n',
    b'--b\r\nContent-Disposition: form-data; name="t"; filename="t"\r\n\r\n1\n\r\n--b--\r\n', b"--b\r\n\r\n", b"SELECT 2", b"5\r\nSELEC\r\n0\r\n\r\n",
]  # fmt: skip


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """A request as it comes over the wire, most of them nearly right."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=500))
    method = draw(st.sampled_from(["GET", "POST", "POST", "POST", "HEAD", "PUT", "OPTIONS", "DELETE", "X" * 30]))
    path = draw(
        st.sampled_from(
            [
                "/",
                "/",
                "/",
                "/ping",
                "/metrics",
                "/healthz",
                "/readyz",
                "/replicas_status",
                "/../x",
                "//",
                "/%00",
                "/%zz",
            ]
        )
    )
    text = (
        st.sampled_from(STATEMENTS)
        | st.sampled_from(["0", "1", "-1", "1e9", "default", "'", "\\"])
        | st.text(max_size=50)
    )
    query = "&".join(
        f"{draw(st.sampled_from(NAMES))}={quote(draw(text), errors='replace')}" for _ in range(draw(st.integers(0, 4)))
    )
    body = draw(st.sampled_from(BODIES) | st.sampled_from(STATEMENTS).map(str.encode) | st.binary(max_size=300))
    lines = [f"{method} {path}{'?' + query if query else ''} HTTP/1.1", "Host: x"]
    lines += draw(st.lists(st.sampled_from(HEADERS), max_size=3))
    if draw(st.integers(0, 9)):
        lines.append(f"Content-Length: {len(body) + draw(st.sampled_from([0, 0, 0, 0, -1, 7]))}")
    request = "\r\n".join([*lines, "Connection: close", "", ""]).encode("latin1", "replace") + body
    if draw(st.integers(0, 4)) == 0:
        at = draw(st.integers(0, len(request)))
        request = request[:at] + draw(st.binary(max_size=5)) + request[at + draw(st.integers(0, 5)) :]
    return request


PATIENCE = 0.5
"""Seconds after which a request is taken for one without its end."""

NOT_OURS = (HttpProcessingError, PayloadAccessError, RequestPayloadError, ConnectionError)


class _Errors(logging.Handler):
    """Keeps what is logged as an error: an exception that left a handler. What is no HTTP, or nobody waits for any more, aiohttp sees to."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.seen: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info is None or not isinstance(record.exc_info[1], NOT_OURS):
            self.seen.append(self.format(record))


class Ends:
    """Both ends on free ports of this machine."""

    def __init__(self, door: str, web: str) -> None:
        self.door, self.web = door, web
        self.errors = _Errors()

    def call(self, end: str, request: bytes) -> None:
        """Sends a request and takes the answer: a status below 500, ClickHouse's own refusal, or no more than the end of it."""
        self.errors.seen.clear()
        answer = _exchange(end, request)
        assert not self.errors.seen, self.errors.seen[0]
        status = answer.split(b" ", 2)[1] if answer.startswith(b"HTTP/1.") else b""
        assert status != b"500" or b"DB::Exception" in answer or b"Code:" in answer, answer[:500]
        assert b"UNKNOWN_EXCEPTION" not in answer and b"Traceback" not in answer, answer[:2000]

    def check(self) -> None:
        """Both still answer."""
        for end, path in ((self.door, "/ping"), (self.web, "/healthz")):
            answer = _exchange(end, f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            assert answer.startswith(b"HTTP/1.1 200"), answer[:200]


def _exchange(end: str, request: bytes) -> bytes:
    """The whole answer; of a request without its end what comes once we hang up."""
    place = urlsplit(end)
    answer = b""
    with contextlib.suppress(ConnectionError), socket.create_connection((place.hostname, place.port)) as link:
        link.settimeout(PATIENCE)
        link.sendall(request)
        while True:
            try:
                piece = link.recv(65536)
            except TimeoutError:
                link.settimeout(20)
                link.shutdown(socket.SHUT_WR)
                continue
            if not piece:
                break
            answer += piece
    return answer


async def _end_tasks() -> None:
    """Ends what still serves those who left in the middle."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@contextlib.contextmanager
def open_ends() -> Iterator[Ends]:
    """Starts both ends in this process."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    web = Web(Settings(_env_file=None), Metrics("fuzz"), lambda: None, lambda: None)  # type: ignore[call-arg]
    asyncio.run_coroutine_threadsafe(web.start("127.0.0.1", 0, or_any=True), loop).result(30)
    with tempfile.TemporaryDirectory(prefix="pingstream-fuzz-") as folder, Door(Path(folder) / "clickhouse") as door:
        ends = Ends(door.address, web.address)
        watched = [logging.getLogger(name) for name in ("aiohttp.server", "deploy.clickhouse.door", "asyncio")]
        for logger in watched:
            logger.addHandler(ends.errors)
        try:
            yield ends
        finally:
            for logger in watched:
                logger.removeHandler(ends.errors)
            asyncio.run_coroutine_threadsafe(web.stop(), loop).result(30)
            asyncio.run_coroutine_threadsafe(_end_tasks(), loop).result(30)
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()
