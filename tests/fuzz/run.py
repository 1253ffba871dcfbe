"""Runs of the fuzzer: a seed, a time, and for each part of it as many messages as there is time for."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from tests.fuzz.decoders import Desk, cost
from tests.fuzz.ends import Ends, open_ends, requests
from tests.fuzz.messages import events, messages, pings

BATCH = 1000
"""Messages of one seed; state begins anew with each."""

REQUESTS = 200
"""And requests."""

Part = Callable[[int], int]
"""Fuzzes with a seed; gives how many examples there were."""


def decoder(billing: bool, count: int, patience: float) -> Part:
    """Fuzzes a topic's messages, from bytes to rows."""
    bases = events() if billing else pings()
    warm = Desk(billing)
    for value in bases[:50]:  # kernels are compiled, caches are filled
        warm.take(value)

    def part(number: int) -> int:
        desk = Desk(billing)

        def check(value: bytes, attempt: int) -> None:
            if cost(lambda: desk.take(value, attempt)).is_bounded(patience):
                return
            fresh = Desk(billing)  # a kernel may have been compiled, or memory tidied up: that is not the message's
            again = cost(lambda: fresh.take(value, attempt))
            assert again.is_bounded(patience), f"{len(value):,} bytes took {again}"

        return _examples(number, count, check, messages(bases), st.sampled_from([0, 0, 0, 1, 3]))

    return part


def ends(open_: Ends, count: int) -> Part:
    """Fuzzes the door and the web end."""

    def part(number: int) -> int:
        def check(request: bytes, door: bool) -> None:
            open_.call(open_.door if door else open_.web, request)

        done = _examples(number, count, check, requests(), st.booleans())
        open_.check()
        return done

    return part


def _examples(number: int, count: int, check: Callable[..., None], *strategies: st.SearchStrategy[Any]) -> int:
    seed(number)(
        settings(
            max_examples=count, deadline=None, database=None, phases=[Phase.generate, Phase.shrink], print_blob=False,
            suppress_health_check=list(HealthCheck),
        )(given(*strategies)(check))
    )()  # fmt: skip
    return count


def run(
    first_seed: int,
    seconds: float,
    say: Callable[[str], None],
    count: int = BATCH,
    requests_count: int = REQUESTS,
    patience: float = 1.0,
) -> dict[str, int]:
    """Fuzzes all parts in turn.

    Args:
        patience: how many times the CPU time that a message may take is let pass, where other work shares the machine.

    Returns:
        How many messages each part took.

    Raises:
        AssertionError, or whatever left a part: with the seed that gives it again said before.
    """
    done: dict[str, int] = {}
    end = time.monotonic() + seconds
    with open_ends() as both:
        parts = {
            "usage-pings": decoder(False, count, patience),
            "billing-events": decoder(True, count, patience),
            "http": ends(both, requests_count),
        }
        number = first_seed
        while number == first_seed or time.monotonic() < end:
            for name, part in parts.items():
                try:
                    done[name] = done.get(name, 0) + part(number)
                except BaseException:
                    say(f"found in {name}: python -m tests.fuzz --seed {number} --seconds 0")
                    raise
            number += 1
    return done
