"""Who is registered somewhere."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Final

from deploy.fleet.people import Person
from deploy.fleet.product import ROLES

CHANNELS: Final = ("paid", "earned", "social", "owned")


class Census:
    """Registered users of one place. Days must be asked for in order.

    Attributes:
        registered: how many there are on the day asked for last.
        most: how many there ever were on such a day.
    """

    def __init__(self, people: Sequence[Person]) -> None:
        self.registered = 0
        self.most = 0
        self._persona = dict.fromkeys(ROLES, 0)
        self._channel = dict.fromkeys(CHANNELS, 0)
        moves: dict[int, list[tuple[str, str, int]]] = defaultdict(list)
        for index, person in enumerate(people):
            came_by = CHANNELS[index % 7 % 4]
            moves[person.joined].append((person.role, came_by, 1))
            moves[person.left].append((person.role, came_by, -1))
        self._moves = sorted(moves.items(), reverse=True)

    def take(self, day: int) -> None:
        """Counts who is registered on `day`."""
        while self._moves and self._moves[-1][0] <= day:
            for role, came_by, step in self._moves.pop()[1]:
                self._persona[role] += step
                self._channel[came_by] += step
                self.registered += step
        self.most = max(self.most, self.registered)

    def users_by(self) -> dict[str, dict[str, int]]:
        """The extension's block `users_by`: every role and channel, also those at 0."""
        return {"persona": dict(self._persona), "acquisition_channel": dict(self._channel)}
