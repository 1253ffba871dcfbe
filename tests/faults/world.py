"""What is sent: a fleet's pings and its accounts' billing events, with everything that can be wrong with them."""

from __future__ import annotations

import dataclasses
import datetime as dt

from deploy.fleet import Fleet, FleetSpec
from deploy.message import Message

LAST_DAY = dt.date(2026, 3, 20)
"""UTC day of the newest messages; figures stand for it."""


def world(seed: int, size: int = 1, days: int = 40, **changes: float) -> list[Message]:
    """Both topics' messages in the order of delivery: some 500 pings and 130 billing events for each `size`, 1.2 MB.

    Args:
        changes: of the fleet's shares (see `deploy.fleet.spec`).
    """
    spec = FleetSpec(
        last_day=LAST_DAY, days=days, seed=seed, installations=8 * size, groups=4, users=5, leaves=20,
        accounts=10 * size, billing_days=420, duplicates=0.06, reordered=0.2, reorder_days=5, late=0.03, future=0.03,
        broken=0.05, wrong_keys=0.1, conflicts=0.05, late_billing=0.2,
    )  # fmt: skip
    return list(Fleet(dataclasses.replace(spec, **changes)).messages())  # type: ignore[arg-type]
