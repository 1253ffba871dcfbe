"""One case in a process of its own: `python -m tests.faults.play CASE --seed S --scale usual --folder F`.

The last line of its output is what was seen; the exit code tells a case that passed from one that failed or was skipped.
"""

from __future__ import annotations

import argparse
import logging
import resource
import signal
import sys
import traceback
from pathlib import Path

from tests.faults.case import cases
from tests.faults.stage import SCALES, Skip

SKIPPED = 77
"""Exit code of a case that cannot be staged here."""


def main() -> int:
    """Plays the case, and leaves its folder as it is."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)  # so that nothing that was started stays
    parser = argparse.ArgumentParser(prog="python -m tests.faults.play", description=__doc__)
    parser.add_argument("case")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--scale", choices=SCALES, default="usual")
    parser.add_argument("--folder", type=Path, required=True)
    chosen = parser.parse_args()
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # the load's complaints, while a broker is away
    case = cases()[chosen.case]
    try:
        with case.stage(chosen.folder, chosen.seed, SCALES[chosen.scale]) as stage:
            case.play(stage)
    except Skip as why:
        print(f"not here: {why}")
        return SKIPPED
    except Exception:
        traceback.print_exc()
        return 1
    print(", ".join(f"{name} {value}" for name, value in [*stage.counts.items(), ("cpu_s", _cpu_seconds())]))
    return 0


def _cpu_seconds() -> int:
    """CPU of this process and all that it has started and seen the end of: what a case costs on any machine."""
    used = [resource.getrusage(of) for of in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return round(sum(one.ru_utime + one.ru_stime for one in used))


if __name__ == "__main__":
    sys.exit(main())
