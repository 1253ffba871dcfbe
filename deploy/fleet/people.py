"""Who works somewhere, and what they did on a day."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Final

from deploy.fleet.dice import Dice
from deploy.fleet.product import ADOPTION, FEATURES, LIKES, ROLES

WEEKEND: Final = 0.12
"""Share of a weekday's people who show up on a Saturday or Sunday."""

COMMON: Final = tuple(i for i, feature in enumerate(FEATURES) if feature.name in ("issues", "ci_pipelines"))
"""What somebody uses who uses nothing else."""

DayUse = dict[int, list[int]]
"""Index of a feature -> indices of the people who used it, each once."""


class Person:
    """One user: `token` is the id as JSON text, days are ordinals, `taste` and `offered` are bit masks over the
    features: what the person uses, and what can be used there."""

    __slots__ = ("habit", "joined", "left", "role", "taste", "token")

    def __init__(self, dice: Dice, token: str, joined: int, left: int, offered: int) -> None:
        self.token = token
        self.joined = joined
        self.left = left
        self.role = dice.weighted(ROLES)
        self.habit = 0.06 + 0.84 * dice.unit() ** 1.4
        likes = LIKES[self.role]
        self.taste = 0
        for index, feature in enumerate(FEATURES):
            if dice.chance(likes.get(feature.stage, 0.0)) and offered >> index & 1:
                self.taste |= 1 << index
        self.taste = self.taste or 1 << dice.pick(COMMON)


def offered(dice: Dice, rank: int) -> int:
    """The features that one place has adopted and its plan has, as a bit mask."""
    adopted = {stage for stage, share in ADOPTION.items() if dice.chance(share)}
    return sum(1 << i for i, feature in enumerate(FEATURES) if feature.stage in adopted and feature.rank <= rank)


def crowd(dice: Dice, tokens: Sequence[str], first: int, last: int, rank: int) -> list[Person]:
    """The people of one place over its days `first` to `last`: most are there from the start, the rest join, some leave."""
    features = offered(dice, rank)
    present = 0.55 + 0.4 * dice.unit()
    people = []
    for token in tokens:
        joined = first if dice.chance(present) else dice.between(first, last)
        left = dice.between(joined + 1, last + 1) if dice.chance(0.15) else last + 1
        people.append(Person(dice, token, joined, left, features))
    return people


def day_use(dice: Dice, people: Sequence[Person], day: int, weekend: bool) -> DayUse:
    """Who used what on one day."""
    use: DayUse = defaultdict(list)
    factor = WEEKEND if weekend else 1.0
    unit = dice.unit
    span = 1 << len(FEATURES)
    for index, person in enumerate(people):
        if person.joined <= day < person.left and unit() < person.habit * factor:
            touched = person.taste & int(unit() * span) or person.taste & -person.taste
            while touched:
                lowest = touched & -touched
                use[lowest.bit_length() - 1].append(index)
                touched ^= lowest
    return use


def _small_numbers(dice: Dice) -> Callable[[], str]:
    last = 0

    def token() -> str:
        nonlocal last
        last += dice.between(1, 9)
        return str(last)

    return token


def _large_numbers(dice: Dice) -> Callable[[], str]:
    last = 2**64

    def token() -> str:
        nonlocal last
        last -= dice.between(1, 2**31)
        return str(last)

    return token


def _names(dice: Dice) -> Callable[[], str]:
    serial = 0

    def token() -> str:
        nonlocal serial
        serial += 1
        name = f"{dice.hex(6)}-{serial}"
        # Some ids are more than ASCII: é, a quotation mark, a character beyond 16 bits.
        ending = dice.weighted({"": 0.9, "-é": 0.04, '-"q"': 0.03, "-🦊": 0.03})
        return json.dumps(name + ending)

    return token


def _numbers_and_names(dice: Dice) -> Callable[[], str]:
    last = 0

    def token() -> str:
        nonlocal last
        last += 1
        # 7 and "7" are two users.
        return str(last // 2) if last % 2 else f'"{last // 2}"'

    return token


def _mostly_numbers(dice: Dice) -> Callable[[], str]:
    number, name = _small_numbers(dice), _names(dice)
    serial = 0

    def token() -> str:
        nonlocal serial
        serial += 1
        return name() if serial % 8 == 5 else number()

    return token


TOKENS: Final[dict[str, Callable[[Dice], Callable[[], str]]]] = {
    "small": _small_numbers,
    "large": _large_numbers,
    "names": _names,
    "both": _numbers_and_names,
    "mostly numbers": _mostly_numbers,
}
"""Kinds of user ids: each makes a function that gives a new id, as JSON text, at every call."""
