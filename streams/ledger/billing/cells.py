"""Cells: a dimension and a value of it, as a 63-bit number that every worker gives it alike."""

from __future__ import annotations

import hashlib

from schemas.billing import Profile

DIMENSIONS = (
    "total", "plan", "geo", "territory", "segment", "buyer_persona", "acquisition_channel", "deployment",
)  # fmt: skip
"""What seats and MRR are added up by; the value of the total is ''."""

Market = tuple[str, str, str, str, str]
"""What of a profile is a dimension: geo, territory, segment, buyer persona, acquisition channel."""

NO_MARKET: Market = ("", "", "", "", "")

Cut = list[int]
"""The cells that a subscription is in, one for each of `DIMENSIONS`."""


def market_of(profile: Profile) -> Market:
    """The market of an account with this profile."""
    return profile.geo, profile.territory, profile.segment, profile.buyer_persona, profile.acquisition_channel


class Cells:
    """Numbers of cells. Remembers which ones were given out."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[str, str], int] = {}
        self._cuts: dict[tuple[str, ...], Cut] = {}
        self._unwritten: list[tuple[int, str, str]] = []

    def number(self, dimension: str, value: str) -> int:
        """A digest of the names: two cells meet with a chance of n^2 / 2^64, 1e-9 for 100,000 cells."""
        number = self._numbers.get((dimension, value))
        if number is None:
            text = f"{dimension}:{value}".encode()
            digest = hashlib.blake2b(text, digest_size=8, person=b"pingstream.cell").digest()
            number = self._numbers[dimension, value] = int.from_bytes(digest, "little") >> 1
            self._unwritten.append((number, dimension, value))
        return number

    def cut(self, plan: str, deployment: str, market: Market) -> Cut:
        """The cells of a subscription with this plan of an account in this market; equal ones are the same object."""
        values = ("", plan, *market, deployment)
        cut = self._cuts.get(values)
        if cut is None:
            cut = self._cuts[values] = list(map(self.number, DIMENSIONS, values))
        return cut

    def unwritten(self) -> list[tuple[int, str, str]]:
        """(number, dimension, value) of each cell given out since `written`."""
        return list(self._unwritten)

    def written(self, count: int) -> None:
        """The first `count` of `unwritten` are in the sink."""
        del self._unwritten[:count]
