"""Rows of `ping`: of pings that were read one by one, and of plain ones, whose columns go to Arrow as they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from schemas.stage_map import STAGE_MAP
from sinks.clickhouse.writer import PING_SCHEMA, row_block
from streams.ledger.book import EDITION_PLANS
from streams.ledger.names import Names
from streams.ledger.plain.folding import PlainRows
from streams.ledger.plain.kernels import (
    BILLABLE,
    EDITION,
    HISTORICAL,
    HOSTNAME,
    MD5,
    PLAN,
    REGISTERED,
    SEATS,
    SHA256,
    SUBSCRIPTION,
    UUID,
    VERSION_TEXT,
    gather,
)
from streams.ledger.reading import SELF_MANAGED
from streams.ledger.records import PingRow


def ping_block(pings: Sequence[tuple[int, int, PingRow]], names: Names) -> pa.Table:
    """A block of `ping` of rows, each with its partition and that one's epoch."""
    return row_block([_ping(*ping, names) for ping in pings], PING_SCHEMA)


def _ping(partition: int, epoch: int, row: PingRow, names: Names) -> tuple[Any, ...]:
    """A row of `ping`, in the order of its columns."""
    reported, users_by = row.reported or [], row.users_by or []
    return (
        *row[: PingRow._fields.index("reported")],
        partition,
        row.reported is not None,
        STAGE_MAP.version if row.reported is not None else 0,
        [names.number(stage, feature) for stage, feature, _ in reported],
        [mau for _, _, mau in reported],
        row.unknown,
        row.users_by is not None,
        [dimension for dimension, _, _ in users_by],
        [value for _, value, _ in users_by],
        [users for _, _, users in users_by],
        epoch,
    )


def plain_block(parts: Sequence[tuple[int, int, PlainRows]]) -> pa.Table:
    """A block of `ping` of plain pings, each part with its partition and that one's epoch. They report nothing: no counters, no
    figures, nothing by dimension."""
    rows = [part for _, _, part in parts]
    lengths = [len(part.recorded_at) for part in rows]
    count = sum(lengths)
    told = np.concatenate([part.numbers for part in rows])
    recorded_at, received_at = (
        np.concatenate([getattr(part, of) for part in rows]) for of in ("recorded_at", "received_at")
    )

    def texts(of: int) -> pa.Array:
        sizes = [int((part.spans[:, of, 1] - part.spans[:, of, 0]).sum()) for part in rows]
        offsets, data = np.zeros(count + 1, np.int32), np.empty(sum(sizes), np.uint8)
        at = size = 0
        for part, length, nbytes in zip(rows, lengths, sizes, strict=True):
            starts, ends = np.ascontiguousarray(part.spans[:, of, 0]), np.ascontiguousarray(part.spans[:, of, 1])
            some = np.empty(length + 1, np.int32)
            gather(np.frombuffer(part.text, np.uint8), starts, ends, some, data[size : size + nbytes])
            offsets[at + 1 : at + length + 1] = some[1:] + size
            at, size = at + length, size + nbytes
        return pa.StringArray.from_buffers(count, pa.py_buffer(offsets), pa.py_buffer(data))

    def numbers(of: int) -> pa.Array:
        column = np.ascontiguousarray(told[:, of])
        return pa.array(column, mask=column < 0)

    uuid, hostname, edition = texts(UUID), texts(HOSTNAME), texts(EDITION)
    editions = edition.dictionary_encode()
    plans = pa.array([EDITION_PLANS.get(one, "free") for one in editions.dictionary.to_pylist()], pa.string())
    columns = {
        "uuid": uuid,
        "hostname": hostname,
        "namespace_id": pa.repeat("", count),
        "recorded_at": _moments(recorded_at, pa.timestamp("us", "UTC")),
        "received_at": _moments(received_at, pa.timestamp("ms", "UTC")),
        "population": pa.repeat(SELF_MANAGED, count),
        "scope_id": pc.binary_join_element_wise(uuid, hostname, "@"),
        "version": texts(VERSION_TEXT),
        "edition": edition,
        "plan": _first(texts(PLAN), plans.take(editions.indices)),
        "registered_users": numbers(REGISTERED),
        "billable_users": numbers(BILLABLE),
        "seats": numbers(SEATS),
        "historical_max_users": numbers(HISTORICAL),
        "license_subscription_id": texts(SUBSCRIPTION),
        "license_sha256": _first(texts(SHA256), texts(MD5)),
        "home": pa.array(np.repeat(np.array([home for home, _, _ in parts], np.uint32), lengths)),
        "row_version": pa.array(np.repeat(np.array([epoch for _, epoch, _ in parts], np.uint64), lengths)),
    }
    nothing = {
        kind: _nothing(kind, count) for kind in {field.type for field in PING_SCHEMA if field.name not in columns}
    }
    return pa.table([columns.get(field.name, nothing.get(field.type)) for field in PING_SCHEMA], PING_SCHEMA)


def _moments(column: npt.NDArray[np.int64], kind: pa.DataType) -> pa.Array:
    return pa.Array.from_buffers(kind, len(column), [None, pa.py_buffer(np.ascontiguousarray(column))])


def _first(texts: pa.Array, others: pa.Array) -> pa.Array:
    """Each text, and the other one where it is empty."""
    return pc.if_else(pc.equal(texts, ""), others, texts)


def _nothing(kind: pa.DataType, count: int) -> pa.Array:
    """A column of zeros, False or empty lists."""
    if pa.types.is_list(kind):
        return pa.ListArray.from_arrays(pa.array(np.zeros(count + 1, np.int32)), pa.array([], kind.value_type))
    return pa.array(np.zeros(count, np.int64)).cast(kind)
