"""SQL that picks days. Of Grafana's macros only `$__fromTime` and `$__toTime` are used: they are moments, and do not depend
on the time zone of any server."""

from __future__ import annotations

from typing import Final

TIME: Final = "toDateTime(as_of, 'UTC') AS time"
"""A day as a moment of a time series: its beginning."""

LAST_DAY: Final = "toDate($__toTime, 'UTC')"
"""Day on which Grafana's time range ends."""

IN_RANGE: Final = f"as_of BETWEEN toDate($__fromTime, 'UTC') AND {LAST_DAY}"
"""Days of Grafana's time range."""

EACH_28_DAYS: Final = f"{IN_RANGE} AND dateDiff('day', as_of, {LAST_DAY}) % 28 = 0"
"""The last day of the range and every 28th before it: figures of 28 days that do not overlap, so they add up."""

UNKNOWN: Final = "(unknown)"
"""How a value that nobody told, '' in the views, is shown and chosen."""


def newest(view: str, *conditions: str) -> str:
    """The condition for the newest day that rows of `view` have, within the 28 days up to the end of the range: behind them
    figures of 28 days know nothing any more."""
    those = " AND ".join((f"as_of BETWEEN {LAST_DAY} - 27 AND {LAST_DAY}", *conditions))
    return f"as_of = (SELECT max(as_of) FROM {view} WHERE {those})"


def known(column: str) -> str:
    """The column with a word for ''."""
    return f"if({column} = '', '{UNKNOWN}', {column})"


def chosen(column: str, variable: str = "") -> str:
    """The condition for the values that are chosen in the variable of the column's name, or of another."""
    return f"{known(column)} IN (${{{variable or column}:singlequote}})"


def is_chosen(column: str, variable: str = "") -> str:
    """The condition for the one value that is chosen in the variable of the column's name, or of another."""
    return f"{column} = ${{{variable or column}:singlequote}}"
