"""Rows into ClickHouse: Arrow blocks, built from columns, inserted whole.

An insert that fails may have been taken; inserting again is harmless, as the newest version of a key stands.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from clickhouse_connect.driver.client import Client

INSERT_SETTINGS = {
    "max_partitions_per_insert_block": 0,
    "max_threads": 1,
    "max_insert_threads": 1,
    "optimize_on_insert": 0,
}
"""History spans more years than the default of partitions for a block. Of two rows of a key the newer stands wherever they are,
so nothing is gained by merging a block before it is written, which takes longer than writing it. Several threads take about
a fifth more processor time for a block than one does.
"""

PING_SCHEMA = pa.schema(
    [
        ("uuid", pa.string()),
        ("hostname", pa.string()),
        ("namespace_id", pa.string()),
        ("recorded_at", pa.timestamp("us", "UTC")),
        ("received_at", pa.timestamp("ms", "UTC")),
        ("population", pa.string()),
        ("scope_id", pa.string()),
        ("version", pa.string()),
        ("edition", pa.string()),
        ("plan", pa.string()),
        ("registered_users", pa.int64()),
        ("billable_users", pa.int64()),
        ("seats", pa.int64()),
        ("historical_max_users", pa.int64()),
        ("counters", pa.uint32()),
        ("failed_counters", pa.uint32()),
        ("license_subscription_id", pa.string()),
        ("license_sha256", pa.string()),
        ("home", pa.uint32()),
        ("reports", pa.bool_()),
        ("stage_map", pa.uint16()),
        ("reported_names", pa.list_(pa.uint64())),
        ("reported_mau", pa.list_(pa.uint64())),
        ("reported_unknown", pa.uint32()),
        ("has_users_by", pa.bool_()),
        ("users_by_dimension", pa.list_(pa.string())),
        ("users_by_value", pa.list_(pa.string())),
        ("users_by_users", pa.list_(pa.uint64())),
        ("row_version", pa.uint64()),
    ]
)

LETTER_SCHEMA = pa.schema(
    [
        ("topic", pa.string()),
        ("partition", pa.uint32()),
        ("offset", pa.uint64()),
        ("reason", pa.string()),
        ("error", pa.string()),
        ("received_at", pa.timestamp("ms", "UTC")),
        ("row_version", pa.uint64()),
    ]
)

NAME_SCHEMA = pa.schema([("id", pa.uint64()), ("stage", pa.string()), ("feature", pa.string())])

PROGRESS_SCHEMA = pa.schema(
    [
        ("topic", pa.string()),
        ("partition", pa.uint32()),
        ("as_of", pa.date32()),
        ("received_at", pa.timestamp("ms", "UTC")),
        ("next_offset", pa.uint64()),
        ("row_version", pa.uint64()),
    ]
)

GAP_SCHEMA = pa.schema(
    [("topic", pa.string()), ("partition", pa.uint32()), ("first_offset", pa.uint64()), ("last_offset", pa.uint64())]
)


def row_block(rows: Sequence[tuple[Any, ...]], schema: pa.Schema) -> pa.Table:
    """Rows in the order of the schema's columns."""
    columns = zip(*rows, strict=True)
    return pa.Table.from_arrays(
        [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)], schema=schema
    )


def usage_block(
    days: npt.NDArray[np.int64],
    populations: Sequence[str],
    scope_ids: Sequence[str],
    shards: npt.NDArray[np.uint32],
    repeats: npt.NDArray[np.int64],
    versions: npt.NDArray[np.uint64],
    lengths: npt.NDArray[np.int64],
    counted: npt.NDArray[np.int64],
    names: npt.NDArray[np.uint64],
    dau: npt.NDArray[np.uint32],
    wau: npt.NDArray[np.uint32],
    mau: npt.NDArray[np.uint32],
    sessions: npt.NDArray[np.int64],
) -> pa.Table:
    """A block of `usage_day`.

    Args:
        days: day of each row, days since 1970.
        populations, scope_ids, shards, versions: of each scope; scope i stands for the next `repeats[i]` rows.
        lengths: elements of each row, which lie side by side in `names`, `dau`, `wau`, `mau` and `sessions` (-1 unknown).
        counted: how many of them are figures; those behind them have a name and sessions only.
    """
    rows = len(days)
    which = pa.array(np.repeat(np.arange(len(scope_ids), dtype=np.int32), repeats))
    arrays = _offsets(lengths)
    figures = arrays
    known = bool((sessions >= 0).any())
    if (counted < lengths).any():
        figures = _offsets(counted)
        place = np.arange(len(names)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        kept = place < np.repeat(counted, lengths)
        dau, wau, mau = dau[kept], wau[kept], mau[kept]
    return pa.table(
        {
            "as_of": pa.array(days.astype(np.int32)).cast(pa.date32()),
            "population": pa.array(populations, pa.string()).dictionary_encode().take(which),
            "scope_id": pa.array(scope_ids, pa.string()).take(which),
            "shard": pa.array(np.repeat(shards, repeats)),
            "basis": pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), pa.array(["exact"])),
            "names": pa.ListArray.from_arrays(arrays, pa.array(names)),
            "dau": pa.ListArray.from_arrays(figures, pa.array(dau)),
            "wau": pa.ListArray.from_arrays(figures, pa.array(wau)),
            "mau": pa.ListArray.from_arrays(figures, pa.array(mau)),
            "sessions": pa.ListArray.from_arrays(arrays, pa.array(sessions))
            if known
            else pa.ListArray.from_arrays(pa.array(np.zeros(rows + 1, np.int32)), pa.array([], pa.int64())),
            "version": pa.array(np.repeat(versions, repeats)),
        }
    )


def _offsets(lengths: npt.NDArray[np.int64]) -> pa.Array:
    offsets = np.zeros(len(lengths) + 1, np.int32)
    np.cumsum(lengths, out=offsets[1:])
    return pa.array(offsets)


def newest_epochs(client: Client, database: str, topic: str) -> dict[int, int]:
    """The newest epoch under which rows of each partition of a source topic were written."""
    found = client.query(
        f"SELECT partition, max(row_version) FROM {database}.progress WHERE topic = {{topic:String}} GROUP BY partition",
        parameters={"topic": topic},
    )
    return {int(partition): int(row_version) >> 40 for partition, row_version in found.result_rows}


class ArrowRows:
    """Rows for one insert, taken block by block and kept as they are sent: Arrow's stream format.

    Attributes:
        count, nbytes: of the rows so far.
    """

    def __init__(self, schema: pa.Schema) -> None:
        self.columns: list[str] = schema.names
        self.count = 0
        self._out = io.BytesIO()
        self._stream = pa.ipc.new_stream(self._out, schema)
        self._data: bytes | None = None

    def add(self, block: pa.Table) -> None:
        """Takes more rows."""
        self._stream.write_table(block)
        self.count += block.num_rows

    @property
    def nbytes(self) -> int:
        return self._out.tell()

    def data(self) -> bytes:
        """All of them; no more are taken from now on."""
        if self._data is None:
            self._stream.close()
            self._data = self._out.getvalue()
        return self._data


def insert(client: Client, database: str, table: str, block: pa.Table) -> int:
    """Inserts a block and returns once ClickHouse has taken it; gives the number of its bytes.

    Raises:
        clickhouse_connect.driver.exceptions.ClickHouseError: it was refused, or nobody knows.
    """
    rows = ArrowRows(block.schema)
    rows.add(block)
    return insert_rows(client, database, table, rows)


def insert_rows(client: Client, database: str, table: str, rows: ArrowRows) -> int:
    """The same with rows that were taken block by block: they become one block."""
    data = rows.data()
    client.raw_insert(f"{database}.{table}", rows.columns, data, INSERT_SETTINGS, "ArrowStream")
    return len(data)
