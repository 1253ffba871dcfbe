"""Late and future, judged by a message's own received time and nothing else (contract, section 2.1)."""

from __future__ import annotations

from streams.ledger.records import DAY_MS

LATE_DAYS = 36
"""An entry of a day that is more than so many days before the received day is late."""

FUTURE_DAYS = 1
BACKWARDS_MS = 36 * DAY_MS
"""How far record timestamps may run backwards within a partition."""


def received_day(timestamp_ms: int) -> int:
    """The UTC day of a received time."""
    return timestamp_ms // DAY_MS


def is_future(day: int, received: int) -> bool:
    """Whether a day lies more than one day after the received day."""
    return day > received + FUTURE_DAYS


def is_behind(timestamp_ms: int, newest_before_ms: int) -> bool:
    """Whether a message is more than 36 days behind the newest one before it in its partition."""
    return timestamp_ms < newest_before_ms - BACKWARDS_MS


def entries_sentence(late: int, future: int) -> str:
    """What the letter of a ping says from which entries were taken out."""
    return (
        f"{late} late and {future} future of its entries were taken out, the rest was applied: "
        f"more than {LATE_DAYS} days before or {FUTURE_DAYS} day after the day the message was received - at `$.activity`, `$.sessions`"
    )
