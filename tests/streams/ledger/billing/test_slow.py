"""The columns of many accounts at once against the slow form, one event at a time."""

from __future__ import annotations

import random

import pytest

from schemas.billing import BillingEvent, read_billing_event
from schemas.dead_letters import Unreadable
from streams.ledger.billing.cells import Cells
from streams.ledger.billing.rows import rows_of
from tests.strange_billing import strange_billing_records
from tests.streams.ledger.billing import slow
from tests.streams.ledger.billing.events import LIMIT, history_of
from tests.streams.ledger.billing.shape import accounts, subscriptions
from tests.test_billing_figures import LAST_DAY


def events_of(seed: int, number: int) -> list[list[BillingEvent]]:
    """Strange events by account, of each id the first, in any order."""
    found: dict[str, dict[str, BillingEvent]] = {}
    for record in strange_billing_records(seed, number, partitions=1, last_day=LAST_DAY):
        try:
            event = read_billing_event(record.value, "USD", LIMIT)
        except Unreadable:
            continue
        found.setdefault(event.account_id, {}).setdefault(event.event_id, event)
    some = [list(events.values()) for events in found.values()]
    for events in some:
        random.Random(seed).shuffle(events)
    return some


@pytest.mark.parametrize("seed", range(20))
def test_every_row_is_that_of_the_slow_form(seed: int) -> None:
    cells = Cells()
    some = events_of(seed, 400)
    block = rows_of(history_of(some), cells, 3, 7)
    of_accounts, of_subscriptions = dict(accounts(block)), dict(subscriptions(block))
    assert len(of_accounts) == len(some)
    seen = 0
    for events in some:
        account = slow.read_account(events)
        row, rows = slow.rows_of(account, cells)
        found = of_accounts[account.account_id, 3, account.first_day]
        for name, elements in row.items():
            if name not in ("cut", "held", "window"):
                changing = [element for element in elements if name != "retention" or any(element[2:])]
                assert sorted(found[name]) == sorted(changing), name
        # cuts may be numbered otherwise
        assert sorted(found["cut"]) == sorted(row["cut"])
        for name, at in (("held", 0), ("window", 3)):
            assert sorted(_by_cells(found, name, at)) == sorted(_by_cells(row, name, at)), name
        for subscription_id, groups in rows.items():
            found = of_subscriptions[account.account_id, subscription_id, 3]
            for name, elements in groups.items():
                assert found[name] == [tuple(element) for element in elements], name
            seen += 1
    assert seen == len(of_subscriptions) > 3


def _by_cells(row: dict[str, list[tuple[int, ...]]], name: str, at: int) -> list[tuple[object, ...]]:
    return [(*element[:at], row["cut"][element[at] - 1], *element[at + 1 :]) for element in row[name]]
