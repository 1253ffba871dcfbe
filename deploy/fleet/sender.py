"""One sender of pings: an installation, a group of GitLab.com, or GitLab.com itself."""

from __future__ import annotations

import datetime as dt
from bisect import bisect_left
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Final

import msgspec

from deploy.fleet.census import Census
from deploy.fleet.dice import Dice
from deploy.fleet.head import head
from deploy.fleet.people import DayUse, Person, day_use
from deploy.fleet.product import FEATURES
from deploy.fleet.profile import Profile
from deploy.fleet.reporting import Reporter

DAY_MS: Final = 86_400_000
EPOCH_DAY: Final = dt.date(1970, 1, 1).toordinal()

USERS_BY_GAPS: Final[tuple[Any, ...]] = (None, {}, {"persona": {}}, {"acquisition_channel": {"paid": 0}})
"""What stands in place of `users_by` where nobody could be asked: nothing, or little. It is ours, so it is never wrong."""


@dataclass(frozen=True)
class Told:
    """One day's entries as JSON text, without the brackets; '' when there are none."""

    activity: str = ""
    sessions: str = ""


@dataclass(frozen=True)
class Ping:
    """A ping before it is delivered. `recorded` is Unix time in milliseconds; `head` is what is not activity."""

    profile: Profile
    recorded: int
    head: dict[str, Any]
    told: Told

    def moved(self, milliseconds: int) -> Ping:
        """The same ping from a clock that is ahead by so much."""
        recorded = self.recorded + milliseconds
        return replace(self, recorded=recorded, head={**self.head, "recorded_at": rfc3339(recorded, self.profile.zone)})

    def value(self) -> bytes:
        """The ping as JSON."""
        parts = [""]
        if self.told.activity or self.profile.form in ("activity", "both"):
            parts.append(f'"activity":[{self.told.activity}]')
        if self.told.sessions:
            parts.append(f'"sessions":[{self.told.sessions}]')
        return msgspec.json.encode(self.head)[:-1] + ",".join(parts).encode() + b"}"


@dataclass
class Sender:
    """A profile with its people, moved on day by day. Days must be asked for in order."""

    profile: Profile
    people: list[Person]
    dice: Dice
    _days: dict[int, tuple[Told, Told]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._census = Census(self.people)
        self._reporter = Reporter(self.profile, len(self.people))

    def live(self, day: int) -> None:
        """People use the product on `day`, and what a ping would tell of it is kept for as long as one can."""
        use: DayUse = {}
        if day < self.profile.silent_from:
            use = day_use(self.dice, self.people, day, dt.date.fromordinal(day).weekday() >= 5)
        self._reporter.see(day, use)
        if self.profile.form == "none":
            return
        if begin := self.profile.told_from:
            use = {index: told for index, users in use.items() if (told := users[bisect_left(users, begin) :])}
        whole = self._tell(day, use)
        first = whole
        if self.profile.settling and self.profile.form == "activity":
            first = self._tell(day, {index: users[: -(-len(users) * 2 // 3)] for index, users in use.items()})
        self._days[day] = (first, whole)
        self._days.pop(day - 8, None)

    def ping(self, day: int) -> Ping | None:
        """The ping sent on `day`, or None when none is."""
        profile = self.profile
        if not profile.sends_on(day):
            return None
        days = range(day - max(profile.cadence, 2), day)
        told = [self._days[d][0 if d == day - 1 else 1] for d in days if d in self._days]
        recorded = (day - EPOCH_DAY) * DAY_MS + profile.moment + self.dice.below(60_000)
        return Ping(
            profile=profile,
            recorded=recorded,
            head=self._head(day, recorded),
            told=Told(
                activity=",".join(entry.activity for entry in told if entry.activity),
                sessions=",".join(entry.sessions for entry in told if entry.sessions),
            ),
        )

    def _tell(self, day: int, use: DayUse) -> Told:
        profile, below = self.profile, self.dice.below
        date = dt.date.fromordinal(day).isoformat()
        activity, sessions = [], []
        for index in sorted(use):
            feature = FEATURES[index]
            tokens = [self.people[user].token for user in use[index]]
            where = f'"stage":"{feature.stage}","feature":"{feature.name}"'
            if profile.form == "sessions" or (profile.form == "both" and index % 2 == 0):
                midnight = (day - EPOCH_DAY) * DAY_MS
                for token in tokens:
                    for _ in range(1 + below(2)):
                        at = rfc3339(midnight + below(DAY_MS), profile.zone)
                        sessions.append(f'{{"user":{token},"at":"{at}",{where}}}')
                continue
            number = ""
            if profile.session_counts == "told" or (profile.session_counts == "some" and index % 3 == 0):
                number = f',"sessions":{len(tokens) + below(len(tokens) + 1)}'
            activity.append(f'{{"date":"{date}",{where},"users":[{",".join(tokens)}]{number}}}')
        return Told(",".join(activity), ",".join(sessions))

    def _head(self, day: int, recorded: int) -> dict[str, Any]:
        profile, census = self.profile, self._census
        census.take(day)
        fields = head(profile, day, rfc3339(recorded, profile.zone), census.registered, census.most)
        fields |= self._reporter.blocks(day)
        if profile.users_by:
            fields["users_by"] = census.users_by()
            if profile.patchy and day % 5 == 3:
                fields["users_by"] = USERS_BY_GAPS[day // 5 % len(USERS_BY_GAPS)]
        return fields


def rfc3339(milliseconds: int, zone: int | None) -> str:
    """Unix time as RFC 3339 with milliseconds: in UTC as `Z` for None, else with an offset of `zone` minutes."""
    day, rest = divmod(milliseconds + (zone or 0) * 60_000, DAY_MS)
    seconds, millisecond = divmod(rest, 1000)
    minutes, second = divmod(seconds, 60)
    return f"{_date(day)}T{minutes // 60:02}:{minutes % 60:02}:{second:02}.{millisecond:03}{_offset(zone)}"


@lru_cache
def _date(day: int) -> str:
    return dt.date.fromordinal(EPOCH_DAY + day).isoformat()


@lru_cache
def _offset(zone: int | None) -> str:
    if zone is None:
        return "Z"
    return f"{'-' if zone < 0 else '+'}{abs(zone) // 60:02}:{abs(zone) % 60:02}"
