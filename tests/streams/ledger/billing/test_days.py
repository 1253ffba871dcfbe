"""Months on the calendar."""

from __future__ import annotations

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.ping import EPOCH_ORDINAL
from streams.ledger.billing.days import FOR_EVER, a_year_on, months_after


def day(text: str) -> int:
    return dt.date.fromisoformat(text).toordinal() - EPOCH_ORDINAL


@pytest.mark.parametrize(
    ("start", "months", "end"),
    [
        ("2025-01-31", 13, "2026-02-28"),
        ("2023-01-31", 13, "2024-02-29"),
        ("2024-02-29", 12, "2025-02-28"),
        ("2025-11-30", 13, "2026-12-30"),
        ("2025-12-31", 13, "2027-01-31"),
    ],
)
def test_months_end_with_the_month(start: str, months: int, end: str) -> None:
    assert months_after(day(start), months) == day(end)


@pytest.mark.parametrize(
    ("start", "seen"),
    [
        ("2023-02-28", "2024-02-28"),
        ("2024-02-28", "2025-02-28"),
        ("2024-02-29", "2025-03-01"),  # 28 February a year later looks back to the 28th
        ("2024-03-01", "2025-03-01"),
        ("2027-02-28", "2028-02-28"),
    ],
)
def test_a_year_on(start: str, seen: str) -> None:
    assert a_year_on(day(start)) == day(seen)


@given(st.dates(dt.date(1971, 1, 1), dt.date(2200, 1, 1)))
def test_a_year_on_is_the_first_day_that_looks_back_so_far(date: dt.date) -> None:
    def a_year_ago(then: dt.date) -> dt.date:
        last = (
            dt.date(then.year - 1, then.month % 12 + 1, 1) if then.month < 12 else dt.date(then.year, 1, 1)
        ) - dt.timedelta(1)
        return dt.date(then.year - 1, then.month, min(then.day, last.day))

    seen = dt.date.fromordinal(a_year_on(date.toordinal() - EPOCH_ORDINAL) + EPOCH_ORDINAL)
    assert a_year_ago(seen) >= date > a_year_ago(seen - dt.timedelta(1))


def test_days_beyond_the_last_there_is_are_the_last() -> None:
    assert months_after(day("2299-01-01"), 13) == FOR_EVER
    assert a_year_on(dt.date(9999, 6, 1).toordinal() - EPOCH_ORDINAL) == FOR_EVER
