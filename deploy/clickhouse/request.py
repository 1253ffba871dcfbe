"""What a request asks for: who sends it, its parameters, its statement and the data behind it."""

from __future__ import annotations

import base64
import binascii
import hmac
import secrets
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO
from urllib.parse import urlsplit

from aiohttp import BodyPartReader, web

from deploy.clickhouse import encoding
from deploy.clickhouse.errors import EngineError
from deploy.clickhouse.statement import Statement, read_statement

_SPOOL = 16 * 1024 * 1024  # bytes of a body that stay in memory; more go to a temporary file
_HEAD = 256 * 1024  # bytes in which an INSERT must come to its data, as ClickHouse's max_query_size
_STATEMENT = 64 * 1024 * 1024  # bytes of any other statement

# Parameters of the HTTP interface that are no settings of the engine. The door marks its statements by log_comment.
_OF_HTTP = {
    "query", "database", "default_format", "user", "password", "quota_key", "query_id", "session_id",
    "session_timeout", "session_check", "close_session", "role", "stacktrace", "compress", "decompress",
    "client_protocol_version", "buffer_size", "wait_end_of_query", "enable_http_compression", "log_comment",
}  # fmt: skip


@dataclass
class ExternalTable:
    """A table that comes with the request and goes with it."""

    structure: str
    input_format: str
    data: IO[bytes]


@dataclass
class Order:
    """A request, read. `close` it when it is done.

    Attributes:
        query_id: The client's, or one made here.
        url_query: The part of the statement that stands in the URL.
        body: The other part, or data, or both; still packed.
        encoding: How the body is packed; '' when it is not.
        database: Current database.
        default_format: Format of the answer where the statement names none.
        settings: Settings of the engine for this request.
        parameters: Query parameters by their names.
        read_only: It may change nothing.
        blockwise: A large answer may go out while it is made.
        packing: How the answer is packed, None when it is not.
        native_revision: Revision of the protocol that the client expects Native in; 0 without one.
        tables: External tables by name.
        statement: Set once it is read.
        abandoned: Its client has gone away.
    """

    query_id: str
    url_query: bytes
    body: IO[bytes]
    encoding: str
    database: str
    default_format: str
    settings: dict[str, str]
    parameters: dict[str, str]
    read_only: bool
    blockwise: bool
    packing: str | None
    native_revision: int
    tables: dict[str, ExternalTable] = field(default_factory=dict)
    statement: Statement | None = None
    abandoned: bool = False

    def close(self) -> None:
        """Lets go of the bodies' files."""
        self.body.close()
        for table in self.tables.values():
            table.data.close()


def authenticate(request: web.Request, password: str | None) -> None:
    """Lets in the user `default` with the password, by any of ClickHouse's three ways, and nobody else.

    Web pages from elsewhere are refused with or without a password: a browser lets any page post to a port of this
    machine, and such a request carries the page's origin.

    Raises:
        EngineError: AUTHENTICATION_FAILED or ACCESS_DENIED.
    """
    origin = request.headers.get("Origin")
    if origin and urlsplit(origin).hostname not in ("localhost", "127.0.0.1", "::1"):
        raise EngineError.of(497, "ACCESS_DENIED", f"Requests of web pages from {origin[:100]} are not served.")
    if password is None:
        return
    user, given = _credentials(request)
    if not (hmac.compare_digest(given.encode(errors="surrogatepass"), password.encode()) and user == "default"):
        raise EngineError.of(
            516,
            "AUTHENTICATION_FAILED",
            f"{user}: Authentication failed: password is incorrect, or there is no user with such name.",
        )


def _credentials(request: web.Request) -> tuple[str, str]:
    headers = request.headers
    scheme, _, encoded = headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "basic":
        try:
            user, _, password = base64.b64decode(encoded, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return "", ""
        return user, password
    if "X-ClickHouse-User" in headers or "X-ClickHouse-Key" in headers:
        return headers.get("X-ClickHouse-User", "default"), headers.get("X-ClickHouse-Key", "")
    return request.query.get("user", "default"), request.query.get("password", "")


async def read_order(request: web.Request, database: str) -> Order:
    """Reads the request to its end.

    Args:
        request: The request.
        database: Current database where it names none.

    Raises:
        EngineError: it asks for what is not spoken here.
    """
    given: dict[str, str] = dict(request.query)
    body = _spool()
    files: dict[str, IO[bytes]] = {}
    if request.content_type == "multipart/form-data":
        try:
            form, files = await _read_form(request)
        except ValueError as exc:
            raise EngineError.of(117, "INCORRECT_DATA", f"The body is no multipart form: {exc}") from None
        given |= form
    else:
        async for piece in request.content.iter_any():
            body.write(piece)
        body.seek(0)
    for name in ("compress", "decompress"):
        if given.get(name, "0") not in ("0", "false"):
            raise EngineError.of(
                344, "SUPPORT_IS_DISABLED", f"{name}=1 is not spoken here; use Content-Encoding and Accept-Encoding."
            )
    tables: dict[str, ExternalTable] = {}
    for name, data in files.items():
        structure = given.pop(f"{name}_structure", None) or _structure_of(given.pop(f"{name}_types", ""))
        tables[name] = ExternalTable(structure, given.pop(f"{name}_format", "TabSeparated"), data)
    headers = request.headers
    packed = given.get("enable_http_compression", "0") in ("1", "true")
    revision = given.get("client_protocol_version", "0")
    return Order(
        query_id=given.get("query_id") or secrets.token_hex(16),
        url_query=given.get("query", "").encode(errors="surrogateescape"),
        body=body,
        encoding=headers.get("Content-Encoding", "").lower(),
        database=given.get("database") or headers.get("X-ClickHouse-Database") or database,
        default_format=given.get("default_format") or headers.get("X-ClickHouse-Format") or "TabSeparated",
        settings={k: v for k, v in given.items() if k not in _OF_HTTP and not k.startswith("param_")},
        parameters={k.removeprefix("param_"): v for k, v in given.items() if k.startswith("param_")},
        read_only=request.method != "POST",
        blockwise=given.get("wait_end_of_query", "0") not in ("1", "true") and given.get("extremes", "0") == "0",
        packing=encoding.choose_packing(headers.get("Accept-Encoding", "")) if packed else None,
        native_revision=int(revision) if revision.isdigit() else 0,
        tables=tables,
    )


def statement_and_data(order: Order) -> tuple[Statement, Iterator[bytes]]:
    """The statement, and the data behind it. URL and body are one text, with a line break between them.

    Raises:
        EngineError: no statement, more than one, or one that has no place here.
        ValueError: the body is not what its encoding says; also while the data are read.
    """
    content = encoding.unpacked(order.body, order.encoding)
    head = order.url_query
    if head and not head.endswith(b"\n"):
        head += b"\n"
    limit = len(head) + _HEAD
    for piece in content:
        head += piece
        if len(head) >= limit:
            break
    statement = read_statement(head)
    if statement.local_file:
        raise EngineError.of(358, "INTO_OUTFILE_NOT_ALLOWED", "INTO OUTFILE and FROM INFILE are not allowed here.")
    if statement.input_format is not None:
        return statement, _following(head[statement.data_from :], content)

    pieces, size = [head], len(head)
    for piece in content:
        pieces.append(piece)
        size += len(piece)
        if size > _STATEMENT:
            raise EngineError.of(62, "SYNTAX_ERROR", f"The statement is longer than {_STATEMENT} bytes.")
    statement = read_statement(b"".join(pieces))
    if not statement.text:
        raise EngineError.of(62, "SYNTAX_ERROR", "Empty query")
    if statement.several:
        raise EngineError.of(62, "SYNTAX_ERROR", "Multi-statements are not allowed: send one statement a request.")
    return statement, iter(())


def _following(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    if first:
        yield first
    yield from rest


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
