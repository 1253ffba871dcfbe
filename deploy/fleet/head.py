"""The fields at the top of a ping: who sends it, which version it runs, and its licence."""

from __future__ import annotations

import datetime as dt
from typing import Any, Final

from deploy.fleet.product import version_of
from deploy.fleet.profile import Profile

GIVEN_NAMES: Final = ("Ada", "Bilal", "Chidi", "Dana", "Emre", "Freya", "Goro", "Hana", "Inés", "Jomo")
FAMILY_NAMES: Final = ("Arden", "Berg", "Castro", "Diallo", "Egede", "Fonseca", "Grau", "Holm", "Ito", "Jansen")

UNKNOWN_USERS: Final = (-1, None, "n/a", -1000)
"""What a failed count of users comes as."""


def head(profile: Profile, day: int, recorded_at: str, registered: int, most_users: int) -> dict[str, Any]:
    """The top of the ping of `day`, an ordinal, with `registered` users now and `most_users` at the most so far."""
    fields: dict[str, Any] = {"uuid": profile.uuid}
    if profile.hostname is not None:
        fields["hostname"] = profile.hostname
    fields["version"] = version_of(dt.date.fromordinal(day), profile.months_behind, day // 9 % 4)
    if profile.edition != "CE":
        fields["version"] += "-ee"
    fields["installation_type"] = "gitlab-omnibus-helm-chart" if profile.months_behind % 3 == 1 else "omnibus-gitlab"
    fields["active_user_count"] = registered
    fields["recorded_at"] = recorded_at
    fields["edition"] = profile.edition
    if profile.namespace_id:
        fields["namespace_id"] = profile.namespace_id
        fields["namespace_plan"] = profile.namespace_plan
    if profile.seats:
        fields |= _licence(profile, day, registered, most_users)
    if profile.fails:
        _fail(fields, day + profile.moment)  # each on days of its own
    return fields


def _licence(profile: Profile, day: int, registered: int, most_users: int) -> dict[str, Any]:
    starts = dt.date(dt.date.fromordinal(day).year, 1, 1)
    licence: dict[str, Any] = {
        "license_sha256": profile.name.encode().hex().ljust(64, "0")[:64],
        "license_subscription_id": f"A-S{profile.name.encode().hex()[-8:]:0>8}",
        "license_user_count": profile.seats,
        "license_billable_users": registered,
        "historical_max_users": most_users,
        "license_starts_at": starts.isoformat(),
        "license_expires_at": starts.replace(year=starts.year + 1).isoformat(),
        "license_trial": False,
    }
    if owned := profile.licence_on(day):
        licence["license_sha256"] = owned.sha256
        if owned.subscription_id:
            licence["license_subscription_id"] = owned.subscription_id
        else:
            del licence["license_subscription_id"]
    if profile.license_plan:
        licence["license_plan"] = profile.license_plan
    if profile.licensee:
        given, family = GIVEN_NAMES[profile.seats % 10], FAMILY_NAMES[profile.moment % 10]
        licence["licensee"] = {
            "Name": f"{given} {family}",
            "Company": f"{family} & Partners",
            "Email": f"{given}.{family}@licensee.example".lower(),
        }
        licence["license_key"] = f"key-of-{given}-{family}-{profile.seats}"
    return licence


def _fail(fields: dict[str, Any], day: int) -> None:
    """What an installation sends on a bad day. GitLab's own fields may hold anything."""
    if day % 5 == 0:
        fields["active_user_count"] = UNKNOWN_USERS[day // 5 % len(UNKNOWN_USERS)]
    if day % 9 == 4:
        fields["version"] = ("unknown", None, 19.6)[day // 9 % 3]
    if day % 11 == 6:
        del fields["active_user_count"]
    if day % 7 == 3 and "historical_max_users" in fields:
        fields["historical_max_users"] = fields["license_billable_users"] = -1
