"""`pingstream dlq`: dead letters, read from their topics."""

from __future__ import annotations

import asyncio
import datetime as dt
import re
from collections.abc import Collection
from typing import Any, Final

import click
import msgspec

from deploy.cli.errors import Failure, WrongUse
from deploy.cli.options import with_settings
from deploy.cli.progress import progress_bar
from deploy.cli.question import Answer
from deploy.cli.tables import FORMATS, Format, write
from deploy.letters import Letter, Note, Place, opened
from deploy.replaying import Choice, Plan, carry_out, plan
from schemas.crowd import is_crowded
from schemas.dead_letters import Reason, Replay
from schemas.settings import Settings
from sinks.topics import SOURCES, dead_letter_topic

COLUMNS: Final = {
    "topic": "String",
    "partition": "UInt32",
    "offset": "UInt64",
    "reason": "String",
    "received_at": "DateTime64(3, 'UTC')",
    "bytes": "UInt64",
    "attempt": "UInt32",
    "replayed_to": "String",
    "error": "String",
}
"""Of `dlq list`, with ClickHouse's types: what is shared with the table `dead_letter` is named as there. `replayed_to`:
partition/offset in the source topic."""


class Moment(click.ParamType):
    """An ISO instant with an offset, or a UTC day; milliseconds since 1970. `end`: a day means its end."""

    name = "moment"

    def __init__(self, *, end: bool) -> None:
        self._end = end

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        try:
            moment = dt.datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is neither a day, as in 2026-11-20, nor an instant, as in 2026-11-20T08:15:00Z")
        if re.fullmatch(r"[\d-]+", value):
            moment = moment.replace(tzinfo=dt.UTC) + dt.timedelta(days=1 if self._end else 0)
        elif moment.tzinfo is None:
            self.fail(f"{value!r} has no offset: write 2026-11-20T08:15:00Z or 2026-11-20T09:15:00+01:00")
        return round(moment.timestamp() * 1000)


@click.group("dlq", short_help="Dead letters: list them, show one, put them back.")
def command() -> None:
    """Dead letters: messages that could not be taken, or from which entries were taken out.

    They stand in the topics usage-pings.dlq and billing-events.dlq with their original bytes (personal fields nulled) and
    the reason in headers. A letter is named by the place of its message: source topic, partition and offset.

    \b
    Examples:
      pingstream dlq list --reason invalid
      pingstream dlq show usage-pings 2 1205
      pingstream dlq replay --reason too_large --dry-run
    """


@command.command("list", short_help="List dead letters, the newest last.")
@click.option("--topic", type=click.Choice(SOURCES), default=None, help="Only letters about messages of this topic.")
@click.option("--reason", type=click.Choice([str(reason) for reason in Reason]), default=None, help="Only this reason.")
@click.option("--limit", type=click.IntRange(1), default=None, help="At most so many, the newest.")
@click.option(
    "--format", "output_format", type=click.Choice(FORMATS), default="table", show_default=True, help="How rows come."
)
@with_settings
def list_letters(
    settings: Settings, topic: str | None, reason: str | None, limit: int | None, output_format: Format
) -> None:
    """List dead letters in the order in which their messages were received, without the messages themselves.

    \b
    Examples:
      pingstream dlq list
      pingstream dlq list --topic usage-pings --reason late --limit 20
      pingstream dlq list --format json
    """
    rows = asyncio.run(_rows(settings, (topic,) if topic else SOURCES, reason))
    ordered = sorted(rows.items(), key=lambda item: (item[1][1], item[0]))
    shown = ordered[-limit:] if limit is not None else ordered
    write(Answer(list(COLUMNS), list(COLUMNS.values()), [[*place, *row] for place, row in shown]), output_format)
    if len(shown) < len(ordered):
        _say(f"the newest {len(shown):,} of {len(ordered):,} letters")
    elif not ordered:
        _say(f"no letters{' of that kind' if topic or reason else ''} on {settings.kafka}")


@command.command("show", short_help="Show one dead letter with its message.")
@click.argument("topic", type=click.Choice(SOURCES))
@click.argument("partition", type=click.IntRange(0))
@click.argument("offset", type=click.IntRange(0))
@click.option("--raw", is_flag=True, help="Only the message, byte for byte.")
@with_settings
def show_letter(settings: Settings, topic: str, partition: int, offset: int, raw: bool) -> None:
    """Show the letter about the message at OFFSET of PARTITION of TOPIC: its headers, its key, and the message.

    A message that is JSON is indented; of anything else, what is not printable is escaped.

    \b
    Examples:
      pingstream dlq show usage-pings 2 1205
      pingstream dlq show usage-pings 2 1205 --raw > message.json
    """
    place = Place(topic, partition, offset)
    letter, sent = asyncio.run(_find(settings, place))
    if letter is None:
        raise WrongUse(
            f"{dead_letter_topic(topic)} on {settings.kafka} holds no letter about partition {partition}, offset {offset} "
            f"of {topic}; `pingstream dlq list` shows what is there"
        )
    value = letter.record.value
    if raw:
        out = click.get_binary_stream("stdout")
        out.write(value or b"")
        out.flush()
        return
    for name, content in letter.record.headers:
        click.echo(f"{_visible(name)}: {_visible(content.decode(errors='backslashreplace'))}")
    if sent is not None:
        click.echo(f"put back: partition {sent.partition}, offset {sent.offset} of {topic}")
    key = letter.record.key
    click.echo("key: " + ("(none)" if key is None else _visible(key.decode(errors="backslashreplace"))))
    click.echo(f"message: {'(none)' if value is None else f'{len(value):,} bytes'}\n")
    if value:
        click.echo(_readable(value))


@command.command("replay", short_help="Put dead letters back into their topics.")
@click.option("--topic", type=click.Choice(SOURCES), default=None, help="Only letters about messages of this topic.")
@click.option(
    "--reason",
    "reasons",
    type=click.Choice([str(reason) for reason in Reason]),
    multiple=True,
    help="Only this reason; may be given more than once.",
)
@click.option(
    "--since",
    type=Moment(end=False),
    metavar="WHEN",
    help="Only messages received at or after: an instant or a UTC day.",
)
@click.option(
    "--until",
    type=Moment(end=True),
    metavar="WHEN",
    help="Only messages received before an instant, or up to a UTC day's end.",
)
@click.option("--partition", type=click.IntRange(0), default=None, help="With --topic: only of this partition.")
@click.option("--offset", type=click.IntRange(0), default=None, help="With --partition: only this letter.")
@click.option(
    "--limit-attempts",
    type=click.IntRange(1),
    default=3,
    show_default=True,
    help="Letters that were put back so often already are refused.",
)
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@with_settings
def replay_letters(
    settings: Settings,
    topic: str | None,
    reasons: tuple[str, ...],
    since: int | None,
    until: int | None,
    partition: int | None,
    offset: int | None,
    limit_attempts: int,
    dry_run: bool,
) -> None:
    """Put dead letters back into their source topics, behind everything that is there: all of them, or those that are chosen.

    A message goes back with its key and the bytes of its letter, and is received now: what of it is late or future is judged
    anew, so what was late stays late. Its header pingstream-attempt is one higher. If it dies again there is a new letter
    with that attempt, until --limit-attempts.

    Each letter is put back once: notes beside the letters tell which were, also after a replay that was interrupted. Let one
    replay end before the next. History that is still to be loaded must be loaded before: behind a message received now, what
    is more than 36 days older is late.

    Exit code 1 if a letter was refused, because of its attempts or by the broker.

    \b
    Examples:
      pingstream dlq replay --dry-run
      pingstream dlq replay --reason too_large
      pingstream dlq replay --topic billing-events --reason unknown_type --since 2026-11-01 --until 2026-11-20
      pingstream dlq replay --topic usage-pings --partition 2 --offset 1205
    """
    if partition is not None and topic is None:
        raise WrongUse("--partition needs --topic: partitions are numbered in each topic")
    if offset is not None and partition is None:
        raise WrongUse("--offset needs --partition: offsets are counted in each partition")
    choice = Choice((topic,) if topic else SOURCES, reasons, since, until, partition, offset)
    asyncio.run(_replay(settings, choice, limit_attempts, dry_run))


async def _rows(settings: Settings, topics: Collection[str], reason: str | None) -> dict[Place, list[Any]]:
    """Columns after the place of every letter, the newest copy of each: a crash may have written one twice."""
    rows: dict[Place, list[Any]] = {}
    replayed: dict[Place, str] = {}
    async with opened(settings, _say) as mail:
        async for found in mail.read(topics):
            if isinstance(found, Note):
                if found.stage is Replay.SENT:
                    replayed[found.place] = f"{found.partition}/{found.offset}"
                continue
            received = dt.datetime.fromtimestamp(found.timestamp / 1000, dt.UTC)
            text = received.strftime("%Y-%m-%d %H:%M:%S.") + f"{found.timestamp % 1000:03d}"
            size = len(found.record.value or b"")
            rows[found.place] = [found.reason, text, size, found.attempt, found.error]
    return {
        place: [*row[:-1], replayed.get(place, ""), row[-1]]
        for place, row in rows.items()
        if reason is None or row[0] == reason
    }


async def _find(settings: Settings, place: Place) -> tuple[Letter | None, Note | None]:
    """The letter about the message there, and where it was put back, if it was."""
    letter = sent = None
    async with opened(settings, _say) as mail:
        async for found in mail.read((place.topic,)):
            if found.place != place:
                continue
            if isinstance(found, Letter):
                letter = found
            elif found.stage is Replay.SENT:
                sent = found
    return letter, sent


async def _replay(settings: Settings, choice: Choice, limit: int, dry_run: bool) -> None:
    too_large: list[Place] = []
    async with opened(settings, _say) as mail:
        found = await plan(mail, choice, limit)
        if found.done:
            _say(f"{_letters(len(found.done))} put back before: not again")
        if dry_run:
            click.echo(f"{_would(found)}; nothing was done")
        else:
            with progress_bar("letters", len(found.letters)) as advance:
                done = await carry_out(settings, mail, found, advance)
            if done.found:
                _say(f"{_letters(done.found)} put back already by a replay that was interrupted")
            each = " and ".join(f"{number:,} into {topic}" for topic, number in sorted(done.sent.items()))
            click.echo(f"put back {each or 'no letters'}")
            too_large = done.too_large
    complaints = []
    if too_large:
        first = too_large[0]
        complaints.append(
            f"{_letters(len(too_large))} refused by the broker as too large, the first about partition {first.partition}, "
            f"offset {first.offset} of {first.topic}: raise the topic's max.message.bytes"
        )
    if found.refused:
        complaints.append(
            f"{_letters(len(found.refused))} refused: put back {limit:,} times already, and dead again each time; mend the "
            "cause, then raise --limit-attempts"
        )
    if complaints:
        raise Failure("\n".join(complaints))


def _would(found: Plan) -> str:
    topics: dict[str, list[str]] = {}
    for (topic, reason), number in sorted(found.counts().items()):
        topics.setdefault(topic, []).append(f"{number:,} {reason}")
    if not topics:
        return "would put back no letters"
    each = " and ".join(f"{', '.join(reasons)} into {topic}" for topic, reasons in topics.items())
    return f"would put back {each} ({found.size:,} bytes)"


def _letters(number: int) -> str:
    return "1 letter was" if number == 1 else f"{number:,} letters were"


def _readable(value: bytes) -> str:
    """A message for the terminal: JSON indented, its numbers and strings as they were written."""
    try:
        if is_crowded(value):  # indented it may be a hundred times as long
            raise ValueError
        msgspec.json.decode(value)  # `format` below takes more than JSON
        text = msgspec.json.format(value, indent=2).decode()
    except (msgspec.MsgspecError, ValueError, RecursionError):
        text = value.decode(errors="backslashreplace")
    return "\n".join(_visible(line) for line in text.split("\n"))


def _visible(text: str) -> str:
    """Whatever would steer the terminal, written out."""
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)


def _say(sentence: str) -> None:
    click.echo(f"pingstream: {sentence}", err=True)
