"""Rows of the billing tables: the Arrow schema of each, columns in the table's order.

Money is whole cents, days are days since 1970; columns of one prefix (`state_`, `movement_` …) are lists of equal length
within a row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeGuard

import numpy as np
import numpy.typing as npt
import pyarrow as pa

DAYS = pa.list_(pa.date32())
MOMENTS = pa.list_(pa.timestamp("us", "UTC"))
STRINGS = pa.list_(pa.string())
INTEGERS = pa.list_(pa.int64())
PARTS = pa.list_(pa.decimal128(38))
COUNTS = pa.list_(pa.int32())
CELLS = pa.list_(pa.uint64())
CUTS = pa.list_(pa.uint16())

PROFILE_FIELDS = [
    ("profile_day", DAYS),
    ("profile_parent", STRINGS),
    ("profile_country", STRINGS),
    ("profile_geo", STRINGS),
    ("profile_territory", STRINGS),
    ("profile_segment", STRINGS),
    ("profile_buyer_persona", STRINGS),
    ("profile_acquisition_channel", STRINGS),
    ("profile_acquisition_source", STRINGS),
]

ACCOUNT_SCHEMA = pa.schema(
    [
        ("account_id", pa.string()),
        ("home", pa.uint32()),
        ("first_day", pa.date32()),
        ("tick_day", DAYS),
        *PROFILE_FIELDS,
        ("link_kind", STRINGS),
        ("link_id", STRINGS),
        ("link_subscription", STRINGS),
        ("link_claimed", pa.list_(MOMENTS)),
        ("movement_event", STRINGS),
        ("movement_at", MOMENTS),
        ("movement_subscription", STRINGS),
        ("movement_kind", STRINGS),
        ("movement_channel", STRINGS),
        ("movement_plan_from", STRINGS),
        ("movement_plan_to", STRINGS),
        ("movement_seats_from", INTEGERS),
        ("movement_seats_to", INTEGERS),
        ("movement_mrr_from", INTEGERS),
        ("movement_mrr_to", INTEGERS),
        ("movement_seat_mrr", PARTS),
        ("movement_tier_mrr", PARTS),
        ("movement_discount_mrr", PARTS),
        ("movement_price_mrr", PARTS),
        ("addon_event", STRINGS),
        ("addon_at", MOMENTS),
        ("addon_channel", STRINGS),
        ("addon_name", STRINGS),
        ("addon_quantity", INTEGERS),
        ("addon_amount", INTEGERS),
        ("action_motion", STRINGS),
        ("action_event", STRINGS),
        ("action_at", MOMENTS),
        ("action_channel", STRINGS),
        ("cut_cells", pa.list_(CELLS)),
        ("held_cut", CUTS),
        ("held_day", DAYS),
        ("held_rows", COUNTS),
        ("held_seats", INTEGERS),
        ("held_mrr", INTEGERS),
        ("window_movement", pa.list_(pa.uint32())),
        ("window_from", DAYS),
        ("window_to", DAYS),
        ("window_cut", CUTS),
        ("retention_level", pa.list_(pa.uint8())),
        ("retention_day", DAYS),
        ("retention_base", INTEGERS),
        ("retention_mrr", INTEGERS),
        ("retention_current", INTEGERS),
        ("retention_gross", INTEGERS),
        ("retention_customers", COUNTS),
        ("retention_churned", COUNTS),
        ("family_day", DAYS),
        ("family_parent", STRINGS),
        ("family_base", INTEGERS),
        ("family_mrr", INTEGERS),
        ("row_version", pa.uint64()),
    ]
)

SUBSCRIPTION_SCHEMA = pa.schema(
    [
        ("account_id", pa.string()),
        ("subscription_id", pa.string()),
        ("home", pa.uint32()),
        ("state_day", DAYS),
        ("state_last", DAYS),
        ("state_deployment", STRINGS),
        ("state_plan", STRINGS),
        ("state_seats", INTEGERS),
        ("state_mrr", INTEGERS),
        ("base_day", DAYS),
        ("base_mrr", INTEGERS),
        ("added_day", DAYS),
        ("added_seats", INTEGERS),
        ("removed_seats", INTEGERS),
        ("sync_day", DAYS),
        ("sync_billable", INTEGERS),
        ("sync_max", INTEGERS),
        *PROFILE_FIELDS,
        ("row_version", pa.uint64()),
    ]
)

CELL_SCHEMA = pa.schema([("id", pa.uint64()), ("dimension", pa.string()), ("value", pa.string())])

ACCOUNT_GROUPS = {
    "tick": 1, "profile": 9, "link": 4, "movement": 15, "addon": 6, "action": 4, "cut": 1, "held": 5, "window": 4,
    "retention": 8, "family": 4,
}  # fmt: skip
"""Columns of `billing_account` that are lists of equal length within a row, by the name of their group, in order."""

SUBSCRIPTION_GROUPS = {"state": 6, "base": 2, "added": 3, "sync": 3, "profile": 9}
"""The same of `billing_subscription`."""


class Utf8(Protocol):
    """Strings side by side: the UTF-8 of all, and where each begins, with the end of the last."""

    @property
    def data(self) -> npt.NDArray[np.uint8]: ...
    @property
    def offsets(self) -> npt.NDArray[np.int32]: ...


class Numbered(Protocol):
    """Strings by number: an element is names[codes[i]]."""

    @property
    def names(self) -> Sequence[str] | Utf8: ...
    @property
    def codes(self) -> npt.NDArray[np.int64]: ...


class Nested(Protocol):
    """Elements that are lists: their items one after the other, and how many each has."""

    @property
    def items(self) -> npt.NDArray[np.int64]: ...
    @property
    def lengths(self) -> npt.NDArray[np.int64]: ...


Column = npt.NDArray[Any] | Sequence[Any] | Numbered | Utf8 | Nested
"""Elements of a column. Dates are days, moments microseconds since 1970."""


def array_block(
    schema: pa.Schema,
    keys: Sequence[Column],
    widths: Mapping[str, int],
    groups: Mapping[str, tuple[Sequence[Column], npt.NDArray[np.int64]]],
    version: int,
) -> pa.Table:
    """Rows with columns of lists.

    Args:
        schema: key columns, then the groups' in the order of `widths`, then the version.
        keys: columns, an element a row.
        widths: how many columns a group has.
        groups: the columns of a group, the elements of all rows one after the other, and how many each row has.
        version: of all rows.
    """
    fields = iter(schema)
    columns = [_arrow(column, next(fields).type) for column in keys]
    for group, width in widths.items():
        some, lengths = groups[group]
        if len(some) != width:
            raise ValueError(f"{group} has {width} columns, not {len(some)}")
        offsets = _offsets(lengths)
        columns += [_lists(_arrow(column, (of := next(fields).type).value_type), offsets, of) for column in some]
    columns.append(pa.array(np.full(len(columns[0]), version, np.uint64)))
    return pa.Table.from_arrays(columns, schema=schema)


def _offsets(lengths: npt.NDArray[np.int64]) -> pa.Array:
    offsets = np.zeros(len(lengths) + 1, np.int32)
    np.cumsum(lengths, out=offsets[1:])
    return pa.array(offsets)


def _lists(elements: pa.Array, offsets: pa.Array, of: pa.DataType) -> pa.Array:
    return pa.ListArray.from_arrays(offsets, elements, type=of)


def _arrow(column: Column, of: pa.DataType) -> pa.Array:
    if isinstance(column, np.ndarray):
        return _array(column, of)
    if _is_numbered(column):
        return _arrow(column.names, of).take(pa.array(column.codes))
    if _is_utf8(column):
        return pa.StringArray.from_buffers(
            len(column.offsets) - 1, pa.py_buffer(column.offsets), pa.py_buffer(column.data)
        )
    if _is_nested(column):
        return _lists(_arrow(column.items, of.value_type), _offsets(column.lengths), of)
    return pa.array(column, of)


# What a runtime-checkable protocol would ask, in a hundredth of its time: a row has a hundred columns.


def _is_numbered(column: Column) -> TypeGuard[Numbered]:
    return hasattr(column, "codes")


def _is_utf8(column: Column) -> TypeGuard[Utf8]:
    return hasattr(column, "offsets")


def _is_nested(column: Column) -> TypeGuard[Nested]:
    return hasattr(column, "lengths")


def _array(column: npt.NDArray[Any], of: pa.DataType) -> pa.Array:
    if column.dtype == object:
        return pa.array(column, of)
    if pa.types.is_date32(of):
        return pa.array(column.astype(np.int32)).view(of)
    if pa.types.is_timestamp(of):
        return pa.array(column).view(of)
    array = pa.array(column)
    return array if array.type == of else array.cast(of)
