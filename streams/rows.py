"""Rows of a flush into ClickHouse, in threads, tried again with growing pauses for as long as it takes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import structlog
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception_type,
    retry_unless_exception_type,
    wait_exponential,
)

from sinks.clickhouse.connection import ConnectionFailed
from sinks.clickhouse.writer import LETTER_SCHEMA, NAME_SCHEMA, PING_SCHEMA, insert, row_block, usage_block
from sinks.prometheus import Metrics
from streams.ledger.book import UsageRows
from streams.ledger.records import PingRow

log = structlog.get_logger("pingstream.clickhouse")


class _Abandoned(Exception):
    """The partitions are not ours any more: their next owner writes the rows."""


class RowSink:
    """ClickHouse, as the pipeline sees it.

    Args:
        connect: makes a client; called again after a failure.
    """

    def __init__(self, connect: Callable[[], Client], database: str, metrics: Metrics) -> None:
        self._connect = connect
        self._database = database
        self._metrics = metrics
        self._client: Client | None = None
        self.failing: str | None = None
        """Why rows are waiting, None while they are not."""

    async def write(
        self,
        names: Sequence[tuple[int, str, str]],
        usage: UsageRows,
        pings: Sequence[tuple[int, PingRow]],
        letters: Sequence[tuple[Any, ...]],
        still_ours: Callable[[], bool],
    ) -> bool:
        """Writes a flush's rows: names first, so that no figure is without its name.

        Args:
            pings: each with its partition's epoch.
            letters: rows of `letter`, in the order of its columns.

        Returns:
            True once ClickHouse has accepted everything, False when it was away until `still_ours` said no.
        """
        blocks: list[tuple[str, pa.Table]] = []
        if names:
            blocks.append(("figure_name", row_block(names, NAME_SCHEMA)))
        if usage.scopes:
            blocks.append(("usage_day", _usage_block(usage)))
        if pings:
            blocks.append(("ping", row_block([(*ping, epoch) for epoch, ping in pings], PING_SCHEMA)))
        if letters:
            blocks.append(("letter", row_block(letters, LETTER_SCHEMA)))
        try:
            for table, block in blocks:
                await self._insert(table, block, still_ours)
        except _Abandoned:
            return False
        return True

    async def _insert(self, table: str, block: pa.Table, still_ours: Callable[[], bool]) -> None:
        def failed(state: RetryCallState) -> None:
            error = state.outcome.exception() if state.outcome else None
            self._metrics.sink_errors.labels(table).inc()
            self._close()
            if self.failing is None:
                log.warning(
                    "ClickHouse does not take rows; waiting and trying again", table=table, error=str(error)[:500]
                )
            self.failing = str(error)[:500]

        async for attempt in AsyncRetrying(
            retry=retry_if_exception_type((ClickHouseError, ConnectionFailed, OSError, RuntimeError))
            & retry_unless_exception_type(_Abandoned),
            wait=wait_exponential(0.2, max=10),
            before_sleep=failed,
        ):
            with attempt:
                if self.failing is not None and not still_ours():
                    raise _Abandoned
                await asyncio.to_thread(self._insert_now, table, block)
        if self.failing is not None:
            log.info("ClickHouse takes rows again")
            self.failing = None
        self._metrics.sink_rows.labels(table).inc(block.num_rows)

    def _insert_now(self, table: str, block: pa.Table) -> None:
        if self._client is None:
            self._client = self._connect()
        insert(self._client, self._database, table, block)

    def _close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def close(self) -> None:
        """Closes the connection."""
        self._close()


def _usage_block(usage: UsageRows) -> pa.Table:
    figures, count = usage.figures, usage.figures.length
    return usage_block(
        np.concatenate(usage.days),
        [scope.population for scope in usage.scopes],
        [scope.scope_id for scope in usage.scopes],
        np.array(usage.repeats, np.int64),
        np.array(usage.versions, np.uint64),
        np.concatenate(usage.lengths),
        figures.name[:count],
        figures.dau[:count],
        figures.wau[:count],
        figures.mau[:count],
        figures.sessions[:count],
    )
