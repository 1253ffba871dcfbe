"""A batch of events is read as each event by itself is; most go the short way."""

from __future__ import annotations

import datetime as dt
import json
import random

from deploy.fleet import Fleet, FleetSpec
from schemas.billing import BillingEvent, read_billing_event
from schemas.billing_plain import read_plain
from schemas.dead_letters import Reason, Unreadable
from streams.ledger.billing.digests import digests_of
from streams.ledger.billing.reading import read_events
from tests.strange_billing import strange_billing_records
from tests.streams.ledger.billing.events import LIMIT, document, subscribed

DAY = dt.date(2026, 3, 20)
FLEET = FleetSpec(last_day=DAY, days=1, seed=3, installations=0, groups=0, accounts=120, billing_days=400)


def by_themselves(values: list[bytes | None]) -> list[BillingEvent | tuple[Reason, str]]:
    found: list[BillingEvent | tuple[Reason, str]] = []
    for value in values:
        try:
            found.append(read_billing_event(value, "USD", LIMIT, digests_of([value or b""])[0][0]))
        except Unreadable as exc:
            found.append((exc.reason, exc.sentence))
    return found


def together(values: list[bytes | None]) -> list[BillingEvent | tuple[Reason, str]]:
    return [
        (event.reason, event.sentence) if isinstance(event, Unreadable) else event
        for event in read_events(values, "USD", LIMIT)
    ]


def test_a_fleet_goes_the_short_way() -> None:
    values = [message.value for message in Fleet(FLEET).billing()]
    assert together(values) == by_themselves(values)
    short = [value is not None and read_plain(value, "USD", 0) is not None for value in values]
    assert sum(short) > 0.95 * len(values) > 500


def test_strange_events() -> None:
    values: list[bytes | None] = [
        record.value for seed in range(4) for record in strange_billing_records(seed, 600, last_day=DAY)
    ]
    found = together(values)
    assert found == by_themselves(values)
    assert {type(one) for one in found} == {BillingEvent, tuple}


def test_damaged_events() -> None:
    dice = random.Random(5)
    whole = [message.value or b"" for message in Fleet(FLEET).billing()][:600]
    values: list[bytes | None] = [None, b""]
    for value in whole:
        damaged = bytearray(value)
        for _ in range(dice.randint(1, 3)):
            place = dice.randrange(len(damaged))
            damaged[place : place + dice.randint(0, 2)] = dice.choice(
                [
                    b"",
                    b'"',
                    b"0",
                    b"-",
                    b".",
                    b"e",
                    b"}",
                    b",",
                    b"\\",
                    b"\xff",
                    b"\xc3\xa4",
                    b" ",
                    b"null",
                    b"1e5",
                    b"\n",
                ]
            )
        values.append(bytes(damaged))
    found = together(values)
    assert found == by_themselves(values)
    assert 50 < sum(isinstance(one, BillingEvent) for one in found) < len(found) - 50


def test_no_message_touches_the_next_one() -> None:
    good = json.dumps(document("trial_started", "2026-03-01", event_id="e")).encode()
    for bad in (b'{"event_id":"', b"{", b'"', b"[" * 200, None, b"", b"x" * (LIMIT + 1)):
        found = together([good, bad, good])
        assert found[0] == found[2] == by_themselves([good])[0]
        assert isinstance(found[1], tuple)


def test_the_digest_is_of_the_whole_message() -> None:
    base = subscribed("quantity_changed", "2026-03-01", 10, "190", event_id="e", sequence=1) | {"note": {"x": [1]}}
    same = json.dumps(dict(reversed(base.items())), indent=1).replace('"sequence": 1', '"sequence":9, "sequence": 1')
    others = [base | {"note": {"x": [2]}}, base | {"note": None}, base | {"sequence": 0}, base | {"event_id": "f"}]
    others.append(base | {"subscription": base["subscription"] | {"mrr": "190.00"}})
    values: list[bytes | None] = [json.dumps(one).encode() for one in (base, *others)]
    digests = [
        event.digest for event in read_events([same.encode(), *values], "USD", LIMIT) if isinstance(event, BillingEvent)
    ]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 6
