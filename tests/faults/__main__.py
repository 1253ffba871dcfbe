"""Runs fault cases: `python -m tests.faults [CASE…] [--seed S] [--long] [--list]`."""

from __future__ import annotations

import argparse
import logging
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

from tests.faults.case import Case, cases
from tests.faults.stage import LONG, SMALL, USUAL, Skip

SEED = "PINGSTREAM_FAULT_SEED"
SCALES = {"small": SMALL, "usual": USUAL, "long": LONG}


def main() -> int:
    """Runs what the arguments name, one after the other. Exit code 1 when a case failed."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)  # so that nothing that was started stays
    known = cases()
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("cases", nargs="*", metavar="CASE", help="names of cases, or beginnings of them [all]")
    parser.add_argument("--seed", type=int, default=os.environ.get(SEED), help=f"[{SEED}, or a new one]")
    parser.add_argument("--long", action="store_const", dest="scale", const="long", default="usual", help="full counts")
    parser.add_argument("--small", action="store_const", dest="scale", const="small", help="as in `make test`")
    parser.add_argument("--list", action="store_true", help="name the cases and end")
    chosen = parser.parse_args()
    some = [case for name, case in known.items() if not chosen.cases or name.startswith(tuple(chosen.cases))]
    if chosen.list:
        for case in some:
            print(f"{case.name}\n    {case.summary}")
        return 0
    if not some:
        parser.error(f"no such case; there are {', '.join(known)}")
    seed = int(chosen.seed) if chosen.seed is not None else random.SystemRandom().randrange(1_000_000)
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # the load's complaints, while a broker is away
    print(f"seed {seed}, {len(some)} cases, {chosen.scale}", flush=True)
    width = max(len(case.name) for case in some)
    results = [_run(case, seed, SCALES[chosen.scale], width) for case in some]
    failed = [case.name for case, result in zip(some, results, strict=True) if result == "FAILED"]
    print(f"{len(some) - len(failed)} of {len(some)} cases passed or were skipped, seed {seed}")
    if failed:
        long = " --long" if chosen.scale == "long" else ""
        print(f"again: python -m tests.faults {' '.join(failed)} --seed {seed}{long}")
    return 1 if failed else 0


def _run(case: Case, seed: int, scale: int, width: int) -> str:
    """Runs one case and prints its line: result, seconds, counts. The folder stays when it failed."""
    folder = Path(tempfile.mkdtemp(prefix=f"pingstream-fault-{case.name}-"))
    begun = time.monotonic()
    counts: dict[str, Any] = {}
    result = "FAILED"
    try:
        with case.stage(folder, seed, scale) as stage:
            counts = stage.counts
            case.play(stage)
        result = "passed"
    except Skip as why:
        result, counts = "skipped", {"why": str(why)}
    except Exception:
        traceback.print_exc()
        print(f"logs are in {folder}", file=sys.stderr)
    if result != "FAILED":
        shutil.rmtree(folder, ignore_errors=True)
    shown = ", ".join(f"{name} {value}" for name, value in counts.items())
    print(f"{case.name:<{width}}  {result:<7}  {time.monotonic() - begun:6.1f} s  {shown}", flush=True)
    return result


if __name__ == "__main__":
    sys.exit(main())
