"""`python -m tests.fuzz --seconds 120 [--seed S]`: exit code 0, or the message that was found and the seed that finds it again."""

from __future__ import annotations

import argparse
import secrets

from tests.fuzz.run import run


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--seed", type=int, default=None, help="the first seed; printed, drawn without one")
    given = parser.parse_args()
    seed = secrets.randbelow(2**31) if given.seed is None else given.seed
    print(f"fuzzing for {given.seconds:.0f} s, seed {seed}", flush=True)
    done = run(seed, given.seconds, lambda sentence: print(sentence, flush=True))
    print(", ".join(f"{number:,} of {name}" for name, number in done.items()) + ": nothing found")


if __name__ == "__main__":
    main()
