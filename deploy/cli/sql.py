"""`pingstream sql`."""

from __future__ import annotations

import click

from deploy.cli.errors import WrongUse
from deploy.cli.options import with_settings
from deploy.cli.question import ask, asking
from deploy.cli.tables import FORMATS, Format, write
from deploy.clickhouse.statement import read_statement
from schemas.settings import Settings


@click.command(short_help="Any query, also while an embedded worker runs.")
@click.argument("statement")
@click.option(
    "--format", "output_format", type=click.Choice(FORMATS), default="table", show_default=True, help="How rows come."
)
@with_settings
def command(settings: Settings, statement: str, output_format: Format) -> None:
    """Run one STATEMENT in ClickHouse and print what it answers; - reads it from standard input.

    Works on the embedded engine too, also while a worker or `pingstream clickhouse` holds it. Tables of the database
    pingstream (or --database) need no prefix. json is a list of objects: dates and decimals as strings, integers as
    numbers, NULL as null. A FORMAT clause of the statement's own wins over --format.

    \b
    Examples:
      pingstream sql "select * from kpi_mau order by as_of desc limit 10"
      pingstream sql "select table, total_rows from system.tables where database = 'pingstream'" --format csv
      pingstream sql - --format json < question.sql
    """
    text = _from_standard_input() if statement == "-" else statement
    read = read_statement(text.encode(errors="surrogateescape"))
    if not read.text:
        raise WrongUse('there is no statement; try pingstream sql "select 1"')
    if read.several:
        raise WrongUse("that is more than one statement; give them one by one")
    with asking(settings) as client:
        if read.answers and read.output_format is None:
            write(ask(client, read.text.decode(errors="surrogateescape")), output_format)
        else:
            stdout = click.get_binary_stream("stdout")
            stdout.write(client.raw_query(text))
            stdout.flush()


def _from_standard_input() -> str:
    try:
        return click.get_binary_stream("stdin").read().decode()
    except UnicodeDecodeError as exc:
        raise WrongUse(f"standard input is not UTF-8 text: {exc}") from None
