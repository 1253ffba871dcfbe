"""GitLab's own blocks: what a place counts itself and reports, with its own gaps."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import takewhile
from typing import Any, Final

from deploy.fleet.dice import Dice
from deploy.fleet.leaves import leaves
from deploy.fleet.people import DayUse
from deploy.fleet.product import COUNTERS, FEATURES, MONTHLY, SETTINGS, SMAU_PATHS, STAGES
from deploy.fleet.profile import Profile

WINDOW: Final = 28

INSIDE: Final = {stage: [i for i, feature in enumerate(FEATURES) if feature.stage == stage] for stage in STAGES}

_MISSING: Final = object()

FLAWS: Final[tuple[Any, ...]] = (-1, -1000, None, 0, _MISSING, "", "4", 12.5, True, [], {"value": 3})
"""What stands in place of a count: failure values, nothing, and what is no count at all."""

GAPS: Final[tuple[Any, ...]] = (_MISSING, None, -1, {})
"""What stands in place of a whole block. An empty one still says something: that nothing is known."""


class Recent:
    """The people seen in the last 28 days."""

    def __init__(self) -> None:
        self._last: dict[int, int] = {}  # person -> last day, the longest ago first

    def see(self, people: Iterable[int], day: int) -> None:
        """Days must come in order."""
        last = self._last
        for person in people:
            last.pop(person, None)
            last[person] = day

    def count(self, day: int) -> int:
        """How many in the 28 days that end with the day before `day`, which must come in order too."""
        gone = list(takewhile(lambda person: self._last[person] < day - WINDOW, self._last))
        for person in gone:
            del self._last[person]
        return len(self._last)


class Reporter:
    """Counts what one place reports. Days must come in order."""

    def __init__(self, profile: Profile, people: int) -> None:
        self._profile = profile
        self._people = people
        self._everybody = Recent()
        self._stages = {stage: Recent() for stage in STAGES}
        self._features = [Recent() for _ in FEATURES]
        self._week = -1
        self._leaves: dict[str, Any] = {}
        self._flaws: dict[tuple[str, ...], Any] = {}

    def see(self, day: int, use: DayUse) -> None:
        """`use` happened on `day`."""
        if not self._profile.reports or self._profile.style == "2019":
            return
        by_stage: dict[str, set[int]] = {}
        for index, users in use.items():
            self._features[index].see(users, day)
            by_stage.setdefault(FEATURES[index].stage, set()).update(users)
        for stage, people in by_stage.items():
            self._stages[stage].see(people, day)
        self._everybody.see(set().union(*by_stage.values()), day)

    def blocks(self, day: int) -> dict[str, Any]:
        """The blocks of the ping of `day`; the 28 days they speak of end the day before."""
        profile = self._profile
        if not profile.reports:
            return {}
        self._turn_week(day)
        blocks: dict[str, Any] = {"counts": self._counts(day)}
        if profile.style != "2019":
            self._add_monthly(blocks, day)
            for path, flaw in self._flaws.items():
                _put(blocks, path, flaw)
            if profile.patchy and day % 5 == 2:
                _put(blocks, (MONTHLY,), GAPS[day // 5 % len(GAPS)])
        return blocks

    def _turn_week(self, day: int) -> None:
        """What fails goes on failing for a while, and counts that nobody looks at move slowly."""
        week = day // 7
        if week == self._week:
            return
        self._week = week
        dice = Dice(self._profile.name, "reporting", week)
        if self._profile.style == "today":
            self._leaves = leaves(dice, self._profile.leaves, self._people)
        if self._profile.fails:
            self._flaws = _draw_flaws(dice)

    def _add_monthly(self, blocks: dict[str, Any], day: int) -> None:
        today = self._profile.style == "today"
        more: dict[str, dict[str, int]] = self._leaves.get(MONTHLY, {})
        monthly: dict[str, dict[str, Any]] = {stage: {**numbers} for stage, numbers in more.items()}
        manage = monthly.setdefault("manage", {})
        manage["events"] = self._everybody.count(day)
        blocks["usage_activity_by_stage"] = {"manage": {"events": self._people}}
        blocks[MONTHLY] = monthly
        if today:
            manage["user_auth_by_provider"] = {"saml": manage["events"] // 3}
            blocks["redis_hll_counters"] = {**self._leaves.get("redis_hll_counters", {})}
            blocks["settings"] = SETTINGS
        for stage, recent in self._stages.items():
            if not (smau := recent.count(day)):
                continue
            inside = monthly.setdefault(stage, {})
            for index in INSIDE[stage]:
                inside[FEATURES[index].name] = self._features[index].count(day)
            block, *path = SMAU_PATHS[stage]
            if block in blocks:
                node = blocks[block]
                for step in path[:-1]:
                    node = node.setdefault(step, {})
                node[path[-1]] = smau

    def _counts(self, day: int) -> dict[str, Any]:
        age = day - self._profile.first_ping + 90
        counts: dict[str, Any] = {name: (serial + 1) * age * self._people // 40 for serial, name in enumerate(COUNTERS)}
        counts |= self._leaves.get("counts", {})
        if self._profile.fails:
            counts |= {"uploads": -1, "web_hooks": None, "service_desk": {"enabled": True, "issues": -2}}
        return counts


def _draw_flaws(dice: Dice) -> dict[tuple[str, ...], Any]:
    """A week's: paths of leaves, and now and then of a whole stage, with what stands there instead."""
    chances: dict[tuple[str, ...], float] = {(MONTHLY, "manage", "events"): 0.35}
    chances |= dict.fromkeys(SMAU_PATHS.values(), 0.25)
    chances |= {(MONTHLY, feature.stage, feature.name): 0.1 for feature in FEATURES}
    chances |= {(MONTHLY, stage): 0.04 for stage in STAGES}
    return {path: dice.pick(FLAWS) for path, chance in chances.items() if dice.chance(chance)}


def _put(blocks: dict[str, Any], path: tuple[str, ...], value: object) -> None:
    """Puts a value where a path leads, or takes what is there away. Where no path leads there, nothing happens."""
    node: Any = blocks
    for step in path[:-1]:
        node = node.get(step)
        if not isinstance(node, dict):
            return
    if value is _MISSING:
        node.pop(path[-1], None)
    else:
        node[path[-1]] = value
