"""Stands in front of a ClickHouse and makes it fail: away, silent, refusing inserts, or denying what it has done."""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, Self

import aiohttp
from aiohttp import web

FORWARDED = ("Content-Encoding", "Accept-Encoding", "Authorization", "Content-Type", "User-Agent")
RETURNED = ("Content-Type", "Content-Encoding")


@dataclass(frozen=True)
class Refusal:
    """ClickHouse's own way to say no: its code, and the words that go with it; `ours` are the worker's, when it connects anew."""

    code: int
    name: str
    words: str
    inserts_only: bool = True
    ours: str | None = None

    @property
    def text(self) -> str:
        """What stands in the answer."""
        return f"Code: {self.code}. DB::Exception: {self.words} ({self.name}) (version 25.8.1.1)\n"


TOO_MANY_PARTS = Refusal(
    252, "TOO_MANY_PARTS", "Too many parts (3000). Merges are processing significantly slower than inserts."
)
READ_ONLY_USER = Refusal(164, "READONLY", "default: Cannot execute query in readonly mode.")
READ_ONLY_TABLE = Refusal(242, "TABLE_IS_READ_ONLY", "Table is in readonly mode: replica path is not available.")
WRONG_PASSWORD = Refusal(
    516, "AUTHENTICATION_FAILED", "default: Authentication failed: password is incorrect, or there is no user with such name.",
    inserts_only=False, ours="refuses this user name and password",
)  # fmt: skip
MEMORY = Refusal(241, "MEMORY_LIMIT_EXCEEDED", "Memory limit (total) exceeded.")


class Proxy:
    """Forwards requests, until it is told otherwise; a context manager.

    Attributes:
        dsn: its address.
        refusal: what it answers instead of forwarding; None to forward.
        denying: the share of inserts that are carried out and then answered with an error.
        refused, denied: how many requests it has refused, and how many inserts denied.
    """

    def __init__(self, upstream: str, chance: random.Random) -> None:
        self._upstream = upstream
        self._chance = chance
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._open = asyncio.Event()
        self._runner: web.AppRunner | None = None
        self._session: aiohttp.ClientSession | None = None
        self._port = 0
        self.refusal: Refusal | None = None
        self.denying = 0.0
        self.refused = 0
        self.denied = 0

    @property
    def dsn(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def away(self) -> None:
        """Nobody listens any more, and open connections are cut."""
        self._call(self._close())

    def back(self) -> None:
        """Listens again on its port."""
        self._call(self._listen())

    def hang(self) -> None:
        """Takes requests and answers none of them."""
        self._loop.call_soon_threadsafe(self._open.clear)

    def answer(self) -> None:
        """Answers again, also what was asked meanwhile."""
        self._loop.call_soon_threadsafe(self._open.set)

    def __enter__(self) -> Self:
        self._thread.start()
        self._loop.call_soon_threadsafe(self._open.set)
        self.back()
        return self

    def __exit__(self, *_: object) -> None:
        self.away()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _call(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    async def _listen(self) -> None:
        self._session = aiohttp.ClientSession(auto_decompress=False, trust_env=False)
        app = web.Application(client_max_size=1 << 30)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, auto_decompress=False, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self._port, reuse_address=True)
        await site.start()
        self._port = self._runner.addresses[0][1]

    async def _close(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _handle(self, request: web.Request) -> web.Response:
        body = await request.read()
        is_insert = _is_insert(request.query.get("query", "").encode()) or _is_insert(body[:100])
        await self._open.wait()
        refusal = self.refusal
        if refusal is not None and (is_insert or not refusal.inserts_only):
            self.refused += 1
            return _answer(refusal)
        assert self._session is not None
        headers = {name: request.headers[name] for name in FORWARDED if name in request.headers}
        headers |= {name: value for name, value in request.headers.items() if name.startswith("X-ClickHouse")}
        with contextlib.suppress(aiohttp.ClientError):
            url = f"{self._upstream}{request.path_qs}"
            async with self._session.request(request.method, url, data=body, headers=headers) as found:
                answer = await found.read()
            if is_insert and self._chance.random() < self.denying:
                self.denied += 1
                return _answer(Refusal(999, "KEEPER_EXCEPTION", "Connection loss, the insert may have been taken."))
            kept = {name: found.headers[name] for name in RETURNED if name in found.headers}
            kept |= {name: value for name, value in found.headers.items() if name.startswith("X-ClickHouse")}
            return web.Response(body=answer, status=found.status, headers=kept)
        return web.Response(status=502, text="the ClickHouse behind this is gone\n")


def _is_insert(statement: bytes) -> bool:
    return statement.lstrip()[:6].upper() == b"INSERT"


def _answer(refusal: Refusal) -> web.Response:
    status = 403 if refusal.code == WRONG_PASSWORD.code else 500
    headers = {"X-ClickHouse-Exception-Code": str(refusal.code)}
    return web.Response(status=status, text=refusal.text, headers=headers)
