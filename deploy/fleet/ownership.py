"""Which account uses which installations and groups, and under which of its subscriptions."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final, NamedTuple

from deploy.fleet.product import RANKS
from deploy.fleet.profile import Licence, Profile
from deploy.fleet.spec import FleetSpec

ALWAYS_SINCE: Final = 0


class Holding(NamedTuple):
    """A place is used under a subscription from the day `since` on, an ordinal, until another holding of it begins.

    `place` is its index among the profiles, `account` and `subscription` are numbers from 0 on, the latter within the
    account.
    """

    place: int
    account: int
    subscription: int
    since: int = ALWAYS_SINCE


class Cover(NamedTuple):
    """What a subscription that somebody holds was bought for. `rank` is that of its plan; `namespace_id` of a group."""

    deployment: str
    rank: int
    seats: int
    namespace_id: str


def account_id(seed: int, account: int) -> str:
    """Accounts of another seed are other accounts."""
    return f"ACC-{seed}-{account:06}"


def subscription_id(seed: int, account: int, subscription: int) -> str:
    """As `license_subscription_id` and `subscription_id` have it."""
    return f"A-S{seed}-{account:06}-{subscription:02}"


def license_sha256(subscription: str, licence: int) -> str:
    """Of the licence of that number, from 0 on, of a subscription."""
    return hashlib.sha256(f"{subscription}/{licence}".encode()).hexdigest()


def holdings(spec: FleetSpec, profiles: Sequence[Profile]) -> list[Holding]:
    """Deals licensed installations and groups to accounts, in turn, so that a fleet of fifty shows each case: nobody's,
    two installations on one subscription, an installation that changes its licence midway, accounts without usage.
    """
    owners = [account for account in range(spec.accounts) if account % 6 != 4] or [*range(spec.accounts)]
    if not owners:
        return []
    found: list[Holding] = []
    bought = [0] * spec.accounts
    serial = turn = 0
    last: Holding | None = None  # the newest that holds an installation
    for place, profile in enumerate(profiles):
        if not (profile.seats or profile.namespace_id):
            continue
        serial += 1
        if serial % 9 == 8:
            continue
        if profile.seats and last is not None and serial % 7 == 4:
            found.append(last._replace(place=place, since=ALWAYS_SINCE))
            continue
        account = owners[turn % len(owners)]
        turn += 1
        held = Holding(place, account, bought[account])
        bought[account] += 1
        found.append(held)
        if profile.seats:
            if last is not None and serial % 10 == 6:
                found.append(last._replace(place=place, since=(profile.first_ping + profile.last_ping) // 2 + 1))
            last = held
    return found


def licences(spec: FleetSpec, found: Sequence[Holding]) -> dict[int, tuple[tuple[int, Licence], ...]]:
    """What each held place says of its licence: place -> (day from which on, licence), in order. Every third names only
    the licence and not the subscription."""
    told: dict[int, list[tuple[int, Licence]]] = {}
    for held in found:
        name = subscription_id(spec.seed, held.account, held.subscription)
        licence = Licence("" if held.place % 3 == 1 else name, license_sha256(name, 0))
        told.setdefault(held.place, []).append((held.since, licence))
    return {place: tuple(of_place) for place, of_place in told.items()}


def covers(found: Sequence[Holding], profiles: Sequence[Profile]) -> dict[int, list[Cover]]:
    """What each account with usage buys: account -> its first subscriptions, in their order."""
    bought: dict[int, list[Cover]] = {}
    for held in found:
        of_account = bought.setdefault(held.account, [])
        profile = profiles[held.place]
        if held.subscription < len(of_account):
            if held.since == ALWAYS_SINCE:  # a second installation on one subscription
                first = of_account[held.subscription]
                of_account[held.subscription] = first._replace(seats=first.seats + profile.seats)
            continue
        if profile.namespace_id:
            seats = 5 + 7 * (held.place % 6)
            plan, deployment = profile.namespace_plan or "free", "gitlab_com"
        else:
            seats, plan, deployment = profile.seats, profile.license_plan or "premium", "self_managed"
        of_account.append(Cover(deployment, RANKS[plan], seats, profile.namespace_id or ""))
    return bought
