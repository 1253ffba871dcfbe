"""One sender of pings: an installation, a group of GitLab.com, or GitLab.com itself."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

from deploy.fleet.dice import Dice
from deploy.fleet.people import DayUse, Person, day_use
from deploy.fleet.product import COUNTERS, FEATURES, SMAU_PATHS, STAGES, version_of

Form = Literal["activity", "sessions", "both"]
SessionCounts = Literal["told", "some", "omitted"]

DAY_MS: Final = 86_400_000
EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
EPOCH_DAY: Final = EPOCH.toordinal()

WINDOW: Final = 28
NEVER: Final = -(10**9)
CHANNELS: Final = ("paid", "earned", "social", "owned")
GIVEN_NAMES: Final = ("Ada", "Bilal", "Chidi", "Dana", "Emre", "Freya", "Goro", "Hana", "Inés", "Jomo")
FAMILY_NAMES: Final = ("Arden", "Berg", "Castro", "Diallo", "Egede", "Fonseca", "Grau", "Holm", "Ito", "Jansen")


@dataclass(frozen=True, kw_only=True)
class Profile:
    """What does not change about a sender. Days are ordinals; pings are sent from `first_ping` to `last_ping`.

    Attributes:
        cadence: 1 sends each day and tells of the two days before, 7 sends weekly and tells of seven.
        moment: time of day of the ping, in milliseconds; zone: the offset it is written with, in minutes.
        settling: a day is told incompletely at first and completely the next day.
        reports: the ping holds GitLab's own blocks.
        fails: some of GitLab's own counters come as failure values.
    """

    name: str
    uuid: str
    hostname: str | None
    first_ping: int
    last_ping: int
    cadence: int = 1
    weekday: int = 0
    moment: int = 0
    zone: int | None = None
    form: Form = "activity"
    session_counts: SessionCounts = "omitted"
    settling: bool = False
    namespace_id: str | None = None
    namespace_plan: str | None = None
    edition: str = "CE"
    license_plan: str = ""
    seats: int = 0
    months_behind: int = 0
    reports: bool = True
    users_by: bool = False
    licensee: bool = False
    fails: bool = False
    silent_from: int = 10**9

    @property
    def key(self) -> bytes:
        """The record key of the contract."""
        return (f"{self.uuid}:{self.namespace_id}" if self.namespace_id else self.uuid).encode()


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
        parts = [json.dumps(self.head, ensure_ascii=False, separators=(",", ":"))[1:-1]]
        if self.told.activity or self.profile.form != "sessions":
            parts.append(f'"activity":[{self.told.activity}]')
        if self.told.sessions:
            parts.append(f'"sessions":[{self.told.sessions}]')
        return ("{" + ",".join(parts) + "}").encode()


@dataclass
class Sender:
    """A profile with its people, moved on day by day. Days must be asked for in order."""

    profile: Profile
    people: list[Person]
    dice: Dice
    _days: dict[int, tuple[Told, Told]] = field(default_factory=dict)
    _last_active: list[int] = field(default_factory=list)
    _last_use: list[dict[int, int]] = field(default_factory=lambda: [{} for _ in FEATURES])
    _most_users: int = 0

    def __post_init__(self) -> None:
        self._last_active = [NEVER] * len(self.people)

    def live(self, day: int) -> None:
        """People use the product on `day`, and what a ping would tell of it is kept for as long as one can."""
        use: DayUse = {}
        if day < self.profile.silent_from:
            use = day_use(self.dice, self.people, day, dt.date.fromordinal(day).weekday() >= 5)
        for index, users in use.items():
            seen = self._last_use[index]
            for user in users:
                seen[user] = day
                self._last_active[user] = day
        whole = self._tell(day, use)
        first = whole
        if self.profile.settling and self.profile.form == "activity":
            first = self._tell(day, {index: users[: -(-len(users) * 2 // 3)] for index, users in use.items()})
        self._days[day] = (first, whole)
        self._days.pop(day - 8, None)

    def ping(self, day: int) -> Ping | None:
        """The ping sent on `day`, or None when none is."""
        profile = self.profile
        if not profile.first_ping <= day <= profile.last_ping:
            return None
        if profile.cadence == 7 and dt.date.fromordinal(day).weekday() != profile.weekday:
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
        date = dt.date.fromordinal(day).isoformat()
        activity, sessions = [], []
        for index in sorted(use):
            users, feature = use[index], FEATURES[index]
            one_by_one = self.profile.form == "sessions" or (self.profile.form == "both" and index % 2 == 0)
            if one_by_one:
                for user in users:
                    for _ in range(self.dice.between(1, 2)):
                        at = rfc3339((day - EPOCH_DAY) * DAY_MS + self.dice.below(DAY_MS), self.profile.zone)
                        sessions.append(
                            f'{{"user":{self.people[user].token},"at":"{at}",'
                            f'"stage":"{feature.stage}","feature":"{feature.name}"}}'
                        )
                continue
            ids = ",".join([self.people[user].token for user in users])
            number = ""
            if self.profile.session_counts == "told" or (self.profile.session_counts == "some" and index % 3 == 0):
                number = f',"sessions":{len(users) + self.dice.below(len(users) + 1)}'
            activity.append(
                f'{{"date":"{date}","stage":"{feature.stage}","feature":"{feature.name}","users":[{ids}]{number}}}'
            )
        return Told(",".join(activity), ",".join(sessions))

    def _head(self, day: int, recorded: int) -> dict[str, Any]:
        profile = self.profile
        registered = sum(person.joined <= day < person.left for person in self.people)
        self._most_users = max(self._most_users, registered)
        head: dict[str, Any] = {"uuid": profile.uuid}
        if profile.hostname is not None:
            head["hostname"] = profile.hostname
        head["version"] = version_of(dt.date.fromordinal(day), profile.months_behind, day // 9 % 4)
        if profile.edition != "CE":
            head["version"] += "-ee"
        head["installation_type"] = "gitlab-omnibus-helm-chart" if profile.months_behind % 3 == 1 else "omnibus-gitlab"
        head["active_user_count"] = -1 if profile.fails and day % 5 == 0 else registered
        head["recorded_at"] = rfc3339(recorded, profile.zone)
        head["edition"] = profile.edition
        if profile.namespace_id:
            head["namespace_id"] = profile.namespace_id
            head["namespace_plan"] = profile.namespace_plan
        if profile.seats:
            head |= self._license(day, registered)
        if profile.reports:
            head |= self._reported(day)
        if profile.users_by:
            head["users_by"] = self._users_by(day)
        return head

    def _license(self, day: int, registered: int) -> dict[str, Any]:
        profile = self.profile
        starts = dt.date(dt.date.fromordinal(day).year, 1, 1)
        license_: dict[str, Any] = {
            "license_sha256": profile.name.encode().hex().ljust(64, "0")[:64],
            "license_subscription_id": f"A-S{profile.name.encode().hex()[-8:]:0>8}",
            "license_user_count": profile.seats,
            "license_billable_users": registered,
            "historical_max_users": self._most_users,
            "license_starts_at": starts.isoformat(),
            "license_expires_at": starts.replace(year=starts.year + 1).isoformat(),
            "license_trial": False,
        }
        if profile.license_plan:
            license_["license_plan"] = profile.license_plan
        if profile.licensee:
            given, family = GIVEN_NAMES[profile.seats % 10], FAMILY_NAMES[profile.moment % 10]
            license_["licensee"] = {
                "Name": f"{given} {family}",
                "Company": f"{family} & Partners",
                "Email": f"{given}.{family}@licensee.example".lower(),
            }
            license_["license_key"] = f"key-of-{given}-{family}-{profile.seats}"
        return license_

    def _reported(self, day: int) -> dict[str, Any]:
        """GitLab's own blocks: what the installation counted itself, with its own gaps."""
        oldest = day - WINDOW
        features = [sum(last >= oldest for last in seen.values()) for seen in self._last_use]
        monthly: dict[str, dict[str, Any]] = {"manage": {"events": sum(last >= oldest for last in self._last_active)}}
        blocks: dict[str, Any] = {"counts": self._counts(day), "usage_activity_by_stage_monthly": monthly}
        for stage in STAGES:
            inside = [i for i, feature in enumerate(FEATURES) if feature.stage == stage]
            numbers = {FEATURES[i].name: features[i] for i in inside}
            if any(numbers.values()):
                monthly[stage] = numbers
                seen_in_stage = {user for i in inside for user, last in self._last_use[i].items() if last >= oldest}
                block = blocks
                *path, leaf = SMAU_PATHS[stage]
                for step in path:
                    block = block.setdefault(step, {})
                block[leaf] = -1 if self.profile.fails and stage == "monitor" else len(seen_in_stage)
        return blocks

    def _counts(self, day: int) -> dict[str, Any]:
        age = day - self.profile.first_ping + 90
        counts: dict[str, Any] = {
            name: (serial + 1) * age * len(self.people) // 40 for serial, name in enumerate(COUNTERS)
        }
        if self.profile.fails:
            counts |= {"uploads": -1, "web_hooks": None, "service_desk": {"enabled": True, "issues": -2}}
        return counts

    def _users_by(self, day: int) -> dict[str, dict[str, int]]:
        persona: dict[str, int] = {}
        channel: dict[str, int] = {}
        for index, person in enumerate(self.people):
            if person.joined <= day < person.left:
                persona[person.role] = persona.get(person.role, 0) + 1
                came_by = CHANNELS[index % 7 % 4]
                channel[came_by] = channel.get(came_by, 0) + 1
        return {"persona": persona, "acquisition_channel": channel}


def rfc3339(milliseconds: int, zone: int | None) -> str:
    """Unix time as RFC 3339 with milliseconds: in UTC as `Z` for None, else with an offset of `zone` minutes."""
    moment = EPOCH + dt.timedelta(milliseconds=milliseconds)
    if zone is None:
        return moment.isoformat(timespec="milliseconds")[:-6] + "Z"
    return moment.astimezone(dt.timezone(dt.timedelta(minutes=zone))).isoformat(timespec="milliseconds")
