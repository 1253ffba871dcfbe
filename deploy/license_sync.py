"""GitLab's licence sync as a billing event.

Each day a self-managed installation tells the Customers Portal how many users need a seat (`Gitlab::SeatLinkData` in
GitLab's source). A sync names its licence by the key itself, which is a secret, and neither account nor subscription.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Final

from deploy.payloads import Payload
from schemas.billing import read_billing_event
from schemas.billing_digest import decode
from schemas.dead_letters import Unreadable

_COUNTS: Final = {"billable_users": "billable_users_count", "max_users": "max_historical_user_count"}
"""Fields of `seat_sync`, and where a sync has them."""

_IDENTITY: Final = ("unique_instance_id", "instance_id", "hostname", "timestamp")

_PATHS: Final = {
    "$.occurred_at": "$.timestamp",
    "$.seat_sync.subscription_id": "$.subscription_id",
    **{f"$.seat_sync.{field}": f"$.{name}" for field, name in _COUNTS.items()},
}
"""Paths in the event, and in the sync that it was made from."""


class NoLicenseSync(Exception):
    """A document is no licence sync, or none that an event can be made of. The text says why, with the JSON path."""


def is_nobodys(payload: Payload) -> bool:
    """Whether a document names no account itself."""
    return not (isinstance(payload.document, dict) and payload.document.get("account_id"))


def seats_synced(payload: Payload, account: str, subscription: str) -> Payload:
    """A licence sync as an event `seats_synced`.

    Only the counts, the time and the owner are in it, least of all `license_key`. The event's id is made from instance, host
    name, time and subscription, so a sync that is sent twice is a duplicate.

    Args:
        payload: the sync. Somebody may have added `account_id` and `subscription_id` to it.
        account: `account_id` of syncs that have none; without one the installation stands for it, by its `instance_id`.
        subscription: `subscription_id`, likewise; without one the event speaks for no subscription.

    Raises:
        NoLicenseSync: it is none, names neither an account nor itself, or holds what makes no event.
    """
    try:
        sync = decode(payload.raw)  # with numbers as they are written, which `payload.document` has not
    except RecursionError:
        sync = None
    if not isinstance(sync, dict) or not any(name in sync for name in _COUNTS.values()):
        raise NoLicenseSync(f"no licence sync: it has neither {' nor '.join(f'`{name}`' for name in _COUNTS.values())}")
    account_id = sync.get("account_id") or account or sync.get("instance_id") or sync.get("hostname")
    subscription_id = sync.get("subscription_id") or subscription
    if not account_id:
        raise NoLicenseSync("it does not say whose it is: give --account, or add `account_id` to it")
    identity = json.dumps([subscription_id, *map(sync.get, _IDENTITY)], default=str)
    event = {
        "event_id": f"license-sync-{hashlib.sha256(identity.encode()).hexdigest()[:32]}",
        "type": "seats_synced",
        "occurred_at": sync.get("timestamp"),
        "account_id": account_id,
        "channel": "automatic",
        "seat_sync": {"subscription_id": subscription_id or None}
        | {field: sync.get(name) for field, name in _COUNTS.items()},
    }
    raw = json.dumps(event, default=str).encode()
    try:
        read_billing_event(raw, "USD", len(raw))  # any currency: there is no money in it
    except Unreadable as exc:
        path_of_sync = re.sub(r"`(.+?)`", lambda path: f"`{_PATHS.get(path[1], path[1])}`", exc.sentence)
        raise NoLicenseSync(path_of_sync) from None
    return Payload(raw, event)
