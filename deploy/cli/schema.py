"""`pingstream schema`."""

from __future__ import annotations

import json

import click

from schemas import billing, ping

_SCHEMAS = {"usage-pings": ping.json_schema, "billing-events": billing.json_schema}


@click.command(short_help="The JSON Schema of a message.")
@click.argument("name", type=click.Choice(list(_SCHEMAS)))
def command(name: str) -> None:
    """Print the JSON Schema (draft 2020-12) of the messages of topic NAME.

    It is made from the models that read the messages. Of a usage ping it holds our extension to the letter and leaves
    GitLab's own fields free, as they are read. Of a billing event it has a model for each kind, told apart by `type`.

    \b
    Examples:
      pingstream schema usage-pings
      pingstream schema usage-pings > usage-pings.schema.json
      pingstream schema billing-events
    """
    click.echo(json.dumps(_SCHEMAS[name](), indent=2, ensure_ascii=False))
