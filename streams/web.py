"""The worker's web end: `/metrics` for Prometheus, `/healthz` (the process works) and `/readyz` (it processes pings)."""

from __future__ import annotations

import hmac
from collections.abc import Callable

from aiohttp import HttpVersion11, hdrs, web

from schemas.settings import Settings
from sinks.prometheus import Metrics


async def expected(request: web.Request) -> None:
    """Tells who waits for it before a body to go on. aiohttp's own fails where something else is expected that is no UTF-8."""
    if request.version == HttpVersion11:
        if request.headers.get(hdrs.EXPECT, "").lower() != "100-continue":
            raise web.HTTPExpectationFailed
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # the answer has not begun


class Web:
    """Serves until it is stopped.

    The health ends are open to everybody who reaches the port: probes have no tokens, and they tell nothing else.

    Args:
        settings: whether `/metrics` answers, and the token it asks for.
        not_ready: gives the reason why the worker is not ready, None when it is.
        refresh: brings gauges up to date before they are read.
    """

    def __init__(
        self, settings: Settings, metrics: Metrics, not_ready: Callable[[], str | None], refresh: Callable[[], None]
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        self._not_ready = not_ready
        self._refresh = refresh
        app = web.Application()
        # One route: aiohttp's answers where it finds none would go by its own handler of what is expected.
        app.router.add_route("*", "/{path:.*}", self._answer, expect_handler=expected)
        self._pages = {"/metrics": self._page, "/healthz": self._health, "/readyz": self._ready}
        self._runner = web.AppRunner(app, access_log=None)
        self.address = ""

    async def start(self, host: str, port: int, *, or_any: bool) -> None:
        """Listens.

        Args:
            or_any: take a free port when `port` is taken.

        Raises:
            OSError: the port is taken.
        """
        await self._runner.setup()
        site = web.TCPSite(self._runner, host, port)
        try:
            await site.start()
        except OSError:
            if not or_any:
                raise
            await site.stop()
            site = web.TCPSite(self._runner, host, 0)
            await site.start()
        found = self._runner.addresses[0]
        shown = f"[{found[0]}]" if ":" in found[0] else found[0]
        self.address = f"http://{shown}:{found[1]}"

    async def stop(self) -> None:
        """Stops listening."""
        await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.Response:
        page = self._pages.get(request.path)
        if page is None:
            raise web.HTTPNotFound
        if request.method not in (hdrs.METH_GET, hdrs.METH_HEAD):
            raise web.HTTPMethodNotAllowed(request.method, (hdrs.METH_GET, hdrs.METH_HEAD))
        return await page(request)

    async def _page(self, request: web.Request) -> web.Response:
        token = self._settings.web_token
        if token is not None:
            wanted = f"Bearer {token.get_secret_value()}"
            given = request.headers.get("Authorization", "").encode(errors="surrogatepass")
            if not hmac.compare_digest(given, wanted.encode()):
                return web.Response(
                    text="the token is missing or wrong: Authorization: Bearer <PINGSTREAM_WEB_TOKEN>\n",
                    status=401,
                    headers={"WWW-Authenticate": "Bearer"},
                )
        elif not self._settings.shows_metrics:
            return web.Response(text="set PINGSTREAM_WEB_TOKEN to have metrics here\n", status=403)
        self._refresh()
        body, content_type = self._metrics.text()
        return web.Response(body=body, headers={"Content-Type": content_type})

    async def _health(self, _: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _ready(self, _: web.Request) -> web.Response:
        reason = self._not_ready()
        return web.Response(text="ready\n") if reason is None else web.Response(text=f"{reason}\n", status=503)
