"""Who is in a fleet. Traits are dealt in turn, so that a fleet of fifty has some of each."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from deploy.fleet.dice import Dice
from deploy.fleet.ownership import holdings, licences
from deploy.fleet.people import TOKENS, crowd
from deploy.fleet.product import GROUP_PLANS, PLANS, RANKS
from deploy.fleet.profile import ALWAYS, Form, Profile, SessionCounts, Style
from deploy.fleet.sender import Sender
from deploy.fleet.spec import FleetSpec

SAAS_HOSTNAME: Final = "gitlab.com"
SIGMA: Final = 1.0
"""Spread of the log-normal number of people: a sixth of all places have more than e times the median."""

PAUSE: Final = 40
"""Days without a ping: longer than a reported figure stands."""

MONTHS_OF_STYLE: Final[dict[Style, int]] = {"2019": 86, "2021": 63, "today": 0}
"""How far behind the version of an installation is that sends the payload of that year."""

FORMS: Final[dict[int, Form]] = {6: "none", 7: "sessions", 8: "both"}
"""How activity is told by the tenths of the installations that do not use the compact form."""

ZONES: Final = (None, 0, 330, -480)
COMPANIES: Final = (
    "arbor", "basalt", "cobalt", "delta", "ember", "fjord", "garnet", "harbor", "indigo", "juniper",
)  # fmt: skip


def senders(spec: FleetSpec) -> list[Sender]:
    """Everybody who sends, installations first, in an order that does not depend on anything but the specification."""
    everybody = [*(_installation(spec, i) for i in range(spec.installations)), *_gitlab_com(spec)]
    found = holdings(spec, [sender.profile for sender in everybody])
    for place, told in licences(spec, found).items():
        everybody[place].profile = replace(everybody[place].profile, licences=told)
    return everybody


def _installation(spec: FleetSpec, i: int) -> Sender:
    dice = Dice(spec.seed, "installation", i)
    first, last = spec.first_day.toordinal(), spec.last_day.toordinal()
    span = last - first
    if i % 5 == 1:
        first += int(span * (0.15 + 0.55 * dice.unit()))
    if i % 10 == 5:
        last = first + int(span * (0.4 + 0.5 * dice.unit()))
    silent_from = first + int(span * (0.3 + 0.4 * dice.unit())) if i % 20 == 9 else ALWAYS

    edition, license_plan = dice.weighted(PLANS)
    number = _number_of_people(spec, dice)
    company = f"{COMPANIES[i % len(COMPANIES)]}{i}"
    form = FORMS.get(i % 10, "activity")
    style: Style = "2019" if i % 12 == 9 else "2021" if i % 4 == 2 else "today"
    counts: SessionCounts = ("told", "some", "omitted")[i % 3]
    profile = Profile(
        name=f"{spec.seed}-{i}",
        uuid=_uuid(spec, i - 1 if i % 25 == 8 else i),  # a restored backup: the other's uuid, a host name of its own
        hostname=None if i % 25 == 11 else "" if i % 25 == 23 else f"gitlab.{company}.example",
        first_ping=first,
        last_ping=last,
        cadence=7 if i % 10 == 4 else 1,
        weekday=i % 7,
        pause=_pause(first, last) if i % 11 == 3 else None,
        moment=dice.below(86_340_000),
        zone=ZONES[i % len(ZONES)],
        form=form,
        session_counts=counts,
        settling=i % 10 == 2,
        edition=edition,
        # Older versions do not tell the plan; it follows from the edition.
        license_plan="" if i % 6 == 3 else license_plan,
        seats=math.ceil(number * 1.1) if license_plan else 0,
        months_behind=MONTHS_OF_STYLE[style] + i * 5 % 9,
        # Whoever sends no activity reports at least.
        reports=form == "none" or i % 12 != 10,
        style=style,
        leaves=spec.leaves,
        users_by=i % 5 < 2,
        licensee=i % 5 < 3,
        fails=i % 8 == 3,
        patchy=i % 9 == 7,
        silent_from=silent_from,
    )
    kind = "names" if i % 7 == 3 else ("both" if i % 14 == 1 else "large" if i % 14 == 13 else "small")
    new_token = TOKENS[kind](dice)
    people = crowd(dice, [new_token() for _ in range(number)], first - 1, last, RANKS[license_plan])
    return Sender(profile, people, dice)


def _gitlab_com(spec: FleetSpec) -> Iterator[Sender]:
    """The groups, and GitLab.com itself, which reports of everybody and tells by name of a part of them only."""
    if not spec.groups:
        return
    new_token = TOKENS["mostly numbers"](Dice(spec.seed, "gitlab.com"))
    insiders = [new_token() for _ in range(max(spec.users, spec.users * spec.groups // 2))]
    outsiders = [new_token() for _ in range(len(insiders) // 5 + 1)]  # in no group
    yield from (_group(spec, i, insiders) for i in range(spec.groups))
    dice = Dice(spec.seed, "gitlab.com", "itself")
    first, last = spec.first_day.toordinal(), spec.last_day.toordinal()
    told_from = len(insiders) * 2 // 3
    profile = Profile(
        name=f"{spec.seed}-gitlab.com",
        uuid=_uuid(spec, "gitlab.com"),
        hostname=SAAS_HOSTNAME,
        first_ping=first,
        last_ping=last,
        moment=3_600_000,
        edition="EEU",
        told_from=told_from,
        session_counts="told",
        leaves=spec.leaves,
        users_by=True,
    )
    yield Sender(profile, crowd(dice, insiders + outsiders, first - 1, last, RANKS["gold"]), dice)


def _group(spec: FleetSpec, i: int, insiders: list[str]) -> Sender:
    dice = Dice(spec.seed, "group", i)
    first, last = spec.first_day.toordinal(), spec.last_day.toordinal()
    plan = dice.weighted(GROUP_PLANS)
    number = min(_number_of_people(spec, dice), len(insiders))
    begin = dice.below(len(insiders))
    tokens = [insiders[(begin + j) % len(insiders)] for j in range(number)]  # neighbours share people
    profile = Profile(
        name=f"{spec.seed}-group-{i}",
        uuid=_uuid(spec, "gitlab.com"),
        hostname=SAAS_HOSTNAME,
        first_ping=first,
        last_ping=last,
        pause=_pause(first, last) if i % 8 == 5 else None,
        moment=dice.below(86_340_000),
        form="both" if i % 4 == 3 else "activity",
        session_counts="told" if i % 2 else "omitted",
        namespace_id=str(9970 + 13 * i),
        namespace_plan=plan,
        edition="EE",
        reports=i % 4 != 2,
        style="2021" if i % 8 == 4 else "today",
        fails=i % 8 == 1,
        patchy=i % 5 == 3,
        users_by=i % 3 == 0,
    )
    return Sender(profile, crowd(dice, tokens, first - 1, last, RANKS[plan]), dice)


def _pause(first: int, last: int) -> tuple[int, int] | None:
    """The middle of the days, where they are enough for pings before and after."""
    begin = first + (last - first - PAUSE) // 2
    return (begin, begin + PAUSE - 1) if begin - first >= 3 else None


def _number_of_people(spec: FleetSpec, dice: Dice) -> int:
    # Rounded to whole people, so that the last digit of a machine's exp() does not matter.
    return min(max(3, round(spec.users * math.exp(SIGMA * dice.normal()))), 15 * spec.users)


def _uuid(spec: FleetSpec, who: object) -> str:
    digits = Dice(spec.seed, "uuid", who).hex(32)
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:]}"
