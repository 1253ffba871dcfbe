"""How much a message may hold, whatever its bytes: of a hostile one no tree of objects is made.

A value costs Python up to 30 times the bytes that it takes in a message, so it is the values that are limited.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Final

from schemas.dead_letters import Reason, Unreadable

MAX_VALUES: Final = 100_000
"""Values in a billing event, or in one field of a ping that is read. GitLab's largest ping has some 4,800."""

MAX_ENTRIES: Final = 50_000
"""Entries of a ping's `activity`: 36 days of 500 features are 18,000. Users in them are not limited."""

MAX_LONG_NUMBERS: Final = 1_000
"""Numbers in a billing event that have an exponent of three digits or more: few bytes that are thousands of digits."""


def is_crowded(text: bytes, limit: int = MAX_VALUES, signs: bytes = b",[{") -> bool:
    """Whether more than `limit` of these signs stand outside of strings: commas and openers are a bound on the number of values.

    For any bytes. Looks no further than it must, and gathers nothing.
    """
    if len(text) <= limit or sum(map(text.count, signs)) <= limit:
        return False
    return _more_than(limit, signs).match(text) is not None


@cache
def _more_than(limit: int, signs: bytes) -> re.Pattern[bytes]:
    """So many signs and one more, each with what stands before it; nothing is tried again."""
    outside, sign = b'[^"%b]++' % re.escape(signs), b"[%b]" % re.escape(signs)
    return re.compile(b"(?:(?:%b|%b)*+%b){%d}+" % (outside, _STRING, sign, limit + 1), re.DOTALL)


def refuse_crowd(value: bytes) -> None:
    """Raises `too_large` for a billing event that holds more than it may."""
    if len(value) > MAX_LONG_NUMBERS:
        if is_crowded(value):
            raise too_many("values", MAX_VALUES)
        if value.count(b"e") + value.count(b"E") > MAX_LONG_NUMBERS:
            long = sum(1 for found in _STRING_OR_LONG_NUMBER.finditer(value) if found[1])
            if long > MAX_LONG_NUMBERS:
                raise too_many("numbers with large exponents", MAX_LONG_NUMBERS)


def too_many(what: str, limit: int, path: str = "$") -> Unreadable:
    """The refusal of a message that holds too many of something."""
    return Unreadable(Reason.TOO_LARGE, f"the message holds more than the {limit:,} {what} allowed - at `{path}`")


_STRING: Final = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)'
"""Also one that does not end."""

_STRING_OR_LONG_NUMBER: Final = re.compile(_STRING + rb"|([0-9][eE]\+?0*+[1-9][0-9]{2})", re.DOTALL)
