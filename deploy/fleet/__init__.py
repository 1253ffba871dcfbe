"""A model fleet: installations and groups whose people come, work, rest and leave, and the pings they send; accounts that
own them, and the billing events of what they buy.

Pure and seeded: no clock, no I/O, and the same specification gives the same bytes everywhere.

    from deploy.fleet import Fleet, FleetSpec

    for message in Fleet(FleetSpec(last_day=date(2026, 11, 20), accounts=30)).messages():
        ...
"""

from deploy.fleet.fleet import Fleet
from deploy.fleet.spec import FleetSpec

__all__ = ["Fleet", "FleetSpec"]
