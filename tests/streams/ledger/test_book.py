"""The book against the oracle: the same messages in any order, twice, cut into any batches, with restarts."""

from __future__ import annotations

import datetime as dt
import random
from collections import Counter
from collections.abc import Sequence

import pytest

from deploy.fleet.fleet import Fleet
from deploy.fleet.spec import FleetSpec
from schemas.ping import EPOCH
from streams.ledger.book import Book, Rules, UsageRows
from streams.ledger.names import Names
from streams.ledger.pseudonym import Pseudonymiser
from tests.oracle import usage as oracle
from tests.streams.ledger.record import Record

EPOCH_DAY = EPOCH.date()


Figure = tuple[dt.date, str, str, str]


class Desk:
    """A book and what it would have written: the newest version of each row."""

    def __init__(self) -> None:
        self.names = Names()
        self.values: dict[bytes, bytes] = {}
        self.rows: dict[tuple[str, str, int], tuple[int, list[tuple[str, str, int, int, int, int]]]] = {}
        self.outcomes: Counter[str] = Counter()
        self.letters: dict[int, str] = {}
        self.figures_written = 0
        self.open()

    def open(self) -> None:
        """A worker takes the partition over."""
        self.book = Book(0, dict(self.values), self.names, Pseudonymiser(b"0123456789abcdef"), Rules())
        self._keep([self.book.claim()])

    def _keep(self, changes: Sequence[tuple[bytes, bytes]]) -> None:
        for key, value in changes:
            self.values[key] = value

    def fold(self, records: list[Record], as_of: int, *, rows: bool = True) -> None:
        folded = self.book.fold(records, as_of)
        self._keep(folded.changes)
        if not rows:
            return  # a crash between state and rows
        usage = UsageRows()
        self.book.rows(folded, usage)
        self._take(usage)
        self.outcomes.update({str(outcome): n for outcome, n in folded.tally.outcomes.items()})
        self.letters.update({letter.place[1]: str(letter.reason) for letter in folded.letters})

    def roll(self, as_of: int) -> None:
        usage = UsageRows()
        self.book.roll(self.book.all_scopes(), as_of, usage)
        self._take(usage)
        self._keep([self.book.rolled(as_of)])

    def _take(self, usage: UsageRows) -> None:
        at = row = 0
        self.figures_written += usage.figures.length
        for scope, version, repeat, days, lengths in zip(
            usage.scopes, usage.versions, usage.repeats, usage.days, usage.lengths, strict=True
        ):
            assert repeat == len(days) == len(lengths)
            for day, length in zip(days.tolist(), lengths.tolist(), strict=True):
                figures = [
                    (
                        *self.names.name(int(usage.figures.name[i])),
                        int(usage.figures.dau[i]),
                        int(usage.figures.wau[i]),
                        int(usage.figures.mau[i]),
                        int(usage.figures.sessions[i]),
                    )
                    for i in range(at, at + length)
                ]
                at += length
                row += 1
                key = (*scope, day)
                if key not in self.rows or version >= self.rows[key][0]:
                    self.rows[key] = version, figures
        assert at == usage.figures.length

    def table(self) -> dict[tuple[object, ...], tuple[object, ...]]:
        """`usage_kpi` by its key."""
        return {
            (EPOCH_DAY + dt.timedelta(day), population, scope, stage, feature): (
                *counts, None if sessions < 0 else sessions,
            )
            for (population, scope, day), (_, figures) in self.rows.items()
            for stage, feature, *counts, sessions in figures
        }  # fmt: skip


def expected_table(expected: oracle.Expected) -> dict[tuple[object, ...], tuple[object, ...]]:
    return {
        (row["as_of"], row["population"], row["scope_id"], row["stage"], row["feature"]): (
            row["dau"], row["wau"], row["mau"], row["sessions"],
        )
        for row in expected.usage_kpi
    }  # fmt: skip


LAST_DAY = dt.date(2026, 3, 20)


def fleet(seed: int) -> list[Record]:
    spec = FleetSpec(
        last_day=LAST_DAY, days=45, seed=seed, installations=5, users=12,
        duplicates=0.05, reordered=0.1, late=0.05, future=0.05, broken=0.05, reorder_days=17,
    )  # fmt: skip
    return [
        Record(message.key, message.value, offset, message.timestamp_ms)
        for offset, message in enumerate(m for m in Fleet(spec).messages() if m.topic == "usage-pings")
    ]


def expect(records: list[Record], as_of: dt.date) -> oracle.Expected:
    return oracle.expect(
        [oracle.Record("usage-pings", 0, r.offset, r.timestamp, r.key, r.value) for r in records],
        oracle.Rules(as_of=as_of),
    )


def renumbered(records: list[Record]) -> list[Record]:
    return [record._replace(offset=offset) for offset, record in enumerate(records)]


def batches(records: list[Record], rng: random.Random, largest: int) -> list[list[Record]]:
    out, at = [], 0
    while at < len(records):
        size = rng.randint(1, largest)
        out.append(records[at : at + size])
        at += size
    return out


def day(date: dt.date) -> int:
    return (date - EPOCH_DAY).days


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("largest", [1, 17, 1000])
def test_any_batches_with_restarts_give_the_oracle(seed: int, largest: int) -> None:
    rng = random.Random(f"{seed} {largest}")
    records = fleet(seed)
    as_of = LAST_DAY + dt.timedelta(rng.choice([-9, 0, 3, 40]))
    desk = Desk()
    for batch in batches(records, rng, largest):
        if rng.random() < 0.1:
            desk.fold(
                batch, day(as_of), rows=False
            )  # killed between state and rows: another takes over, all comes again
            desk.open()
        desk.fold(batch, day(as_of))
        if rng.random() < 0.05:
            desk.open()
    desk.roll(day(as_of))
    expected = expect(records, as_of)
    assert desk.table() == expected_table(expected)
    assert desk.letters == {row["offset"]: row["reason"] for row in expected.dead_letter}
    assert desk.outcomes == Counter({outcome: n for (_, outcome), n in expected.outcomes.items()})


@pytest.mark.parametrize("seed", range(3))
def test_any_order_and_twice_gives_the_same_table(seed: int) -> None:
    rng = random.Random(seed)
    records = fleet(seed)
    as_of = LAST_DAY
    shuffled = records + rng.sample(records, len(records) // 2)
    # Timestamps within 36 days may come in any order; what is older would be late as a whole.
    newest = max(record.timestamp for record in records)
    shuffled = [record for record in shuffled if record.timestamp > newest - 36 * 86_400_000]
    rng.shuffle(shuffled)
    shuffled = renumbered(shuffled)
    desk = Desk()
    for batch in batches(shuffled, rng, 40):
        desk.fold(batch, day(as_of))
    desk.roll(day(as_of))
    assert desk.table() == expected_table(expect(shuffled, as_of))


def test_a_replay_onto_full_tables_changes_nothing() -> None:
    records = fleet(9)
    desk = Desk()
    for batch in batches(records, random.Random(1), 50):
        desk.fold(batch, day(LAST_DAY))
    desk.roll(day(LAST_DAY))
    before = desk.table()
    desk.open()
    for batch in batches(records, random.Random(2), 30):
        desk.fold(batch, day(LAST_DAY))
    desk.roll(day(LAST_DAY))
    assert desk.table() == before


def test_the_clock_moves_on_day_by_day_as_in_one_step() -> None:
    records = fleet(5)
    slow, fast = Desk(), Desk()
    for batch in batches(records, random.Random(1), 50):
        slow.fold(batch, day(LAST_DAY) - 10)
        fast.fold(batch, day(LAST_DAY) - 10)
    for later in range(-10, 40):
        slow.roll(day(LAST_DAY) + later)
        slow.open()
    fast.roll(day(LAST_DAY) + 39)
    assert slow.table() == fast.table() == expected_table(expect(records, LAST_DAY + dt.timedelta(39)))


def test_a_replay_writes_each_figure_about_once() -> None:
    spec = FleetSpec(last_day=LAST_DAY, days=45, seed=3, installations=5, users=12)
    records = [Record(m.key, m.value, i, m.timestamp_ms) for i, m in enumerate(Fleet(spec).messages())]
    desk = Desk()
    for batch in batches(records, random.Random(1), 20):
        desk.fold(batch, day(LAST_DAY))
    desk.roll(day(LAST_DAY))
    assert desk.figures_written <= 3 * len(desk.table())
