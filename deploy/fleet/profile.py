"""What does not change about a sender of pings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

Form = Literal["activity", "sessions", "both", "none"]
SessionCounts = Literal["told", "some", "omitted"]
Style = Literal["2019", "2021", "today"]

ALWAYS: Final = 10**9
"""A day after all others."""


class Licence(NamedTuple):
    """How an installation says whose it is. `subscription_id` is '' where it names the licence alone."""

    subscription_id: str
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Profile:
    """One installation, one group, or GitLab.com itself. Days are ordinals; pings are sent from `first_ping` to `last_ping`.

    Attributes:
        cadence: 1 sends each day and tells of the two days before, 7 sends weekly and tells of seven.
        pause: first and last day of a stretch without pings.
        moment: time of day of the ping, in milliseconds; zone: the offset it is written with, in minutes.
        form: how activity is told; `none` tells of nobody, the installation only reports.
        told_from: the people before this index are in what is reported and in no activity.
        settling: a day is told incompletely at first and completely the next day.
        reports: the ping holds GitLab's own blocks.
        style: GitLab's own blocks as of that year: 2019 has `counts` alone, 2021 the monthly numbers by stage too, today's
            `redis_hll_counters` and many more leaves.
        leaves: how many more in today's style.
        fails: some of GitLab's own figures are failure values, of another type, or missing.
        patchy: on some days a whole block is missing, null, empty or a failure value.
        silent_from: from that day on nobody uses it, though the pings go on.
        licences: (day from which on, licence) of one that an account owns, in order.
    """

    name: str
    uuid: str
    hostname: str | None
    first_ping: int
    last_ping: int
    cadence: int = 1
    weekday: int = 0
    pause: tuple[int, int] | None = None
    moment: int = 0
    zone: int | None = None
    form: Form = "activity"
    told_from: int = 0
    session_counts: SessionCounts = "omitted"
    settling: bool = False
    namespace_id: str | None = None
    namespace_plan: str | None = None
    edition: str = "CE"
    license_plan: str = ""
    seats: int = 0
    months_behind: int = 0
    reports: bool = True
    style: Style = "today"
    leaves: int = 0
    users_by: bool = False
    licensee: bool = False
    fails: bool = False
    patchy: bool = False
    silent_from: int = ALWAYS
    licences: tuple[tuple[int, Licence], ...] = ()

    @property
    def key(self) -> bytes:
        """The record key of the contract."""
        return (f"{self.uuid}:{self.namespace_id}" if self.namespace_id else self.uuid).encode()

    def licence_on(self, day: int) -> Licence | None:
        """The licence that an account has for it on that day, None where it is nobody's."""
        return next((licence for since, licence in reversed(self.licences) if since <= day), None)

    def sends_on(self, day: int) -> bool:
        """Whether there is a ping on that day."""
        if not self.first_ping <= day <= self.last_ping:
            return False
        if self.pause is not None and self.pause[0] <= day <= self.pause[1]:
            return False
        # An ordinal and its weekday differ by one modulo 7: day 1 is a Monday, weekday 0.
        return self.cadence == 1 or (day - 1) % 7 == self.weekday
