"""What may change about a subscription in the middle of its term."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from deploy.fleet.dice import Dice
from deploy.fleet.market import PRICES
from deploy.fleet.subscription import Subscription

CHANCES: Final = {
    "grow": 0.16,
    "shrink": 0.03,
    "upgrade": 0.02,
    "downgrade": 0.006,
    "move": 0.005,
    "price": 0.02,
    "cancel": 0.006,
}
"""How likely these are in 30 days for a subscription with seats."""


def _grow(dice: Dice, subscription: Subscription) -> str:
    subscription.seats += dice.between(1, 1 + subscription.seats // 5)
    return "quantity_changed"


def _shrink(dice: Dice, subscription: Subscription) -> str:
    left = subscription.seats - dice.between(1, 1 + subscription.seats // 4)
    # Now and then somebody gives all seats back and cancels nothing.
    subscription.seats = max(left, 0 if dice.chance(0.1) else 1)
    return "quantity_changed"


def _upgrade(dice: Dice, subscription: Subscription) -> str:
    if subscription.rank + 1 == len(PRICES):
        return ""
    subscription.change_plan(subscription.deployment, subscription.rank + 1)
    return "plan_changed"


def _downgrade(dice: Dice, subscription: Subscription) -> str:
    if subscription.rank < 2:
        return ""
    subscription.change_plan(subscription.deployment, subscription.rank - 1)
    return "plan_changed"


def _move(dice: Dice, subscription: Subscription) -> str:
    """To the other deployment, often to a higher plan at once."""
    deployment = "self_managed" if subscription.deployment == "gitlab_com" else "gitlab_com"
    subscription.change_plan(deployment, min(subscription.rank + dice.below(2), len(PRICES) - 1))
    return "plan_changed"


def _reprice(dice: Dice, subscription: Subscription) -> str:
    """A higher list price, or another discount."""
    if dice.chance(0.5):
        subscription.unit += subscription.unit * dice.between(3, 20) // 100
    else:
        subscription.discount = dice.pick((0, 5, 10, 15, 20, 25))
    return "price_changed"


CHANGES: Final[dict[str, Callable[[Dice, Subscription], str]]] = {
    "grow": _grow,
    "shrink": _shrink,
    "upgrade": _upgrade,
    "downgrade": _downgrade,
    "move": _move,
    "price": _reprice,
}
"""Each changes a subscription and returns the type of the event that tells it, '' where it cannot be."""
