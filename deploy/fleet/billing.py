"""The billing events of a fleet's accounts, in the order of delivery."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from deploy.fleet import billing_noise as noise
from deploy.fleet.account import TURN_DAYS, Account, Event
from deploy.fleet.dice import Dice
from deploy.fleet.market import Rates
from deploy.fleet.noise import wrong_key
from deploy.fleet.ownership import account_id, covers, holdings
from deploy.fleet.profile import Profile
from deploy.fleet.sender import DAY_MS
from deploy.fleet.spec import FleetSpec
from deploy.fleet.subscription import midnight
from deploy.message import Message
from sinks.topics import BILLING_EVENTS

LATE_DAYS: Final = 120
"""A renewal that is booked a quarter late and then some."""

DUPLICATE_DAYS: Final = 3


def billing_messages(spec: FleetSpec, profiles: Sequence[Profile]) -> Iterator[tuple[int, Message]]:
    """(when it is delivered, message) of every event, in that order; when is Unix time in milliseconds.

    Holds the accounts as they are and the events of a month, and those that are late.

    Args:
        spec: the fleet.
        profiles: its senders of pings, some of which the accounts own.
    """
    accounts = list(_accounts(spec, profiles))
    dice = Dice(spec.seed, "billing noise")
    waiting: list[tuple[int, int, Message]] = []
    serial = 0
    early_ms = spec.reorder_days * DAY_MS if spec.reordered else 0
    last = spec.last_day.toordinal() + 1
    for number, first in enumerate(range(spec.first_billing_day.toordinal(), last, TURN_DAYS)):
        end = min(first + TURN_DAYS, last)
        for account in accounts:
            for event in account.turn(number, first, end):
                for deliver_at, message in _deliveries(spec, event, account.key, dice):
                    heapq.heappush(waiting, (deliver_at, serial, message))
                    serial += 1
        # What happens in the next turn is delivered from here on, some of it too early.
        settled = midnight(end) - early_ms
        while waiting and waiting[0][0] < settled:
            deliver_at, _, message = heapq.heappop(waiting)
            yield deliver_at, message
    while waiting:
        deliver_at, _, message = heapq.heappop(waiting)
        yield deliver_at, message


def _accounts(spec: FleetSpec, profiles: Sequence[Profile]) -> Iterator[Account]:
    rates = Rates(spec.seed, spec.reporting_currency, -(-spec.billing_days // TURN_DAYS))
    bought = covers(holdings(spec, profiles), profiles)
    return (Account(spec, number, bought.get(number, ()), rates) for number in range(spec.accounts))


def _deliveries(spec: FleetSpec, event: Event, right: bytes, dice: Dice) -> Iterator[tuple[int, Message]]:
    """(when, message) for the event and for what noise adds to it."""
    timestamp = event.moment
    key: bytes | None = right
    deliver_at = timestamp
    if dice.chance(spec.wrong_keys):
        key = wrong_key(dice, [account_id(spec.seed, dice.below(spec.accounts)).encode()])
    if dice.chance(spec.reordered):
        deliver_at += dice.between(-spec.reorder_days * DAY_MS, spec.reorder_days * DAY_MS)
    if dice.chance(spec.late_billing):
        deliver_at += dice.between(DAY_MS, LATE_DAYS * DAY_MS)
    if dice.chance(spec.broken):
        yield deliver_at, Message(BILLING_EVENTS, key, noise.broken(dice, event)[1], timestamp)
    if dice.chance(spec.future):
        yield deliver_at, Message(BILLING_EVENTS, key, noise.of_wrong_clock(dice, event), timestamp)
    value = msgspec.json.encode(event.document)
    yield deliver_at, Message(BILLING_EVENTS, key, value, timestamp)
    if dice.chance(spec.duplicates):
        again = noise.written_differently(event.document) if dice.chance(0.5) else value
        later = deliver_at + dice.between(60_000, DUPLICATE_DAYS * DAY_MS)
        yield later, Message(BILLING_EVENTS, right, again, timestamp)
    # Which of two contents is the first is told by their order in a partition: both must go to the same one.
    if key is not None and dice.chance(spec.conflicts):
        later = deliver_at + dice.between(60_000, DUPLICATE_DAYS * DAY_MS)
        yield later, Message(BILLING_EVENTS, key, noise.conflicting(event), timestamp)
