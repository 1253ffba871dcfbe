"""When sums over accounts are kept; what they are is in `tests/test_billing_figures.py`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
from clickhouse_connect.driver.exceptions import OperationalError

from streams import kept_sums
from streams.kept_sums import KeptSums

PAUSE = 0.005


class Accounts:
    """What ClickHouse says at each look, and what was kept."""

    def __init__(self, *looks: int | Exception | None) -> None:
        self._looks = iter(looks)
        self.kept: list[int] = []
        self.connected = self.closed = 0
        self.done = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def connect(self) -> Any:
        self.connected += 1
        return self

    def close(self) -> None:
        self.closed += 1

    def look(self, *_: Any) -> int | None:
        for found in self._looks:
            if isinstance(found, Exception):
                raise found
            return found
        self._loop.call_soon_threadsafe(self.done.set)  # looks are taken in a thread
        return None

    def keep(self, _: Any, __: str, accounts: int) -> None:
        self.kept.append(accounts)


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    def made(*found: int | Exception | None) -> Accounts:
        accounts = Accounts(*found)
        monkeypatch.setattr(kept_sums, "accounts_to_sum", accounts.look)
        monkeypatch.setattr(kept_sums, "keep_sums", accounts.keep)
        return accounts

    monkeypatch.setattr(kept_sums, "REST_SECONDS", PAUSE)
    monkeypatch.setattr(kept_sums, "SHARE", 1.0)
    return made


async def watched(accounts: Accounts, sums: KeptSums) -> None:
    """Lets it look until there is nothing left to see."""
    task = asyncio.create_task(sums.run())
    try:
        await asyncio.wait_for(accounts.done.wait(), 10)
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        sums.close()


async def test_accounts_at_rest_are_kept_once_and_others_not(looks: Any) -> None:
    accounts = looks(1, 2, 2, None, None, 3, 4, None, 4, 4)
    await watched(accounts, KeptSums(accounts.connect, "any", lambda: True))
    assert accounts.kept == [2, 4]
    assert accounts.connected == accounts.closed == 1


async def test_a_failure_is_a_look_that_saw_nothing(looks: Any) -> None:
    accounts = looks(1, OperationalError("gone"), 1, 1)
    await watched(accounts, KeptSums(accounts.connect, "any", lambda: True))
    assert accounts.kept == [1]
    assert accounts.connected == accounts.closed == 2


async def test_what_others_look_after_is_left_to_them(looks: Any) -> None:
    accounts = looks(1, 1, 1)
    sums = KeptSums(accounts.connect, "any", lambda: False)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(sums.run(), 20 * PAUSE)
    await sums.keep_now()
    assert not accounts.kept and not accounts.connected


async def test_the_end_of_a_drain_does_not_wait_for_rest(looks: Any) -> None:
    accounts = looks(7)
    sums = KeptSums(accounts.connect, "any", lambda: True)
    await sums.keep_now()
    await sums.keep_now()
    assert accounts.kept == [7]
