"""`pingstream emit`: a realistic synthetic fleet into the topics, or into a file."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import time
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

import click

from deploy.cli.errors import WrongUse
from deploy.cli.options import with_settings
from deploy.cli.progress import progress_bar
from deploy.fleet import Fleet, FleetSpec
from deploy.fleet.spec import usual_accounts
from deploy.message import Message
from deploy.producing import produce
from schemas.settings import Settings

SHARE = click.FloatRange(0, 1)


@click.command("emit")
@click.option(
    "--seed", default=1, show_default=True, help="Another seed, another fleet; the same seed, the same bytes."
)
@click.option(
    "--installations", type=click.IntRange(0), default=50, show_default=True, help="Self-managed installations."
)
@click.option("--groups", type=click.IntRange(0), default=0, show_default=True, help="Top-level groups of GitLab.com.")
@click.option(
    "--users", type=click.IntRange(1), default=40, show_default=True, help="People of the median installation."
)
@click.option(
    "--leaves",
    type=click.IntRange(0),
    default=100,
    show_default=True,
    help="Further numbers in a ping; today's have 4,800.",
)
@click.option("--days", type=click.IntRange(1), default=60, show_default=True, help="Days that pings are sent on.")
@click.option(
    "--accounts",
    type=click.IntRange(0),
    default=None,
    help="Customers, who own most licensed installations and groups, and their billing events; 0 for pings alone.  "
    "[default: two for three installations and groups]",
)
@click.option(
    "--billing-days", type=click.IntRange(1), default=548, show_default=True, help="Days of the accounts' history."
)
@click.option(
    "--last-day",
    type=click.DateTime(["%Y-%m-%d"]),
    default=None,
    help="UTC day of the newest pings and billing events, YYYY-MM-DD; pings tell of the days before.  [default: today]",
)
@click.option("--rate", type=click.FloatRange(0), default=0.0, help="Messages a second; 0 sends as fast as possible.")
@click.option("--duplicates", type=SHARE, default=0.01, show_default=True, help="Share of messages sent twice.")
@click.option(
    "--reordered", type=SHARE, default=0.02, show_default=True, help="Share delivered days too early or too late."
)
@click.option(
    "--late", type=SHARE, default=0.002, show_default=True, help="Share of pings with an entry of over 36 days ago."
)
@click.option(
    "--late-billing",
    type=SHARE,
    default=0.03,
    show_default=True,
    help="Share of billing events delivered up to 120 days late.",
)
@click.option(
    "--future",
    type=SHARE,
    default=0.002,
    show_default=True,
    help="Share with an entry, or another event, of days ahead.",
)
@click.option(
    "--broken", type=SHARE, default=0.002, show_default=True, help="Share of unreadable messages, sent besides."
)
@click.option("--wrong-keys", type=SHARE, default=0.005, show_default=True, help="Share with no key or another's.")
@click.option(
    "--conflicts",
    type=SHARE,
    default=0.002,
    show_default=True,
    help="Share of billing events whose id comes again with another content.",
)
@click.option(
    "--received",
    type=click.Choice(["recorded", "now"]),
    default="recorded",
    show_default=True,
    help="Record timestamps: when the ping was recorded and the event occurred, or the present (what a ping tells of over "
    "36 days ago is then late).",
)
@click.option(
    "--out",
    type=click.File("wb", lazy=False),
    default=None,
    help="Write the payloads as JSON lines to a file (- for standard output) instead of sending them.",
)
@with_settings
def command(settings: Settings, **options: Any) -> None:
    """Send the pings and the billing events of a realistic synthetic fleet.

    People come and go, rest on weekends and leave; installations start later or fall silent; accounts that own them buy,
    grow, renew, change plans and cancel. A small share of the messages is late, broken, sent twice or out of order. Both
    topics are filled in the order of delivery. Topics that are missing are made.

    \b
    Examples:
      pingstream emit
      pingstream emit --seed 7 --installations 500 --days 90 --rate 200
      pingstream emit --last-day 2026-11-20 --duplicates 0 --broken 0 --out pings.jsonl
      pingstream emit --installations 2 --accounts 0 --days 3 --out - | head -1
      pingstream emit --installations 0 --accounts 1000 --billing-days 365 --last-day 2026-11-20
    """
    received, rate, out = options.pop("received"), options.pop("rate"), options.pop("out")
    last_day = options.pop("last_day")
    if options["accounts"] is None:
        options["accounts"] = usual_accounts(options["installations"], options["groups"])
    try:
        spec = FleetSpec(
            last_day=last_day.date() if last_day else dt.datetime.now(dt.UTC).date(),
            reporting_currency=settings.reporting_currency,
            **options,
        )
    except ValueError as exc:
        raise WrongUse(str(exc)) from None
    fleet = Fleet(spec)
    messages = fleet.messages()
    if received == "now":
        messages = (message._replace(timestamp_ms=time.time_ns() // 1_000_000) for message in messages)

    with progress_bar("messages", fleet.expected_messages()) as sent:
        if out is not None:
            done = _write(messages, out, sent)
        else:
            totals = asyncio.run(produce(settings, messages, rate=rate, sent=sent, say=_say))
            done = ", ".join(f"{number:,} messages to {topic}" for topic, number in totals.items()) or "no messages"
            done = f"sent {done} on {settings.kafka}"
    _say(
        f"{done}: {spec.installations} installations, {spec.groups} groups, {spec.accounts} accounts, pings of "
        f"{spec.first_day} and billing of {spec.first_billing_day} to {spec.last_day}, seed {spec.seed}"
    )


def _write(messages: Iterator[Message], out: BinaryIO, sent: Callable[[int], None]) -> str:
    """One payload a line. Returns what to say about it."""
    written = skipped = 0
    for message in messages:
        if _is_json_line(message.value):
            out.write(message.value + b"\n")
            written += 1
        else:
            skipped += 1
        sent(1)
    out.flush()
    left_out = f" ({skipped:,} broken ones cannot be a line of JSON and were left out)" if skipped else ""
    return f"wrote {written:,} payloads{left_out}"


def _is_json_line(value: bytes) -> bool:
    try:
        json.loads(value.decode(), parse_constant=_refuse)
    except ValueError:
        return False
    return b"\n" not in value and b"\r" not in value


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _say(sentence: str) -> None:
    click.echo(f"pingstream: {sentence}", err=True)
