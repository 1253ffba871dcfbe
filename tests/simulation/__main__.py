"""`python -m tests.simulation --seeds N`: that many runs, or `--seed S` again, to the same trace."""

from __future__ import annotations

import argparse
import itertools
import sys
import time

from streams.ledger import example
from tests.simulation import broken
from tests.simulation.check import wrong
from tests.simulation.run import run
from tests.simulation.world import world_of

PROGRESS_SECONDS = 10.0
FOUND_WITHIN = 200


def main() -> int:
    """Exit code 1 when anything is wrong with a run. Seeds, and what is wrong, go to standard error."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=50, help="how many runs (default 50)")
    parser.add_argument("--first", type=int, default=0, help="the first one's seed (default 0)")
    parser.add_argument("--seed", type=int, help="this run alone")
    parser.add_argument("--trace", action="store_true", help="everything that happens, to standard output")
    parser.add_argument("--keep-going", action="store_true", help="do not end at the first failure")
    parser.add_argument("--broken", action="store_true", help="how soon broken orders are found out")
    choice = parser.parse_args()
    if choice.broken:
        return find_broken()
    seeds = [choice.seed] if choice.seed is not None else range(choice.first, choice.first + choice.seeds)
    example.run()  # compiles the kernels
    begun, said, failed = time.process_time(), time.monotonic(), 0
    for number, seed in enumerate(seeds, 1):
        outcome = run(world_of(seed), seed)
        if choice.trace:
            print("\n".join(outcome.trace))
        if found := wrong(outcome):
            failed += 1
            print(f"seed {seed} ({outcome.world.lane.topic}): again with --seed {seed} --trace", file=sys.stderr)
            print("\n".join(f"  {sentence[:500]}" for sentence in found), file=sys.stderr)
            if not choice.keep_going:
                break
        if time.monotonic() - said > PROGRESS_SECONDS:
            said = time.monotonic()
            print(f"{number} of {len(seeds)} runs, up to seed {seed}, {failed} failed", file=sys.stderr, flush=True)
    seconds = time.process_time() - begun
    print(f"{number} runs in {seconds:.0f} s of CPU, {failed} failed", file=sys.stderr)
    return 1 if failed else 0


def find_broken() -> int:
    """Exit code 1 when a broken order is not found out, for either topic, within 200 runs."""
    example.run()
    missed = 0
    for (order, program), topic in itertools.product(broken.ORDERS.items(), (0, 1)):
        seeds = range(topic, topic + 2 * FOUND_WITHIN, 2)
        found = broken.found_out(program, seeds)
        missed += found is None
        said = "is never found out" if found is None else f"is found out in run {seeds.index(found) + 1}, seed {found}"
        print(f"{order}, {('usage', 'billing')[topic]}: {said}", file=sys.stderr, flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
