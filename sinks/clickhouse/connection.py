"""Ways to ClickHouse: the engine in this process, a server, or the engine of another process on this machine.

    open_engine(path, wait=0.0) -> Engine            for a worker: take the engine or fail at once
    Engine.client(database=None) -> Client           one more handle; a handle serves one call at a time
    Engine.connection() -> chdb.Connection           the bare engine handle, for the door
    Engine.publish_door(address, password)           let `pingstream sql` in while this process runs
    Engine.close()

    connect(dsn, database=None, wait=0.0) -> Client  for everybody else: http(s)://… or chdb://<path>

`Client` is clickhouse-connect's. Its `database` is set without a look whether it exists: statements that make the
database need `client.command(…, use_database=False)`. Clients from `connect` may be used by several threads when they
speak HTTP; one that is an embedded handle lets its callers wait for each other. Close every client: closing the last
one of an embedded engine lets go of the lock.

Everything is UTC: columns without a time zone are read and written as UTC whatever TZ says.
"""

from __future__ import annotations

import logging
import os
import socket
import ssl
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar
from urllib.parse import SplitResult, parse_qsl, urlencode, urlsplit

import clickhouse_connect
from clickhouse_connect import common
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError
from clickhouse_connect.driver.httputil import get_pool_manager

from sinks.clickhouse.engine_lock import EngineInUse, EngineLock, find_door, publish_door, withdraw_door

__all__ = [
    "ConnectionFailed", "ConnectionRefused", "Engine", "EngineInUse", "NotTrusted", "WrongPassword", "connect", "open_engine",
]  # fmt: skip

# A naive datetime handed to an insert is UTC, as it is when it is read; the default would be the machine's zone.
common.set_setting("naive_datetime_insert", "server")

# What it logs is raised as well; without a handler Python would print it next to the sentence of the exception.
for _library in ("clickhouse_connect", "urllib3"):
    logging.getLogger(_library).addHandler(logging.NullHandler())

# How the embedded engine starts. It shares a machine with a worker and a broker: merges on two threads at most,
# and caches that grow to megabytes instead of the default's gigabytes. `implicit_select` off makes a mistyped
# keyword a syntax error, as it is on a server.
ENGINE_OPTIONS: dict[str, str] = {
    "session_timezone": "UTC",
    "implicit_select": "0",
    "background_pool_size": "2",
    "mark_cache_size": str(64 * 1024 * 1024),
    "index_mark_cache_size": str(64 * 1024 * 1024),
    "primary_index_cache_size": str(64 * 1024 * 1024),
}

_CERTIFICATES = ("ca_cert", "client_cert", "client_cert_key")  # names in a DSN and of a pool's arguments

_CONNECT_TIMEOUT = 10  # seconds
_ANSWER_TIMEOUT = 300  # seconds until a server that says nothing is given up
_POLL = 0.05  # seconds between two looks at a lock that somebody else holds
_PASSING = 5.0  # seconds that a worker waits for a command that holds the engine for a moment

_running: dict[Path, _Running] = {}
_running_guard = threading.Lock()


class ConnectionFailed(Exception):
    """ClickHouse cannot be reached or refuses; the sentence holds the address, never the password."""


class ConnectionRefused(ConnectionFailed):
    """ClickHouse answers and says no: waiting does not help."""


class WrongPassword(ConnectionRefused):
    """ClickHouse does not know this user with this password: a restart does not help either."""


class NotTrusted(ConnectionRefused):
    """Its TLS certificate is not one that we trust, or it has none: a restart does not help."""


FAILURES = (ClickHouseError, ConnectionFailed, OSError, RuntimeError)
"""What comes of a ClickHouse that is away or refuses."""

T = TypeVar("T")


class OnDemand:
    """A client that is made when it is needed first, and anew after `close`: after a failure, the connection may be no good."""

    def __init__(self, make: Callable[[], Client]) -> None:
        self._make = make
        self._client: Client | None = None

    def __call__(self, act: Callable[[Client], T]) -> T:
        """Does something with it."""
        if self._client is None:
            self._client = self._make()
        return act(self._client)

    def close(self) -> None:
        """Closes the connection."""
        client, self._client = self._client, None
        if client is not None:
            client.close()


class _Running:
    """The engine of this process and how many `Engine` objects share it."""

    def __init__(self, lock: EngineLock, keeper: Any) -> None:
        self.lock = lock
        # The engine stops with its last handle; this one keeps it running between requests.
        self.keeper = keeper
        self.users = 0


class Engine:
    """A share in the embedded engine of this process. Made by `open_engine`; close it once."""

    def __init__(self, path: Path, running: _Running) -> None:
        self.path = path
        self._running = running
        self._clients: weakref.WeakSet[Client] = weakref.WeakSet()
        self._published = False
        self._closed = False

    def client(self, database: str | None = None) -> Client:
        """A new handle of clickhouse-connect's. Calls on one handle wait for each other; handles run side by side."""
        client = clickhouse_connect.get_client(interface="chdb", path=str(self.path), chdb_options=ENGINE_OPTIONS)
        client.database = database
        self._clients.add(client)
        return client

    def connection(self) -> Any:
        """A new bare `chdb.Connection`, about 0.3 ms. USE, SET and temporary tables are its own and end with it."""
        return _chdb().connect(_connection_string(self.path))

    def publish_door(self, address: str, password: str) -> None:
        """Tells other processes where this one answers ClickHouse's HTTP protocol; withdrawn by `close`."""
        publish_door(self.path, address, password)
        self._published = True

    def close(self) -> None:
        """Closes the handles it gave; the last `Engine` on the path stops the engine and lets go of its lock."""
        with _running_guard:
            if self._closed:
                return
            self._closed = True
        for client in list(self._clients):
            client.close()
        if self._published:
            withdraw_door(self.path)
        with _running_guard:
            self._running.users -= 1
            if self._running.users == 0:
                del _running[self.path]
                self._running.keeper.close()
                self._running.lock.release()

    def __enter__(self) -> Engine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_engine(path: Path, *, wait: float = 0.0, passing: bool = False) -> Engine:
    """Runs the embedded engine at `path` in this process, or takes another share in it when it runs here already.

    Creates the folder. A holder that is only a passing command (`pingstream sql`) is waited for a few seconds.

    Args:
        path: The engine's folder.
        wait: Seconds to wait for a holder that is here to stay.
        passing: This process will hold the engine for a moment only.

    Raises:
        EngineInUse: another process runs it.
        ConnectionFailed: the engine does not start, or this process runs one at another path.
    """
    path = _resolved(path)
    begun = time.monotonic()
    while True:
        try:
            return _open(path, passing)
        except EngineInUse as busy:
            patience = max(wait, _PASSING) if busy.passing and not passing else wait
            if time.monotonic() - begun >= patience:
                raise
        time.sleep(_POLL)


def connect(dsn: str, database: str | None = None, *, wait: float = 0.0) -> Client:
    """A client for `dsn`.

    `http://` and `https://` give an ordinary client. `chdb://<path>` runs the engine in this process until the client
    is closed; while another process runs it, its door is used instead, and when there is none yet it is waited for.

    Args:
        dsn: `http://[user:password@]host:port`, the same with https (`?ca_cert=<PEM file>` for a CA of one's own), or
            `chdb://<path>`.
        database: Current database; it need not exist yet.
        wait: Seconds to wait for an engine that another process holds without a door.

    Raises:
        EngineInUse: another process holds the engine and lets nobody in.
        ConnectionFailed: the server or the engine cannot be reached.
    """
    if not dsn.startswith("chdb://"):
        return _connect_server(dsn, database)
    path = _resolved(Path(dsn.removeprefix("chdb://")))
    begun = time.monotonic()
    while True:
        try:
            engine = open_engine(path, passing=True)
        except EngineInUse:
            client = _through_door(path, database)
            if client is not None:
                return client
            if time.monotonic() - begun >= wait:
                raise
            time.sleep(_POLL)
            continue
        try:
            return _closing(engine.client(database), engine)
        except BaseException:
            engine.close()
            raise


def _resolved(path: Path) -> Path:
    # The engine compares paths as text; one folder must have one name, symbolic links included.
    resolved = Path(os.path.realpath(path))
    if "?" in str(resolved) or "#" in str(resolved):
        raise ConnectionFailed(f"embedded ClickHouse cannot use {resolved}: a path with ? or # is none for it")
    return resolved


def _open(path: Path, passing: bool) -> Engine:
    with _running_guard:
        running = _running.get(path)
        if running is None:
            for other in _running:
                raise ConnectionFailed(
                    f"embedded ClickHouse runs in this process at {other}; it cannot run at {path} as well"
                )
            lock = EngineLock(path)
            lock.acquire(passing=passing)
            try:
                path.mkdir(exist_ok=True)
                keeper = _chdb().connect(_connection_string(path))
            except BaseException as exc:
                lock.release()
                if isinstance(exc, RuntimeError):
                    raise ConnectionFailed(f"embedded ClickHouse does not start at {path}: {exc}") from None
                raise
            running = _running[path] = _Running(lock, keeper)
        elif not passing:
            running.lock.lasting()
        running.users += 1
        return Engine(path, running)


def _chdb() -> Any:
    """The engine's module: 0.7 s and 190 MB, so it is loaded only when the engine runs in this process.

    It reads TZ once, while it is loaded, for everything outside a session (merges, partition keys): that must be UTC
    too. The process's own time zone stays as it is.
    """
    zone = os.environ.get("TZ")
    os.environ["TZ"] = "UTC"
    try:
        import chdb
    finally:
        if zone is None:
            del os.environ["TZ"]
        else:
            os.environ["TZ"] = zone
    return chdb


def _connection_string(path: Path) -> str:
    return f"{path}?{urlencode(ENGINE_OPTIONS)}"


def _through_door(path: Path, database: str | None) -> Client | None:
    door = find_door(path)
    if door is None:
        return None
    try:
        return _connect_server(door.address, database, door.password)
    except ConnectionFailed:
        return None  # its owner is on the way down; the lock will be free in a moment


def _connect_server(dsn: str, database: str | None, password: str | None = None) -> Client:
    parts = urlsplit(dsn)
    address = f"{parts.scheme}://{parts.hostname}" + (f":{parts.port}" if parts.port else "")
    # Its own reading of a DSN takes https for http, and the password in clear, on other ports than 443 and 8443.
    options: dict[str, Any] = {"interface": parts.scheme}
    if parts.hostname in ("127.0.0.1", "::1", "localhost"):
        # Never by way of a proxy that the environment names. A pool that is given has to know the certificates itself.
        given = {name: value for name, value in parse_qsl(parts.query) if name in _CERTIFICATES}
        options["pool_mgr"] = get_pool_manager(**given)
    if password is not None:
        options |= {"username": "default", "password": password}
    try:
        client = clickhouse_connect.get_client(
            dsn=dsn,
            # One client serves several threads; a session would allow one statement at a time.
            autogenerate_session_id=False,
            connect_timeout=_CONNECT_TIMEOUT,
            send_receive_timeout=_ANSWER_TIMEOUT,
            **options,
        )
    except ClickHouseError as exc:
        code = getattr(exc, "code", None)
        if code in (192, 193, 194, 516):
            raise WrongPassword(f"ClickHouse at {address} refuses this user name and password") from None
        if code:
            raise ConnectionRefused(f"ClickHouse at {address} refuses: {exc}") from None
        if trust := _untrusted(exc) or _wants_tls(parts):
            raise NotTrusted(f"ClickHouse at {address}: {trust}") from None
        raise ConnectionFailed(
            f"ClickHouse at {address} does not answer; is it running? PINGSTREAM_CLICKHOUSE says where it is"
        ) from None
    if database is not None:
        client.database = database
    return client


def _untrusted(error: BaseException) -> str:
    """What is wrong with TLS, and what to do, when that is why nothing was answered; else ''."""
    text = ""
    for cause in _causes(error):
        text += str(cause)
        if isinstance(cause, (FileNotFoundError, PermissionError)) or "NO_CERTIFICATE_OR_CRL_FOUND" in str(cause):
            return f"its CA certificates cannot be read ({cause}); set PINGSTREAM_CLICKHOUSE_CA_FILE to a PEM file of certificates"
        if isinstance(cause, ssl.SSLCertVerificationError):
            return (
                f"its certificate is not trusted ({cause.verify_message}); set PINGSTREAM_CLICKHOUSE_CA_FILE to the CA certificates "
                "that it is signed by, and name the host as the certificate does"
            )
    if "WRONG_VERSION_NUMBER" in text or "record layer failure" in text:
        return "it does not speak TLS on this port; begin PINGSTREAM_CLICKHOUSE with http://, or name its https port"
    return ""


def _wants_tls(parts: SplitResult) -> str:
    """What to do when a server that was spoken to by http, and dropped it, speaks TLS there; else ''."""
    if parts.scheme != "http":
        return ""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = (
        False,
        ssl.CERT_NONE,
    )  # nothing is sent: it is only asked what it speaks
    try:
        with socket.create_connection((parts.hostname or "", parts.port or 8123), timeout=3) as plain:
            context.wrap_socket(plain, server_hostname=parts.hostname).close()
    except (OSError, ValueError):
        return ""
    return "it speaks TLS on this port; begin PINGSTREAM_CLICKHOUSE with https://, or name its http port"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """The errors that led to this one; urllib3 keeps one in `reason`."""
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        one = waiting.pop()
        if isinstance(one, BaseException) and id(one) not in seen:
            seen.add(id(one))
            yield one
            waiting += [one.__cause__, one.__context__, getattr(one, "reason", None), *one.args]


def _closing(client: Client, engine: Engine) -> Client:
    """The client, which on being closed closes its engine too: to its user it is a client like any other."""
    close = client.close

    def close_both() -> None:
        close()
        engine.close()

    client.close = close_both
    return client
