"""Blocks of rows as plain values: a row a key, its groups of columns as lists of tuples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from streams.ledger.billing.columns import Column, Lists, Strings, Texts
from streams.ledger.billing.rows import AccountRows, Group

Row = dict[str, Any]


def values(column: Column) -> list[Any]:
    """The elements of a column."""
    if isinstance(column, Strings):
        names = values(column.names)
        return [names[code] for code in column.codes.tolist()]
    if isinstance(column, Texts):
        data, offsets = column.data.tobytes(), column.offsets.tolist()
        return [data[start:end].decode() for start, end in pairwise(offsets)]
    if isinstance(column, Lists):
        ends = np.cumsum(column.lengths).tolist()
        return [
            tuple(column.items[end - length : end].tolist())
            for end, length in zip(ends, column.lengths.tolist(), strict=True)
        ]
    return column.tolist() if isinstance(column, np.ndarray) else list(column)


def accounts(block: AccountRows) -> Iterator[tuple[tuple[Any, ...], Row]]:
    """(key columns, groups) of each row of `billing_account`."""
    return _rows(block.accounts, block.of_account)


def subscriptions(block: AccountRows) -> Iterator[tuple[tuple[Any, ...], Row]]:
    """The same of `billing_subscription`."""
    return _rows(block.subscriptions, block.of_subscription)


def _rows(keys: Sequence[Column], groups: dict[str, Group]) -> Iterator[tuple[tuple[Any, ...], Row]]:
    elements = {
        name: list(zip(*map(values, group.columns), strict=True)) if len(group.lengths) else []
        for name, group in groups.items()
    }
    at = dict.fromkeys(groups, 0)
    for place, key in enumerate(zip(*map(values, keys), strict=True)):
        row: Row = {}
        for name, group in groups.items():
            length = int(group.lengths[place])
            row[name] = elements[name][at[name] : at[name] + length]
            at[name] += length
        yield key, row
    assert at == {name: len(some) for name, some in elements.items()}
