"""Runs of the simulation: all is well in good ones, broken orders are found out, and a seed is the same run again."""

from __future__ import annotations

import itertools
import re
import subprocess
import sys

import pytest

from streams.ledger import example
from tests.running import ROOT, environment
from tests.simulation import broken
from tests.simulation.check import reference, unbalanced, wrong
from tests.simulation.clickhouse import TABLES, Table
from tests.simulation.run import run
from tests.simulation.world import world_of

SEEDS = 50
FOUND_WITHIN = 200


@pytest.fixture(scope="module", autouse=True)
def compiled() -> None:
    example.run()


@pytest.mark.parametrize("first", range(0, SEEDS, 5))
def test_every_figure_is_right_whatever_goes_wrong(first: int) -> None:
    failed = {seed: found for seed in range(first, first + 5) if (found := wrong(run(world_of(seed), seed)))}
    assert not failed, "".join(f"\npython -m tests.simulation --seed {seed} --trace: {failed[seed]}" for seed in failed)


@pytest.mark.parametrize("seed", [3, 8])
def test_a_seed_is_the_same_run_again(seed: int) -> None:
    """Also in another process, where Python's hashes of strings are others."""
    first, second = run(world_of(seed), seed), run(world_of(seed), seed)
    assert len(first.trace) > 50 and first.trace == second.trace
    assert first.trace != run(world_of(seed), seed + 1000).trace
    again = subprocess.run(
        [sys.executable, "-m", "tests.simulation", "--seed", str(seed), "--trace"],
        cwd=ROOT, env=environment() | {"PYTHONHASHSEED": str(seed)}, capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    assert again.stdout.splitlines() == first.trace


@pytest.mark.parametrize("order", broken.ORDERS)
@pytest.mark.parametrize("topic", [0, 1], ids=["usage", "billing"])
def test_a_broken_order_is_found_out(order: str, topic: int) -> None:
    assert broken.found_out(broken.ORDERS[order], range(topic, 2 * FOUND_WITHIN, 2)) is not None


@pytest.mark.parametrize("program", broken.UNBALANCED)
@pytest.mark.parametrize("topic", [0, 1], ids=["usage", "billing"])
def test_the_balance_tells_of_what_is_lost(program: str, topic: int) -> None:
    # It begins anew with each assignment: not every run has a flush behind its last one.
    runs = [run(world_of(seed), seed, *broken.UNBALANCED[program]) for seed in range(topic, 10, 2)]
    said = [one for outcome in runs for one in unbalanced(outcome)]
    assert said and all(re.search(r" is [1-9]", one) for one in said), said


def test_tables_are_those_of_the_migrations() -> None:
    assert len(TABLES) == 10
    assert TABLES["usage_day"] == Table(("population", "basis", "as_of", "scope_id", "shard"), "version")
    assert TABLES["billing_account"] == Table(("account_id",), "row_version")
    assert TABLES["figure_name"] == Table(("id",), "")


def test_worlds_hold_something_of_everything() -> None:
    for number, of_billing in itertools.product(range(6), (False, True)):
        wanted = reference(number, of_billing).expected
        assert {outcome for _, outcome in wanted.outcomes} >= {"applied", "dead"}
        assert wanted.dead_letter and (wanted.seat_movement if of_billing else wanted.usage_ping)
