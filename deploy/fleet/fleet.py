"""The stream of a fleet's messages, in the order of delivery."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from operator import itemgetter
from typing import Final

from deploy.fleet import noise
from deploy.fleet.billing import billing_messages
from deploy.fleet.dice import Dice
from deploy.fleet.roster import senders
from deploy.fleet.sender import DAY_MS, EPOCH_DAY, Ping, Sender
from deploy.fleet.spec import FleetSpec
from deploy.message import Message
from sinks.topics import USAGE_PINGS

DUPLICATE_DAYS: Final = 3
WRONG_CLOCKS: Final = 0.25
"""Share of the pings with something of the future that come from a clock that is wrong as a whole."""

EVENTS_AT_FIRST: Final = 2.0
EVENTS_A_DAY: Final = 0.0163
"""Billing events of an account: at its beginning, and on each day of history (measured over 100 to 1,000 days)."""


class Fleet:
    """A fleet, ready to send.

    Good pings and events depend on the seed, the numbers and the days alone: noise is drawn apart from them, so the same fleet with
    and without noise sends the same good ones.
    """

    def __init__(self, spec: FleetSpec) -> None:
        self.spec = spec

    def expected_messages(self) -> int:
        """About how many messages there will be; exact without accounts, duplicates and broken ones."""
        spec = self.spec
        first, last = spec.first_day.toordinal(), spec.last_day.toordinal()
        pings = sum(sender.profile.sends_on(day) for sender in senders(spec) for day in range(first, last + 1))
        events = spec.accounts * (EVENTS_AT_FIRST + EVENTS_A_DAY * spec.billing_days)
        return round(
            pings * (1 + spec.duplicates + spec.broken)
            + events * (1 + spec.duplicates + spec.broken + spec.future + spec.conflicts)
        )

    def messages(self) -> Iterator[Message]:
        """Every message of both topics, in the order of delivery. Holds no more than a few days of pings at once, and a month of
        billing events."""
        everybody = senders(self.spec)
        billing = billing_messages(self.spec, [sender.profile for sender in everybody])
        return (message for _, message in heapq.merge(self._pings(everybody), billing, key=itemgetter(0)))

    def billing(self) -> Iterator[Message]:
        """The billing events alone, in the order of delivery."""
        profiles = [sender.profile for sender in senders(self.spec)]
        return (message for _, message in billing_messages(self.spec, profiles))

    def _pings(self, everybody: list[Sender]) -> Iterator[tuple[int, Message]]:
        spec = self.spec
        keys = [sender.profile.key for sender in everybody]
        dice = Dice(spec.seed, "noise")
        waiting: list[tuple[int, int, Message]] = []
        serial = 0
        early_ms = spec.reorder_days * DAY_MS if spec.reordered else 0
        for day in range(spec.first_day.toordinal(), spec.last_day.toordinal() + 1):
            for sender in everybody:
                ping = _next_ping(sender, day)
                if ping is None:
                    continue
                for deliver_at, message in self._deliveries(ping, dice, keys):
                    heapq.heappush(waiting, (deliver_at, serial, message))
                    serial += 1
            # Tomorrow's pings are delivered from here on, some of them too early.
            settled = (day - EPOCH_DAY + 1) * DAY_MS - early_ms
            while waiting and waiting[0][0] < settled:
                deliver_at, _, message = heapq.heappop(waiting)
                yield deliver_at, message
        while waiting:
            deliver_at, _, message = heapq.heappop(waiting)
            yield deliver_at, message

    def _deliveries(self, ping: Ping, dice: Dice, keys: list[bytes]) -> Iterator[tuple[int, Message]]:
        """(when, message) for the ping and for what noise adds to it. When is Unix time in milliseconds."""
        spec = self.spec
        timestamp = ping.recorded
        key: bytes | None = ping.profile.key
        clean = True
        if dice.chance(spec.late):
            ping, clean = noise.with_late_entry(dice, ping), False
        if dice.chance(spec.future):
            wrong = noise.with_wrong_clock if dice.chance(WRONG_CLOCKS) else noise.with_future_entry
            ping, clean = wrong(dice, ping), False
        if dice.chance(spec.wrong_keys):
            key = noise.wrong_key(dice, keys)
        deliver_at = timestamp
        if dice.chance(spec.reordered):
            deliver_at += dice.between(-spec.reorder_days * DAY_MS, spec.reorder_days * DAY_MS)
        if dice.chance(spec.broken):
            yield deliver_at, Message(USAGE_PINGS, key, noise.broken(dice, ping)[1], timestamp)
        value = ping.value()
        yield deliver_at, Message(USAGE_PINGS, key, value, timestamp)
        if dice.chance(spec.duplicates):
            again = noise.written_differently(ping) if dice.chance(0.5) else value
            later = deliver_at + dice.between(60_000, DUPLICATE_DAYS * DAY_MS)
            # Which of two equal messages is the first is told by their order in a partition. Where it shows, because
            # the first one leaves a letter, both must go to the same one.
            if clean or key is not None:
                yield later, Message(USAGE_PINGS, ping.profile.key if clean else key, again, timestamp)


def _next_ping(sender: Sender, day: int) -> Ping | None:
    """Lets the day before `day` happen, then the ping of `day`."""
    if sender.profile.first_ping <= day <= sender.profile.last_ping:
        sender.live(day - 1)
    return sender.ping(day)
