"""Runs the fault suite: `python -m tests.faults [NAME…] [--seed S] [--long] [--list]`."""

from __future__ import annotations

import argparse
import os
import random
import resource
import signal
import sys
import time
from collections.abc import Iterable, Sequence

from tests.faults.case import Case, cases
from tests.faults.pool import Job, Pool, Result, side_by_side, tail

SEED = "PINGSTREAM_FAULT_SEED"
HOUR = 3_600.0
SLICES = 2
"""As many processes share the simulator's seeds."""

SEEDS = {"small": 20, "usual": 1_000, "long": 100_000}
FUZZ_SECONDS = {"small": 10, "usual": 120, "long": 3_600}
CASE_SECONDS = {"small": 300.0, "usual": 900.0, "long": 6 * HOUR}


def case_job(case: Case, seed: int, scale: str) -> Job:
    """A case in a process of its own."""
    arguments = ("-m", "tests.faults.play", case.name, f"--seed={seed}", f"--scale={scale}", "--folder={folder}")
    flag = {"small": " --small", "long": " --long"}.get(scale, "")
    again = f"python -m tests.faults {case.name} --seed {seed}{flag}"
    return Job(case.name, arguments, case.minutes, CASE_SECONDS[scale], again)


def beside(seed: int, scale: str) -> list[Job]:
    """What is no case: the simulator, the fuzzer, and tests that are too long for `make test`."""
    each = SEEDS[scale] // SLICES
    found = []
    for number in range(SLICES):
        run = ("-m", "tests.simulation", f"--seeds={each}", f"--first={number * each}")
        found.append(Job(f"simulator {number + 1}", run, 10.0, 100 * HOUR, f"python {' '.join(run)}"))
    run = ("-m", "tests.fuzz", f"--seconds={FUZZ_SECONDS[scale]}", f"--seed={seed}")
    found.append(Job("fuzzer", run, 4.0, 2 * HOUR, f"python {' '.join(run)}"))
    run = ("-m", "pytest", "-m", "long", "-q", "-n0", "-p", "no:cacheprovider", "-o", "timeout=900")
    found.append(Job("long tests", run, 11.0, HOUR, f"python {' '.join(run)}"))
    return found


def main() -> int:
    """Runs what the arguments name, some side by side. Exit code 1 when anything failed."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that nothing that was started stays
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="names of cases, or beginnings of them [everything]")
    parser.add_argument("--seed", type=int, default=os.environ.get(SEED), help=f"[{SEED}, or a new one]")
    parser.add_argument("--long", action="store_const", dest="scale", const="long", default="usual", help="full counts")
    parser.add_argument("--small", action="store_const", dest="scale", const="small", help="as in `make test`")
    parser.add_argument("--jobs", type=int, default=side_by_side(), help="how many at a time [by cores and memory]")
    parser.add_argument("--list", action="store_true", help="name the cases and end")
    chosen = parser.parse_args()
    known = cases()
    if chosen.list:
        for case in known.values():
            print(f"{case.name}\n    {case.summary}")
        return 0
    seed = int(chosen.seed) if chosen.seed is not None else random.SystemRandom().randrange(1_000_000)
    every = [case_job(case, seed, chosen.scale) for case in known.values()] + beside(seed, chosen.scale)
    jobs = [job for job in every if not chosen.names or job.name.startswith(tuple(chosen.names))]
    if not jobs:
        parser.error(f"no such case; there are {', '.join(job.name for job in every)}")
    print(f"seed {seed}, {len(jobs)} cases, {chosen.scale}, {chosen.jobs} at a time", flush=True)
    begun = time.monotonic()
    results = Pool(chosen.jobs).run(jobs, _Progress(jobs, seed))
    _summarise(results, jobs, time.monotonic() - begun, seed)
    return 1 if any(result.verdict == "FAILED" for result in results) else 0


class _Progress:
    """A line for each that has ended, and the end of its output when it failed."""

    def __init__(self, jobs: Sequence[Job], seed: int) -> None:
        self._of = len(jobs)
        self._seed = seed
        self._width = _width(jobs)
        self._done = 0

    def __call__(self, result: Result) -> None:
        self._done += 1
        print(f"{self._done:>3}/{self._of}  {_line(result, self._width, self._seed)}", flush=True)
        if result.verdict == "FAILED":
            print(f"{tail(result)}\n    everything it left is in {result.folder}", flush=True)
            print(f"    again: {result.job.again}", flush=True)


def _line(result: Result, width: int, seed: int) -> str:
    return f"{result.job.name:<{width}}  seed {seed}  {result.verdict:<7}  {result.seconds:6.1f} s  {result.seen}"


def _width(jobs: Iterable[Job]) -> int:
    return max(len(job.name) for job in jobs)


def _summarise(results: Sequence[Result], jobs: Sequence[Job], seconds: float, seed: int) -> None:
    by_name = {result.job.name: result for result in results}
    width = _width(jobs)
    print("\nwhat was seen:")
    for job in jobs:
        print(_line(by_name[job.name], width, seed))
    verdicts = [result.verdict for result in results]
    counts = ", ".join(f"{verdicts.count(verdict)} {verdict}" for verdict in ("passed", "skipped", "FAILED"))
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = (used.ru_utime + used.ru_stime) / 60
    print(f"\n{len(results)} in {seconds / 60:.1f} min, {cpu:.0f} min of CPU: {counts}; seed {seed}")
    for result in results:
        if result.verdict == "FAILED":
            print(f"FAILED {result.job.name}: {result.folder}\n    again: {result.job.again}")


if __name__ == "__main__":
    sys.exit(main())
