"""The web end: who may read metrics, and that health is open."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest

from schemas.settings import Settings
from sinks.prometheus import Metrics
from streams.web import Web

TOKEN = "a-token-that-nobody-guesses"


async def statuses(settings: Settings, header: str | None = None) -> dict[str, int]:
    """What each page answers to a request with this Authorization."""
    web = Web(settings, Metrics("0"), lambda: None, lambda: None)
    await web.start("127.0.0.1", 0, or_any=False)
    try:
        async with aiohttp.ClientSession(headers={"Authorization": header} if header else {}) as session:
            found = {}
            for page in ("metrics", "healthz", "readyz"):
                async with session.get(f"{web.address}/{page}") as answer:
                    found[page] = answer.status
                    assert TOKEN not in await answer.text()
            return found
    finally:
        await web.stop()


@pytest.mark.parametrize(
    ("settings", "header", "metrics"),
    [
        ({}, None, 200),
        ({"web_host": "::1"}, None, 200),
        ({"web_host": "0.0.0.0"}, None, 403),
        ({"web_host": "0.0.0.0"}, f"Bearer {TOKEN}", 403),
        ({"web_host": "0.0.0.0", "web_token": TOKEN}, f"Bearer {TOKEN}", 200),
        ({"web_host": "0.0.0.0", "web_token": TOKEN}, None, 401),
        ({"web_token": TOKEN}, f"Bearer {TOKEN[:-1]}", 401),
        ({"web_token": TOKEN}, f"Basic {TOKEN}", 401),
        ({"web_token": TOKEN}, f"Bearer {TOKEN}", 200),
    ],
)
async def test_metrics_are_for_loopback_or_for_who_has_the_token(
    settings: dict[str, str], header: str | None, metrics: int
) -> None:
    checked = Settings(_env_file=None, **settings)  # type: ignore[arg-type]
    assert await statuses(checked, header) == {"metrics": metrics, "healthz": 200, "readyz": 200}


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET /healthz", 200),
        (b"HEAD /metrics", 401),
        (b"POST /healthz", 405),
        (b"GET /nothing", 404),
        (b"GET /metrics Authorization: Bearer \x80", 401),
        (b"GET /healthz Expect: 100-Continue", 100),
        (b"GET /healthz Expect: \x80", 417),
        (b"GET /nothing Expect: \x80", 417),
        (b"POST /readyz Expect: more", 417),
    ],
)
async def test_a_request_is_answered_whatever_it_holds(head: bytes, status: int) -> None:
    """Bytes in headers that are no UTF-8 too: of those, 500 and a stack trace in the log would be our fault."""
    method, path, *header = head.split(b" ", 2)
    settings = Settings(_env_file=None, web_token=TOKEN)  # type: ignore[call-arg, arg-type]
    web = Web(settings, Metrics("0"), lambda: None, lambda: None)
    await web.start("127.0.0.1", 0, or_any=False)
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(web.address.rsplit(":", 1)[1]))
        lines = [method + b" " + path + b" HTTP/1.1", b"Host: x", *header, b"Connection: close", b"", b""]
        writer.write(b"\r\n".join(lines))
        answer = await reader.read()
        writer.close()
    finally:
        await web.stop()
    assert answer.split(b" ", 2)[1] == str(status).encode(), answer
