"""The books against the oracle: the same messages in any order, twice, cut into any batches, with restarts and crashes."""

from __future__ import annotations

import datetime as dt
import itertools
import json
import random
from collections import Counter

import pytest

from deploy.fleet.fleet import Fleet
from deploy.fleet.spec import FleetSpec
from streams.forwarder import partition_of
from tests.strange import strange_records
from tests.streams.ledger.record import Record
from tests.streams.ledger.world import CRASHES, EPOCH_DAY, World, assert_equals_oracle, dealt, exact_rows, expect

LAST_DAY = dt.date(2026, 3, 20)
DAY_MS = 86_400_000


def fleet(seed: int, partitions: int = 4, **changes: float) -> list[list[Record]]:
    spec = FleetSpec(
        last_day=LAST_DAY, days=45, seed=seed, installations=4, groups=3, users=10,
        duplicates=0.05, reordered=0.1, late=0.05, future=0.05, broken=0.05, reorder_days=17,
    )  # fmt: skip
    rng = random.Random(f"keys {seed}")
    messages = [message for message in Fleet(spec).messages() if message.topic == "usage-pings"]
    return dealt(
        (
            (
                rng.randrange(partitions) if rng.random() < 0.1 else partition_of(message.key or b"", partitions),
                message.key, message.value, message.timestamp_ms,
            )
            for message in messages
        ),
        partitions,
    )  # fmt: skip


@pytest.mark.parametrize(("seed", "largest"), [(0, 1), (1, 17), (2, 17), (3, 1000)])
def test_any_batches_with_crashes_and_restarts_give_the_oracle(seed: int, largest: int) -> None:
    rng = random.Random(f"{seed} {largest}")
    as_of = LAST_DAY + dt.timedelta(rng.choice([-9, 0, 3, 40]))
    world = World(fleet(seed), as_of)
    world.drain(rng, largest, crashes=0.1, restarts=0.05)
    world.roll()
    expected = assert_equals_oracle(world, as_of)
    outcomes = Counter({outcome: n for (_, outcome), n in expected.outcomes.items()})
    # A message that is forwarded again by a crash, and whose home is taken over in between, counts again.
    assert world.outcomes >= outcomes
    assert world.outcomes["applied"] == outcomes["applied"]


@pytest.mark.parametrize("seed", range(2))
def test_any_order_and_twice_gives_the_same_table(seed: int) -> None:
    rng = random.Random(seed)
    messages = [(p, record) for p, records in enumerate(fleet(seed)) for record in records]
    messages += rng.sample(messages, len(messages) // 2)
    # Timestamps within 36 days may come in any order; what is older would be late as a whole.
    newest = max(record.timestamp for _, record in messages)
    messages = [(p, record) for p, record in messages if record.timestamp > newest - 36 * DAY_MS]
    rng.shuffle(messages)
    world = World(dealt(((p, r.key, r.value, r.timestamp) for p, r in messages), 4), LAST_DAY)
    world.drain(rng, 40)
    world.roll()
    assert_equals_oracle(world, LAST_DAY)


def test_the_number_of_partitions_changes_no_figure() -> None:
    tables = []
    for partitions in (1, 3):
        world = World(fleet(7, partitions), LAST_DAY)
        world.drain(random.Random(1), 60)
        world.roll()
        tables.append(world.table())
    assert tables[0] == tables[1]
    assert {population for _, population, *_ in tables[0]} == {"self_managed", "group", "gitlab_com"}


def test_a_replay_onto_full_tables_changes_nothing() -> None:
    world = World(fleet(9), LAST_DAY)
    world.drain(random.Random(1), 50)
    world.roll()
    before = world.table()
    for partition in range(4):
        world.restart(partition)
    world.read = [[0, 0] for _ in range(4)]
    world.drain(random.Random(2), 30)
    world.roll()
    assert world.table() == before


def test_the_clock_moves_on_day_by_day_as_in_one_step() -> None:
    sources = fleet(5)
    slow, fast = World(sources, LAST_DAY - dt.timedelta(10)), World(sources, LAST_DAY - dt.timedelta(10))
    slow.drain(random.Random(1), 50)
    fast.drain(random.Random(2), 50)
    for later in range(-10, 40):
        slow.roll(LAST_DAY + dt.timedelta(later))
        if later % 7 == 0:
            for partition in range(4):
                slow.restart(partition)
    fast.roll(LAST_DAY + dt.timedelta(39))
    assert slow.table() == fast.table() == exact_rows(expect(sources, LAST_DAY + dt.timedelta(39)))


def test_a_replay_writes_each_figure_about_once() -> None:
    spec = FleetSpec(last_day=LAST_DAY, days=45, seed=3, installations=5, groups=0, users=12)
    records = [Record(m.key, m.value, i, m.timestamp_ms) for i, m in enumerate(Fleet(spec).messages())]
    world = World([records], LAST_DAY)
    world.drain(random.Random(1), 20)
    world.roll()
    assert world.figures_written <= 3 * len(world.table())


def test_a_group_is_whole_under_whatever_uuid_it_pings() -> None:
    """And so are GitLab.com's own sessions, of which the largest number of any of its pings stands."""
    moment = dt.datetime(2026, 3, 10, 12, tzinfo=dt.UTC)
    messages = []
    for number in range(12):
        for extra in ({"namespace_id": "9970"}, {}):
            entry = {
                "date": "2026-03-09",
                "stage": "s",
                "feature": "f",
                "users": [number, number + 1],
                "sessions": number,
            }
            ping = {
                "uuid": f"u{number}",
                "hostname": "GitLab.com",
                "recorded_at": moment.isoformat(),
                "activity": [entry],
                **extra,
            }
            key = f"u{number}:9970" if extra else f"u{number}"
            messages.append(
                (partition_of(key.encode(), 4), key.encode(), json.dumps(ping).encode(), int(moment.timestamp() * 1000))
            )
    world = World(dealt(messages, 4), LAST_DAY)
    world.drain(random.Random(1), 5)
    world.roll()
    assert_equals_oracle(world, LAST_DAY)
    day = dt.date(2026, 3, 9)
    assert world.table()[day, "group", "9970", "", ""] == (13, 13, 13, 11)
    assert world.table()[day, "gitlab_com", "gitlab.com", "", ""] == (13, 13, 13, 22)


# ---- days leave the ledgers -----------------------------------------------------------------------------------------------


def long_history(seed: int, partitions: int = 3) -> list[list[Record]]:
    """260 days of weekly pings of two installations and two groups, some under a wrong key, users who come and go."""
    rng = random.Random(f"long {seed}")
    begin = dt.datetime(2025, 6, 1, tzinfo=dt.UTC)
    messages = []
    for day in range(3, 260, 4):
        moment = begin + dt.timedelta(day, seconds=rng.randrange(80_000))
        for who in range(4):
            users = [who * 1000 + day // 50 * 10 + rng.randrange(12) for _ in range(4)]
            entries = [
                {
                    "date": str((moment - dt.timedelta(rng.choice((1, 2, 3, 33)))).date()),
                    "stage": f"s{rng.randrange(2)}", "feature": f"f{rng.randrange(2)}",
                    "users": rng.sample(users, 3), "sessions": rng.choice((None, 0, 5)),
                }
                for _ in range(2)
            ]  # fmt: skip
            ping = {
                "uuid": f"u{who if who < 2 else 9}", "hostname": "gitlab.com" if who >= 2 else f"h{who}",
                "recorded_at": moment.isoformat(), "activity": entries,
            }  # fmt: skip
            key = ping["uuid"]
            if who >= 2:
                ping["namespace_id"] = f"n{who}"
                key = f"{key}:n{who}"
            partition = rng.randrange(partitions) if rng.random() < 0.3 else partition_of(str(key).encode(), partitions)
            messages.append((partition, None, json.dumps(ping).encode(), int(moment.timestamp() * 1000)))
    return dealt(messages, partitions)


LONG_AS_OF = dt.date(2026, 3, 1)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_partitions_drained_one_after_the_other_in_each_order(order: tuple[int, ...]) -> None:
    world = World(long_history(1), LONG_AS_OF)
    world.drain_one_by_one(order, size=7)
    world.roll()
    assert_equals_oracle(world, LONG_AS_OF)
    assert not world.forgotten


def test_days_leave_the_ledgers_and_no_figure_changes() -> None:
    world = World(long_history(2), LONG_AS_OF)
    world.drain(random.Random(3), 9, crashes=0.1, restarts=0.1)
    world.roll()
    assert_equals_oracle(world, LONG_AS_OF)
    assert not world.forgotten
    for book in world.books:
        for scope in book.all_scopes():
            assert scope.ledger.first_day >= world.as_of - 100 - 64 - 28, "old days are still there"
    # Users who were gone for longer than any window are gone from the state too.
    for partition in range(3):
        world.restart(partition)
    kept = sum(scope.ledger.count for book in world.books for scope in book.all_scopes())
    everybody = World(
        long_history(2), dt.date(2025, 6, 1)
    )  # the clock never gets there: all rows are still to be written
    everybody.drain(random.Random(3), 50)
    assert kept < 0.8 * sum(scope.ledger.count for book in everybody.books for scope in book.all_scopes())


def test_days_stay_until_their_rows_are_written() -> None:
    world = World(long_history(4), dt.date(2025, 6, 20))
    world.drain(random.Random(1), 30, restarts=0.1)
    for as_of in (dt.date(2025, 6, 20), dt.date(2025, 9, 1), LONG_AS_OF):
        world.roll(as_of)
        assert_equals_oracle(world, as_of)


@pytest.mark.parametrize("seed", range(3))
def test_the_clock_moves_on_while_history_is_read(seed: int) -> None:
    rng = random.Random(seed)
    world = World(long_history(seed), dt.date(2025, 6, 1) + dt.timedelta(rng.randrange(300)))
    while any(any(world.left(partition)) for partition in range(3)):
        for _ in range(rng.randint(1, 30)):
            crash = rng.choice(CRASHES) if rng.random() < 0.05 else None
            world.flush(rng.randrange(3), rng.randint(0, 9), rng.randint(0, 30), crash)
        if rng.random() < 0.3:
            world.roll(EPOCH_DAY + dt.timedelta(world.as_of + rng.choice((0, 1, 5, 30))))
    end = max(LONG_AS_OF, EPOCH_DAY + dt.timedelta(world.as_of))
    world.roll(end)
    assert_equals_oracle(world, end)
    assert not world.forgotten


@pytest.mark.parametrize("away", [5, 20, 45, 100])
def test_nobody_is_silent_while_nobody_works(away: int) -> None:
    """Everything stops; after a long time one partition's backlog is read before the others'."""
    whole = long_history(6)
    stop = int(dt.datetime(2025, 10, 20, tzinfo=dt.UTC).timestamp() * 1000)
    world = World([[r for r in records if r.timestamp < stop] for records in whole], dt.date(2025, 10, 20))
    world.drain(random.Random(1), 30)
    world.roll()
    # What comes in meanwhile tells of the days before it, as long as it may.
    world.sources = [
        [r for r in records if r.timestamp < stop + away * DAY_MS or r.timestamp < stop] for records in whole
    ]
    as_of = dt.date(2025, 10, 20) + dt.timedelta(away)
    world.as_of = (as_of - EPOCH_DAY).days
    for partition in range(3):
        world.restart(partition)
    world.drain_one_by_one((2, 0, 1), size=200)
    world.roll()
    assert_equals_oracle(world, as_of)
    assert not world.forgotten


def test_users_of_a_scope_that_fell_silent_before_a_restart_leave_too() -> None:
    world = World(long_history(7), LONG_AS_OF)
    gone = [
        [r for r in records if b"h0" not in (r.value or b"") or r.timestamp < 1_752_000_000_000]
        for records in world.sources
    ]
    world.sources = [[r._replace(offset=offset) for offset, r in enumerate(records)] for records in gone]
    half = [[len(records) // 2, 0] for records in world.sources]
    for partition in range(3):
        while world.read[partition][0] < half[partition][0]:
            world.flush(partition, 10, 100)
    for partition in range(3):
        world.restart(partition)
    world.drain(random.Random(1), 30)
    world.roll()
    world.roll(LONG_AS_OF + dt.timedelta(1))
    silent = [scope for book in world.books for scope in book.all_scopes() if scope.key.scope_id == "u0@h0"]
    assert len(silent) == 1 and silent[0].ledger.count == 0
    assert_equals_oracle(world, LONG_AS_OF + dt.timedelta(1))


def test_a_replay_of_what_has_left_the_ledgers_changes_no_row() -> None:
    world = World(long_history(5), LONG_AS_OF)
    world.drain(random.Random(1), 30)
    world.roll()
    before = world.table()
    # 400 days later nobody remembers the pings, and days are gone from the ledgers.
    for partition in range(3):
        world.restart(partition)
        for scope in world.books[partition].all_scopes():
            scope.pings = type(scope.pings)()
    world.read = [[0, 0] for _ in range(3)]
    world.drain(random.Random(2), 30)
    world.roll()
    assert world.table() == before
    assert world.forgotten


@pytest.mark.parametrize("seed", range(6))
def test_strange_pings_give_the_oracle(seed: int) -> None:
    rng = random.Random(seed)
    sources = dealt(strange_records(seed, 250, partitions=3, days=60, last_day=LAST_DAY), 3)
    world = World(sources, LAST_DAY)
    crashes = 0.05 * (seed % 2)
    world.drain(rng, rng.choice((1, 10, 100)), crashes=crashes, restarts=crashes)
    world.roll()
    expected = assert_equals_oracle(world, LAST_DAY)
    outcomes = Counter({outcome: n for (_, outcome), n in expected.outcomes.items()})
    # A message that is forwarded again by a crash, and whose home is taken over in between, counts again.
    assert world.outcomes == outcomes if not crashes else world.outcomes >= outcomes
    assert world.outcomes["applied"] == outcomes["applied"]
