"""`pingstream send`: real payloads from files into the topics, byte for byte."""

from __future__ import annotations

import asyncio
import time
from typing import BinaryIO

import click

from deploy.cli.errors import WrongUse
from deploy.cli.options import with_settings
from deploy.license_sync import NoLicenseSync, is_nobodys, seats_synced
from deploy.message import Message
from deploy.payloads import NotJson, Payload, misplaced, payloads, to_message
from deploy.producing import produce
from schemas.settings import Settings
from sinks.topics import BILLING_EVENTS, SOURCES

_NOBODYS = "no account is named, so the installation stands for one, in every number of accounts: --account names it"


@click.command("send")
@click.argument("files", nargs=-1, required=True, type=click.File("rb"), metavar="FILE…")
@click.option(
    "--topic", type=click.Choice(SOURCES), default=None, help="Where everything goes, whatever it looks like."
)
@click.option(
    "--as",
    "kind",
    type=click.Choice(["license-sync"]),
    default=None,
    help="The files hold GitLab's licence syncs: each becomes a billing event seats_synced.",
)
@click.option("--account", default="", metavar="ID", help="With --as license-sync: whose installation it is.")
@click.option("--subscription", default="", metavar="ID", help="With --as license-sync: whose seats are in use.")
@click.option(
    "--received",
    type=click.Choice(["recorded", "now"]),
    default="recorded",
    show_default=True,
    help="Record timestamps: recorded_at or occurred_at, or the present.",
)
@with_settings
def command(
    settings: Settings,
    files: tuple[BinaryIO, ...],
    topic: str | None,
    kind: str | None,
    account: str,
    subscription: str,
    received: str,
) -> None:
    """Send usage pings and billing events from files: one JSON document, a list of them, or JSON lines.

    What each is, is told by its content: an object with `event_id`, or with `type` and `account_id`, is a billing event,
    anything else a ping. Payloads are sent as they are, byte for byte. What cannot be JSON at all is refused: then
    nothing of any file is sent. FILE may be - for standard input.

    A licence sync is what a self-managed installation tells the Customers Portal each day. It holds neither account nor
    subscription: give both here, or add them to it as `account_id` and `subscription_id`. Without an account the installation
    stands for it, without a subscription no subscription shows the users. The licence key is left out.

    \b
    Examples:
      pingstream send payload.json
      pingstream send pings-2026-10.jsonl pings-2026-11.jsonl
      gzip -dc history.jsonl.gz | pingstream send -
      pingstream send --received now payload.json
      pingstream send --as license-sync --account A-1 --subscription A-S1 sync.json
    """
    if kind is None and (account or subscription):
        raise WrongUse("--account and --subscription are for --as license-sync; other payloads say it themselves")
    if kind is not None and topic is not None:
        raise WrongUse("--as license-sync makes billing events: --topic has no place beside it")
    now_ms = time.time_ns() // 1_000_000
    read: list[tuple[str, list[Message]]] = []
    refused: list[str] = []
    for file in files:
        try:
            found = payloads(file.read())
        except NotJson as exc:
            refused.append(f"{file.name}: {exc}")
            continue
        notes = []
        if kind is not None:
            if not account:
                notes = [_NOBODYS for payload in found if is_nobodys(payload)]
            found, complaints = _as_events(found, account, subscription)
            refused += [f"{file.name}: {complaint}" for complaint in complaints]
        elif topic is None:
            notes = [note for note in map(misplaced, found) if note]
        for note in dict.fromkeys(notes):
            click.echo(f"pingstream: {file.name}: {note} ({notes.count(note):,} of {len(found):,})", err=True)
        target = BILLING_EVENTS if kind is not None else topic
        messages = [to_message(payload, now_ms, topic=target, received_now=received == "now") for payload in found]
        too_large = next(
            (i for i, message in enumerate(messages) if len(message.value) > settings.max_message_bytes), None
        )
        if too_large is not None:
            refused.append(
                f"{file.name}: document {too_large + 1} has {len(messages[too_large].value):,} bytes, more than a topic "
                f"takes; raise PINGSTREAM_MAX_MESSAGE_BYTES (now {settings.max_message_bytes:,})"
            )
        read.append((file.name, messages))
    if refused:
        raise WrongUse("\n".join([*refused, "nothing was sent"]))

    asyncio.run(
        produce(
            settings,
            [message for _, messages in read for message in messages],
            say=lambda sentence: click.echo(f"pingstream: {sentence}", err=True),
        )
    )
    for name, messages in read:
        numbers = {target: sum(message.topic == target for message in messages) for target in SOURCES}
        done = ", ".join(f"{number:,} sent to {target}" for target, number in numbers.items() if number)
        click.echo(f"{name}: {done or 'an empty list, nothing to send'}")


def _as_events(found: list[Payload], account: str, subscription: str) -> tuple[list[Payload], list[str]]:
    """Licence syncs as events, and what is wrong with those that make none."""
    events: list[Payload] = []
    complaints: list[str] = []
    for number, payload in enumerate(found, 1):
        try:
            events.append(seats_synced(payload, account, subscription))
        except NoLicenseSync as exc:
            complaints.append(f"document {number}: {exc}")
    return events, complaints
