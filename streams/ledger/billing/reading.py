"""A batch of billing events, read: digests of all of them at once, plain messages by the short way, the others by the models."""

from __future__ import annotations

from collections.abc import Sequence

from schemas.billing import BillingEvent, read_billing_event
from schemas.billing_plain import read_plain
from schemas.dead_letters import Unreadable
from streams.ledger.billing.digests import PLAIN, digests_of


def read_events(
    values: Sequence[bytes | None], reporting_currency: str, max_message_bytes: int
) -> list[BillingEvent | Unreadable]:
    """What each message says, or why it says nothing; see `schemas.billing.read_billing_event`."""
    read: list[BillingEvent | Unreadable] = []
    small = [value if value is not None and len(value) <= max_message_bytes else b"" for value in values]
    for value, of_values, form in zip(values, *digests_of(small), strict=True):
        event: BillingEvent | Unreadable | None = None
        if form == PLAIN and value is not None:
            event = read_plain(value, reporting_currency, of_values)
        if event is None:
            try:
                event = read_billing_event(value, reporting_currency, max_message_bytes, of_values)
            except Unreadable as exc:
                event = exc
        read.append(event)
    return read
