"""Names of figures: a stage, or a feature of a stage, as a 64-bit number that every worker gives it alike."""

from __future__ import annotations

import hashlib

TOTAL = 0
"""The number of the figure over all stages; its stage and feature are ''."""


def number_of(stage: str, feature: str) -> int:
    """A 64-bit digest of the name: two names meet with a chance of n^2 / 2^65, 1e-11 for 20,000 names."""
    text = f"{len(stage)}:{stage}{feature}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8, person=b"pingstream.name").digest(), "little")


class Names:
    """Numbers for (stage, feature); feature '' is the stage itself. Remembers which ones were given out."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[str, str], int] = {("", ""): TOTAL}
        self._names: dict[int, tuple[str, str]] = {TOTAL: ("", "")}
        self._unwritten: list[tuple[int, str, str]] = [(TOTAL, "", "")]

    def number(self, stage: str, feature: str) -> int:
        """The number of a name, see `number_of`."""
        number = self._numbers.get((stage, feature))
        if number is None:
            number = number_of(stage, feature)
            self._numbers[stage, feature] = number
            self._names[number] = stage, feature
            self._unwritten.append((number, stage, feature))
        return number

    def name(self, number: int) -> tuple[str, str]:
        """(stage, feature) of a number that was given out."""
        return self._names[number]

    def is_stage(self, number: int) -> bool:
        """Whether a number names a stage, neither the total nor a feature."""
        stage, feature = self._names[number]
        return bool(stage) and not feature

    def unwritten(self) -> list[tuple[int, str, str]]:
        """(number, stage, feature) of each name given out since `written`."""
        return list(self._unwritten)

    def written(self, count: int) -> None:
        """The first `count` names of `unwritten` are in the sink."""
        del self._unwritten[:count]
