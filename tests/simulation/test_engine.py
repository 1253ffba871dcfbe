"""What simulated workers insert, stale and repeated blocks and all, into the real engine: every view is the oracle's.

It holds the simulation's own ClickHouse to the real one: of which rows stand, both have the same opinion.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from sinks.clickhouse.connection import open_engine
from sinks.clickhouse.schema import migrate
from sinks.clickhouse.writer import insert
from streams.ledger import example
from tests.oracle.billing import expect
from tests.oracle.usage import Rules
from tests.running import assert_tables
from tests.simulation.check import wrong
from tests.simulation.clickhouse import DATABASE
from tests.simulation.run import run
from tests.simulation.world import messages, world_of


def pair(of: int) -> tuple[int, int]:
    """The seeds of the `of`th two runs, of pings and of billing events, that have one as-of day."""
    pairs = ((a, b) for a, b in itertools.product(range(0, 60, 2), range(1, 60, 2)) if abs(a - b) < 20)
    same = (both for both in pairs if world_of(both[0]).as_of == world_of(both[1]).as_of)
    return next(itertools.islice(same, 29 * of, None))


@pytest.mark.parametrize("of", range(1))
def test_every_view_over_what_was_inserted_is_the_oracles(of: int, tmp_path: Path) -> None:
    example.run()
    seeds = pair(of)
    outcomes = [run(world_of(seed), seed) for seed in seeds]
    assert not any(wrong(outcome) for outcome in outcomes)
    engine = open_engine(tmp_path / "engine")
    try:
        client = engine.client()
        migrate(client, DATABASE)
        for name, block in itertools.chain(*(outcome.clickhouse.inserts for outcome in outcomes)):
            insert(client, DATABASE, name, block)
        records = [record for outcome in outcomes for record in messages(outcome.world)]
        assert_tables(client, expect(records, Rules(outcomes[0].world.as_of)), DATABASE)
    finally:
        engine.close()
