"""`pingstream migrate`."""

from __future__ import annotations

import click
from clickhouse_connect.driver.exceptions import ClickHouseError

from deploy.cli.errors import Failure, WrongUse
from deploy.cli.options import with_settings
from schemas.settings import Settings
from sinks.clickhouse.connection import ConnectionFailed, EngineInUse, connect
from sinks.clickhouse.schema import SchemaError, current, migrate


@click.command(short_help="Bring ClickHouse to the current schema.")
@with_settings
def command(settings: Settings) -> None:
    """Bring ClickHouse to the current schema, forwards only. Does no harm when it is there already.

    \b
    Examples:
      pingstream migrate
      pingstream migrate --clickhouse http://analyst:secret@clickhouse:8123
    """
    try:
        client = connect(settings.clickhouse_dsn, None, wait=5)
    except EngineInUse as exc:
        raise WrongUse(str(exc)) from None
    except ConnectionFailed as exc:
        raise Failure(str(exc)) from None
    try:
        taken = migrate(client, settings.database, replicated=settings.replicated, cluster=settings.clickhouse_cluster)
    except SchemaError as exc:
        raise WrongUse(str(exc)) from None
    except ClickHouseError as exc:
        raise Failure(f"ClickHouse refused a step of the schema: {exc}") from None
    finally:
        client.close()
    for step in taken:
        click.echo(f"{step.number:04d} {step.name}")
    click.echo(f"schema {current()} in database {settings.database}" + ("" if taken else ", nothing to do"))
