"""Dead letters that were put back: judged by their new received time, folded although their identity is known."""

from __future__ import annotations

import datetime as dt
import json
import random
from collections import Counter
from typing import Any

import pytest

from schemas.dead_letters import HEADER_ATTEMPT
from tests.streams.ledger.record import Record
from tests.streams.ledger.test_book import LAST_DAY, fleet
from tests.streams.ledger.world import EPOCH_DAY, World, assert_equals_oracle

NOON = 43_200_000
DAY_MS = 86_400_000


def put_back(record: Record, offset: int, timestamp: int, attempt: int = 1) -> Record:
    return Record(record.key, record.value, offset, timestamp, ((HEADER_ATTEMPT, b"%d" % attempt),))


def with_replays(sources: list[list[Record]], seed: int, share: float) -> list[list[Record]]:
    """Some messages of each partition once more, up to 20 places behind, received up to two weeks later."""
    rng = random.Random(f"replays {seed}")
    out = []
    for records in sources:
        line = [(at, 0, record) for at, record in enumerate(records)]
        line += [(at + rng.randint(1, 20), 1, record) for at, record in enumerate(records) if rng.random() < share]
        line.sort(key=lambda item: item[:2])
        newest, mixed = 0, []
        for offset, (_, attempt, record) in enumerate(line):
            newest = max(newest, record.timestamp)
            if attempt:
                mixed.append(put_back(record, offset, newest + rng.randint(0, 14) * DAY_MS))
            else:
                mixed.append(record._replace(offset=offset))
        out.append(mixed)
    return out


def message(day: dt.date, users: list[int], of: dt.date | None = None, **fields: Any) -> Record:
    ping = {
        "uuid": "u1",
        "hostname": "h",
        "recorded_at": f"{day}T10:00:00Z",
        "activity": [{"date": str(of or day), "stage": "s", "feature": "f", "users": users}],
    }
    return Record(None, json.dumps(ping | fields).encode(), 0, (day - EPOCH_DAY).days * DAY_MS + NOON)


def day(number: int) -> dt.date:
    return dt.date(2026, 3, 1) + dt.timedelta(number - 1)


def noon(number: int) -> int:
    return (day(number) - EPOCH_DAY).days * DAY_MS + NOON


def world_of(*records: Record) -> World:
    world = World([[record._replace(offset=offset) for offset, record in enumerate(records)]], day(20))
    world.drain(random.Random(1), 1)
    world.roll()
    assert_equals_oracle(world, day(20))
    return world


def total(world: World, number: int) -> int:
    return world.table()[day(number), "self_managed", "u1@h", "", ""][0]


def test_entries_that_were_of_the_future_are_folded_once_their_day_has_come() -> None:
    ping = message(day(1), [17, 42], of=day(5))
    world = world_of(ping, put_back(ping, 1, noon(6)))
    assert world.outcomes == {"applied": 2}
    assert world.letters == {(0, 0): "future"}
    assert total(world, 5) == 2
    ((_, row),) = world.pings.items()
    assert row.received_at == noon(6)


def test_what_was_late_stays_late() -> None:
    ping = message(day(18), [17], of=day(18) - dt.timedelta(37))
    world = world_of(ping, put_back(ping, 1, noon(19)), put_back(ping, 2, noon(19), 2))
    assert world.outcomes == {"applied": 3}
    assert world.letters == {(0, 0): "late", (0, 1): "late", (0, 2): "late"}
    assert not world.table()


def test_a_letter_about_a_ping_that_came_again_in_between_is_no_duplicate() -> None:
    """The first one is recorded on day 5, by a wrong clock, and dead; the second is applied."""
    dead, better = message(day(5), [1]), message(day(5), [2])
    world = world_of(dead._replace(timestamp=noon(3)), better, put_back(dead, 2, noon(6)), better)
    assert world.outcomes == {"dead": 1, "applied": 2, "duplicate": 1}
    assert total(world, 5) == 2


def test_what_is_invalid_is_dead_again_even_where_its_identity_is_known() -> None:
    bad = message(day(5), [1], users_by=7)
    world = world_of(message(day(5), [2]), put_back(bad, 1, noon(6), 3), bad)
    assert world.outcomes == {"dead": 1, "applied": 1, "duplicate": 1}
    assert world.letters == {(0, 1): "invalid"}


def test_after_a_crash_the_rows_of_a_message_are_written_again_with_its_replay_behind_it() -> None:
    """What came of both is durable, the rows are not: an entry that only the first may tell of must not be lost."""
    known = message(day(1), [3])._replace(offset=0)
    ping = message(day(2), [17], of=day(2) - dt.timedelta(30))._replace(offset=1)
    world = World([[known, ping, put_back(ping, 2, noon(18))]], day(20))
    world.flush(0, 1, 0)
    world.roll()
    world.flush(0, 2, 0, "after state")
    world.drain(random.Random(1), 2)
    world.roll()
    assert_equals_oracle(world, day(20))
    assert world.outcomes == {"applied": 3}
    assert world.letters == {(0, 2): "late"}


@pytest.mark.parametrize(("seed", "largest"), [(0, 3), (15, 9), (2, 60), (3, 1000)])
def test_replays_in_any_batches_with_crashes_and_restarts_give_the_oracle(seed: int, largest: int) -> None:
    rng = random.Random(f"{seed} {largest}")
    world = World(with_replays(fleet(seed), seed, 0.2), LAST_DAY)
    world.drain(rng, largest, crashes=0.2, restarts=0.05)
    world.roll()
    expected = assert_equals_oracle(world, LAST_DAY)
    outcomes = Counter({outcome: n for (_, outcome), n in expected.outcomes.items()})
    # A message that is forwarded again by a crash, and whose home is taken over in between, counts again.
    assert world.outcomes >= outcomes
