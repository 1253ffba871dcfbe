"""What goes wrong in a run, by seed: how often, how long, and when it ends."""

from __future__ import annotations

import random

NODES = 3
"""Brokers, each of which leads some partitions."""


class Faults:
    """Chance of one run. `calm` ends all faults: from then on everything works, in little time.

    Args:
        seed: of the run; None is a run in which nothing goes wrong.
    """

    def __init__(self, seed: int | None) -> None:
        self.rng = rng = random.Random(f"faults {seed}")
        self.calm = seed is None
        self.workers = 1 if seed is None else rng.choice((1, 1, 2, 2, 3))
        self.seconds = 0.0 if seed is None else rng.choice((20.0, 40.0, 80.0))
        """Virtual seconds for which things go wrong."""
        self._slow = rng.choice((0.0, 0.02, 0.1))
        self._sink = rng.choice((0.0, 0.1, 0.3))
        self._produce = rng.choice((0.0, 0.0, 0.01, 0.03))
        self._kills = rng.choice((0.0, 0.5, 0.8, 1.0))
        self._pauses = rng.choice((0.0, 0.0, 0.5, 1.0))
        self._fetch = rng.choice((0.0, 0.1, 0.3))
        self._abrupt = rng.choice((0.0, 0.2, 0.6))
        self._leaves = rng.choice((0.0, 0.3))
        self._outages = [] if seed is None else _outages(random.Random(f"outages {seed}"), self.seconds)

    def happens(self, chance: float) -> bool:
        """Whether something of this chance goes wrong now."""
        return not self.calm and self.rng.random() < chance

    def delay(self) -> float:
        """Seconds on a wire: mostly little, at times as long as a session."""
        if self.happens(self._slow):
            return self.rng.choice((0.5, 2.0, 6.0, 15.0)) * self.rng.random()
        return 0.0005 + 0.004 * self.rng.random()

    def up_at(self, node: int, now: float) -> float:
        """When a broker of several answers: now, or when it is back."""
        if not self.calm:
            for down, begin, end in self._outages:
                if down == node and begin <= now < end:
                    return end
        return now

    def sink_fails(self) -> str | None:
        """How an insert fails: before it is taken, after it, or it is taken later than its error is answered."""
        return self.rng.choice(("before", "after", "late")) if self.happens(self._sink) else None

    def produce_fails(self) -> str | None:
        """How a record's acknowledgement fails: nothing is written, or its acknowledgement is lost."""
        return self.rng.choice(("before", "after")) if self.happens(self._produce) else None

    def fetch_fails(self) -> str | None:
        """What a fetch does wrong: it leaves records out, or brings some again."""
        return self.rng.choice(("hole", "again")) if self.happens(self._fetch) else None

    def dies_at(self) -> int:
        """Step before which a new process is killed, small ones as likely as large ones; 0 is never."""
        return int(10 ** self.rng.uniform(0.5, 3.6)) if self.happens(self._kills) else 0

    def pauses_at(self) -> int:
        """Step before which a new process stands still for a while; 0 is never."""
        return int(10 ** self.rng.uniform(1.0, 3.3)) if self.happens(self._pauses) else 0

    def pause(self) -> float:
        """Seconds of a pause, shorter and longer than a session."""
        return self.rng.choice((1.0, 8.0, 14.0, 30.0)) * (0.5 + self.rng.random())

    def is_abrupt(self) -> bool:
        """Whether a worker loses its partitions without having waited for what is under way."""
        return self.happens(self._abrupt)

    def leaves(self) -> bool:
        """Whether a worker is stopped in order, with SIGTERM."""
        return self.happens(self._leaves)

    def some(self, low: int, high: int) -> int:
        """A number from `low` to `high`, both included."""
        return self.rng.randint(low, high)


def _outages(rng: random.Random, seconds: float) -> list[tuple[int, float, float]]:
    """(node, from, until) of brokers that fail alone, for as long as an election takes or until they are started again."""
    found = []
    for _ in range(rng.choice((0, 0, 1, 3))):
        begin = rng.uniform(0, seconds)
        found.append((rng.randrange(NODES), begin, begin + rng.choice((1.0, 5.0, 20.0)) * (0.5 + rng.random())))
    return found
