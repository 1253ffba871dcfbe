"""`pingstream kpi`."""

from __future__ import annotations

import difflib

import click
from clickhouse_connect.driver.client import Client

from deploy.cli.errors import WrongUse
from deploy.cli.options import with_settings
from deploy.cli.question import Answer, ask, asking
from deploy.cli.tables import FORMATS, Format, write
from schemas.settings import Settings

_PREFIX = "kpi_"


@click.command(short_help="A KPI view in the terminal.")
@click.argument("name", required=False)
@click.option("--where", default=None, metavar="SQL", help="Condition on the view's columns.")
@click.option("--limit", type=click.IntRange(1), default=None, help="At most so many rows.")
@click.option(
    "--format", "output_format", type=click.Choice(FORMATS), default="table", show_default=True, help="How rows come."
)
@with_settings
def command(settings: Settings, name: str | None, where: str | None, limit: int | None, output_format: Format) -> None:
    """Print the KPI view NAME (kpi_mau, or mau for short) for one day; without NAME, list the views.

    The day is --as-of; without it the newest day that has rows, which is said on standard error.

    \b
    Examples:
      pingstream kpi
      pingstream kpi mau
      pingstream kpi smau --as-of 2026-11-20 --where "stage = 'create'"
      pingstream kpi feature_mau --limit 20 --format csv
    """
    with asking(settings) as client:
        views = _views(client, settings.database)
        if name is None:
            write(views, output_format)
            return
        view = _chosen(name, [str(row[0]) for row in views.rows])
        columns = [str(row[0]) for row in _columns(client, settings.database, view).rows]
        conditions = [f"({where}\n)"] if where else []
        if "as_of" in columns:
            day = settings.as_of.isoformat() if settings.as_of else _newest(client, view, conditions)
            if day is None:
                click.echo(f"pingstream: {view} has no rows{' there' if where else ' yet'}", err=True)
            else:
                conditions.append(f"as_of = toDate('{day}')")
                if settings.as_of is None:
                    click.echo(f"pingstream: as_of {day}, the newest day with rows; --as-of shows another", err=True)
        query = f"SELECT * FROM {view}"
        if conditions:
            query += f" WHERE {' AND '.join(conditions)}"
        query += f" ORDER BY {', '.join(f'`{column}`' for column in columns)}"
        if limit is not None:
            query += f" LIMIT {limit}"
        answer = ask(client, query)
        write(answer, output_format)
        if not answer.rows and settings.as_of is not None:
            click.echo(f"pingstream: {view} has no rows for as_of {settings.as_of}", err=True)


def _views(client: Client, database: str) -> Answer:
    views = ask(
        client,
        f"SELECT name, comment FROM system.tables WHERE database = '{database}' AND startsWith(name, '{_PREFIX}') "
        "ORDER BY name",
    )
    if not views.rows:
        raise WrongUse(
            f"the database {database} has no KPI views yet: `pingstream migrate` makes them, `pingstream demo` fills them "
            "(its data are in --data-dir pingstream-data/demo)"
        )
    return views


def _columns(client: Client, database: str, view: str) -> Answer:
    return ask(
        client, f"SELECT name FROM system.columns WHERE database = '{database}' AND table = '{view}' ORDER BY position"
    )


def _chosen(name: str, views: list[str]) -> str:
    wanted = name.lower().removeprefix(_PREFIX)
    if _PREFIX + wanted in views:
        return _PREFIX + wanted
    known = [view.removeprefix(_PREFIX) for view in views]
    near = difflib.get_close_matches(wanted, known, n=3, cutoff=0.5) or [view for view in known if wanted in view][:3]
    hint = f"did you mean {' or '.join(_PREFIX + view for view in near)}?" if near else "`pingstream kpi` lists them"
    raise WrongUse(f"there is no KPI view {name!r}; {hint}")


def _newest(client: Client, view: str, conditions: list[str]) -> str | None:
    where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
    day = ask(client, f"SELECT maxOrNull(as_of) FROM {view}{where}").rows[0][0]
    return None if day is None else str(day)
