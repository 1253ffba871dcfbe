"""Rows of a flush into ClickHouse, in threads, tried again with growing pauses for as long as it takes."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
import structlog
from clickhouse_connect.driver.client import Client
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception_type,
    retry_unless_exception_type,
    wait_exponential,
)

from sinks.clickhouse.billing_writer import (
    ACCOUNT_GROUPS,
    ACCOUNT_SCHEMA,
    CELL_SCHEMA,
    SUBSCRIPTION_GROUPS,
    SUBSCRIPTION_SCHEMA,
    array_block,
)
from sinks.clickhouse.connection import FAILURES, OnDemand, WrongPassword
from sinks.clickhouse.writer import (
    GAP_SCHEMA,
    LETTER_SCHEMA,
    NAME_SCHEMA,
    PROGRESS_SCHEMA,
    ArrowRows,
    insert_rows,
    newest_epochs,
    row_block,
    usage_block,
)
from sinks.prometheus import Metrics
from streams.ledger.billing.cells import Cells
from streams.ledger.billing.columns import Column, Ints
from streams.ledger.billing.rows import AccountRows, Group
from streams.ledger.book import UsageRows
from streams.ledger.names import Names
from streams.ledger.plain.folding import PlainRows
from streams.ledger.records import PingRow
from streams.ledger.state import Version
from streams.ping_rows import ping_block, plain_block

log = structlog.get_logger("pingstream.clickhouse")


T = TypeVar("T")


class Progress(NamedTuple):
    """How far a partition is.

    as_of: day up to which the rows of its scopes are written; below 0 while they are not.
    received_ms: newest received time that is applied; None without messages.
    next_offset: first offset that is not applied.
    """

    topic: str
    partition: int
    as_of: int
    received_ms: int | None
    next_offset: int


class _Abandoned(Exception):
    """The partitions are not ours any more: their next owner writes the rows."""


class AccountBlocks:
    """Rows of accounts that are to be written at once."""

    def __init__(self) -> None:
        self.accounts = ArrowRows(ACCOUNT_SCHEMA)
        self.subscriptions = ArrowRows(SUBSCRIPTION_SCHEMA)

    def add(self, rows: AccountRows) -> None:
        """Takes more rows."""
        groups = _groups(rows.of_account)
        self.accounts.add(array_block(ACCOUNT_SCHEMA, rows.accounts, ACCOUNT_GROUPS, groups, rows.version))
        groups = _groups(rows.of_subscription)
        self.subscriptions.add(
            array_block(SUBSCRIPTION_SCHEMA, rows.subscriptions, SUBSCRIPTION_GROUPS, groups, rows.version)
        )

    @property
    def nbytes(self) -> int:
        """What they take in memory."""
        return self.accounts.nbytes + self.subscriptions.nbytes


class RowSink:
    """ClickHouse, as the pipeline sees it.

    Args:
        connect: makes a client; called again after a failure.
    """

    def __init__(self, connect: Callable[[], Client], database: str, metrics: Metrics) -> None:
        self._client = OnDemand(connect)
        self._database = database
        self._metrics = metrics
        self.failing: str | None = None
        """Why rows are waiting, None while they are not."""
        self._said: str | None = None
        """The kind of failure that the log knows: each is told once, and another one when it comes."""

    async def write(
        self,
        names: Names,
        usage: UsageRows,
        pings: Sequence[tuple[int, int, PingRow]],
        letters: Sequence[tuple[Any, ...]],
        still_ours: Callable[[], bool],
        plain: Sequence[tuple[int, int, PlainRows]] = (),
    ) -> bool:
        """Writes a flush's rows: new names first, so that no figure is without its name.

        Args:
            pings: each with its partition and that one's epoch; plain: those that are columns.
            letters: rows of `letter`, in the order of its columns.

        Returns:
            True once ClickHouse has accepted everything, False when it was away until `still_ours` said no.
        """
        blocks: list[tuple[str, pa.Table]] = []
        if usage.rows:
            blocks.append(("usage_day", figures_block(usage)))
        of_pings = [plain_block(plain)] if plain else []
        if pings:
            of_pings.append(ping_block(pings, names))
        if of_pings:
            blocks.append(("ping", pa.concat_tables(of_pings)))
        if letters:
            blocks.append(("letter", row_block(letters, LETTER_SCHEMA)))
        new_names = names.unwritten()
        if new_names and blocks:
            blocks.insert(0, ("figure_name", row_block(new_names, NAME_SCHEMA)))
        if not await self._insert_all(blocks, still_ours):
            return False
        if blocks:
            names.written(len(new_names))
        return True

    async def write_accounts(self, cells: Cells, blocks: AccountBlocks, still_ours: Callable[[], bool]) -> bool:
        """Writes rows of accounts, new cells first; returns as `write` does."""
        new_cells = cells.unwritten()
        try:
            if new_cells:
                await self._insert("billing_cell", row_block(new_cells, CELL_SCHEMA), still_ours)
            await self._insert_rows("billing_account", blocks.accounts, still_ours)
            if blocks.subscriptions.count:
                await self._insert_rows("billing_subscription", blocks.subscriptions, still_ours)
        except _Abandoned:
            return False
        cells.written(len(new_cells))
        return True

    async def write_letters(self, letters: Sequence[tuple[Any, ...]], still_ours: Callable[[], bool]) -> bool:
        """Writes rows of `letter`, in the order of its columns; returns as `write` does."""
        return await self._insert_all([("letter", row_block(letters, LETTER_SCHEMA))], still_ours)

    async def _insert_all(self, blocks: Sequence[tuple[str, pa.Table]], still_ours: Callable[[], bool]) -> bool:
        try:
            for table, block in blocks:
                await self._insert(table, block, still_ours)
        except _Abandoned:
            return False
        return True

    async def write_progress(
        self, progress: Sequence[tuple[Progress, Version]], still_ours: Callable[[], bool]
    ) -> bool:
        """Writes how far partitions are; returns as `write` does."""
        rows = [(one.topic, one.partition, max(one.as_of, 0), *one[3:], version.row) for one, version in progress]
        try:
            await self._insert("progress", row_block(rows, PROGRESS_SCHEMA), still_ours)
        except _Abandoned:
            return False
        return True

    async def write_gap(
        self, topic: str, partition: int, first: int, last: int, still_ours: Callable[[], bool]
    ) -> bool:
        """Writes that the messages first..last had left the topic before they could be read; returns as `write` does."""
        try:
            await self._insert("gap", row_block([(topic, partition, first, last)], GAP_SCHEMA), still_ours)
        except _Abandoned:
            return False
        return True

    async def newest_epochs(self, topic: str, still_ours: Callable[[], bool]) -> dict[int, int] | None:
        """The newest epoch of each partition that the tables know, None when ClickHouse was away until `still_ours` said no."""
        try:
            return await self._insist(
                "progress", lambda client: newest_epochs(client, self._database, topic), still_ours
            )
        except _Abandoned:
            return None

    async def _insert(self, table: str, block: pa.Table, still_ours: Callable[[], bool]) -> None:
        rows = ArrowRows(block.schema)
        rows.add(block)
        await self._insert_rows(table, rows, still_ours)

    async def _insert_rows(self, table: str, rows: ArrowRows, still_ours: Callable[[], bool]) -> None:
        await self._insist(table, lambda client: insert_rows(client, self._database, table, rows), still_ours)
        self._metrics.sink_rows.labels(table).inc(rows.count)

    async def _insist(self, table: str, act: Callable[[Client], T], still_ours: Callable[[], bool]) -> T:
        """Does it in a thread, again and again until ClickHouse has answered."""

        def failed(state: RetryCallState) -> None:
            error = state.outcome.exception() if state.outcome else None
            self._metrics.sink_errors.labels(table).inc()
            self._client.close()
            if (code := _code(error)) != self._said:
                self._said = code
                log.warning(
                    "ClickHouse does not take rows; waiting and trying again",
                    table=table,
                    code=code,
                    error=str(error)[:500],
                )
            self.failing = str(error)[:500]

        async for attempt in AsyncRetrying(
            retry=retry_if_exception_type(FAILURES) & retry_unless_exception_type(_Abandoned),
            wait=wait_exponential(0.2, max=10),
            before_sleep=failed,
        ):
            with attempt:
                if self.failing is not None and not still_ours():
                    raise _Abandoned
                answer = await asyncio.to_thread(self._client, act)
        if self.failing is not None:
            log.info("ClickHouse takes rows again")
            self.failing = self._said = None
        return answer

    def close(self) -> None:
        """Closes the connection."""
        self._client.close()


def _code(error: BaseException | None) -> str:
    """What kind of failure it is: ClickHouse's code, which stands in the text; where it said nothing, that."""
    if isinstance(error, WrongPassword):
        return "516"  # as an insert over a connection that stands is told
    code = re.search(r"Code: (\d+)", str(error))
    return code[1] if code else "no answer"


def _groups(groups: Mapping[str, Group]) -> dict[str, tuple[Sequence[Column], Ints]]:
    return {name: (group.columns, group.lengths) for name, group in groups.items()}


def figures_block(usage: UsageRows) -> pa.Table:
    """Rows of figures as a block for ClickHouse."""
    figures, count = usage.figures, usage.figures.length
    return usage_block(
        np.concatenate(usage.days),
        [scope.population for scope in usage.scopes],
        [scope.scope_id for scope in usage.scopes],
        np.array(usage.shards, np.uint32),
        np.array(usage.repeats, np.int64),
        np.array(usage.versions, np.uint64),
        np.concatenate(usage.lengths),
        np.concatenate(usage.counted),
        figures.name[:count],
        figures.dau[:count],
        figures.wau[:count],
        figures.mau[:count],
        figures.sessions[:count],
    )
