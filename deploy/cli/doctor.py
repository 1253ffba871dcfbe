"""`pingstream doctor`."""

from __future__ import annotations

import asyncio

import click

from deploy.cli.options import with_settings
from deploy.cli.question import Answer
from deploy.cli.tables import FORMATS, Format, write
from deploy.doctor.clickhouse import check_clickhouse
from deploy.doctor.finding import Finding
from deploy.doctor.kafka import check_kafka
from deploy.doctor.machine import check_machine
from schemas.settings import Settings


@click.command(short_help="Look at broker, ClickHouse, topics, clocks and settings; say what to do.")
@click.option(
    "--format",
    "output_format",
    type=click.Choice(FORMATS),
    default="table",
    show_default=True,
    help="How findings come.",
)
@with_settings
def command(settings: Settings, output_format: Format) -> int:
    """Look at everything a worker needs, and say for each problem what to do. Nothing is changed.

    Exit code 1 when there is a problem: something that keeps a worker from starting, or figures from being right. Warnings
    leave it at 0.

    \b
    Examples:
      pingstream doctor
      pingstream doctor --kafka kafka:9092 --clickhouse http://clickhouse:8123
      pingstream doctor --format json
    """
    findings = [*check_machine(settings), *asyncio.run(_kafka(settings)), *check_clickhouse(settings)]
    rows = [list(finding) for finding in findings]
    write(Answer(list(Finding._fields), ["String"] * len(Finding._fields), rows), output_format)
    problems, warnings = (sum(one.state == state for one in findings) for state in ("problem", "warning"))
    click.echo(
        f"pingstream: {_number(problems, 'problem')}, {_number(warnings, 'warning')}, {len(findings)} things looked at",
        err=True,
    )
    return 1 if problems else 0


async def _kafka(settings: Settings) -> list[Finding]:
    return [finding async for finding in check_kafka(settings)]


def _number(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count != 1)}"
