"""Keeps the sums over all accounts when these have come to rest, so that views read them; see `sinks.clickhouse.sums`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

import structlog
from clickhouse_connect.driver.client import Client

from sinks.clickhouse.connection import FAILURES, OnDemand
from sinks.clickhouse.sums import accounts_to_sum, keep_sums

log = structlog.get_logger("pingstream.clickhouse")

REST_SECONDS = 10.0
"""Accounts that have not changed for so long are at rest."""
SHARE = 0.02
"""Of the time, what is spent on sums at most."""

T = TypeVar("T")


class KeptSums:
    """One worker's care for them. What fails is left alone until the next look: no figure needs them.

    Args:
        connect: makes a client of ClickHouse; called again after a failure.
        ours: whether it is this worker that looks after them at present.
    """

    def __init__(self, connect: Callable[[], Client], database: str, ours: Callable[[], bool]) -> None:
        self._client = OnDemand(connect)
        self._database = database
        self._ours = ours

    async def run(self) -> None:
        """Looks now and then, and keeps those of accounts that have not changed since the look before."""
        seen: int | None = None
        pause = REST_SECONDS
        while True:
            await asyncio.sleep(pause)
            begun = time.monotonic()
            accounts = await self._look()
            if accounts is not None and accounts == seen:
                await self._keep(accounts)
            seen = accounts
            pause = max(REST_SECONDS, (time.monotonic() - begun) / SHARE)

    async def keep_now(self) -> None:
        """Keeps those of the accounts as they are."""
        accounts = await self._look()
        if accounts is not None:
            await self._keep(accounts)

    def close(self) -> None:
        """Closes the connection."""
        self._client.close()

    async def _look(self) -> int | None:
        """The digest of the accounts, where there is something to keep."""
        return await self._try(lambda client: accounts_to_sum(client, self._database)) if self._ours() else None

    async def _keep(self, accounts: int) -> None:
        await self._try(lambda client: keep_sums(client, self._database, accounts))

    async def _try(self, act: Callable[[Client], T]) -> T | None:
        try:
            return await asyncio.to_thread(self._client, act)
        except FAILURES as exc:
            log.debug("sums over accounts are not kept for now; views compute them", error=str(exc)[:500])
            self.close()
            return None
