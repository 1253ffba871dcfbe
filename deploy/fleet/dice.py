"""Chance that repeats itself."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from statistics import NormalDist
from typing import TypeVar

T = TypeVar("T")

_NORMAL = NormalDist()


class Dice:
    """Draws that depend on a name alone.

    Only `random.Random.random` is used, the one method whose sequence Python promises to keep, and everything else is
    derived from it; numpy promises no such thing for its generators.
    """

    def __init__(self, *name: object) -> None:
        digest = hashlib.sha256("/".join(map(str, name)).encode()).digest()
        self.unit = random.Random(int.from_bytes(digest, "big")).random
        """The next number of [0, 1)."""

    def below(self, limit: int) -> int:
        """An integer of 0 to `limit` - 1, for limits far under 2**53."""
        return int(self.unit() * limit)

    def between(self, low: int, high: int) -> int:
        """An integer of `low` to `high`, both included."""
        return low + self.below(high - low + 1)

    def chance(self, share: float) -> bool:
        """True in that share of all calls."""
        return self.unit() < share

    def pick(self, options: Sequence[T]) -> T:
        """One of `options`, each as likely as the other."""
        return options[self.below(len(options))]

    def weighted(self, options: dict[T, float]) -> T:
        """One of the keys, by their weights."""
        left = self.unit() * sum(options.values())
        for option, weight in options.items():
            left -= weight
            if left < 0:
                return option
        return next(reversed(options))

    def normal(self) -> float:
        """A draw of the standard normal distribution."""
        return _NORMAL.inv_cdf(min(max(self.unit(), 1e-12), 1 - 1e-12))

    def hex(self, digits: int) -> str:
        """That many hexadecimal digits."""
        return "".join(f"{self.below(1 << 32):08x}" for _ in range(-(-digits // 8)))[:digits]
