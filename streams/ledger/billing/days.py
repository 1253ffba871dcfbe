"""Days since 1970, and months on the calendar."""

from __future__ import annotations

import datetime as dt
from functools import lru_cache

from schemas.ping import EPOCH_ORDINAL

WINDOW = 28
"""Days of a window."""

KEPT_MONTHS = 13
"""How long a cancelled subscription is still shown."""

FOR_EVER = dt.date(2299, 12, 31).toordinal() - EPOCH_ORDINAL
"""The last day there is in ClickHouse: stands for no end."""


@lru_cache(4096)
def months_after(day: int, months: int) -> int:
    """The same date so many months later; the month's last day where it has no such date."""
    date = dt.date.fromordinal(day + EPOCH_ORDINAL)
    number = date.year * 12 + date.month - 1 + months
    year, month = number // 12, number % 12 + 1
    return min(_date(year, month, date.day), FOR_EVER)


@lru_cache(4096)
def a_year_on(day: int) -> int:
    """The first day whose date 12 months ago (of 29 February: the 28th) is `day` or a later one."""
    date = dt.date.fromordinal(day + EPOCH_ORDINAL)
    if (date.month, date.day) == (2, 29):
        return _date(date.year + 1, 3, 1)
    return min(_date(date.year + 1, date.month, date.day), FOR_EVER)


def _date(year: int, month: int, day: int) -> int:
    if year > dt.MAXYEAR:
        return FOR_EVER
    try:
        return dt.date(year, month, day).toordinal() - EPOCH_ORDINAL
    except ValueError:
        following = dt.date(year + month // 12, month % 12 + 1, 1)
        return following.toordinal() - 1 - EPOCH_ORDINAL
