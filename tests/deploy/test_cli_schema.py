"""`pingstream schema` as a shell sees it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from click.testing import CliRunner

from deploy.cli.main import cli
from schemas import billing, ping


@pytest.mark.parametrize(
    ("name", "schema"), [("usage-pings", ping.json_schema()), ("billing-events", billing.json_schema())]
)
def test_the_schema_goes_to_standard_output_and_nothing_else_does(name: str, schema: dict[str, Any]) -> None:
    done = CliRunner().invoke(cli, ["schema", name])
    assert (done.exit_code, done.stderr) == (0, "")
    assert json.loads(done.stdout) == schema
    assert done.stdout.startswith('{\n  "$schema"') and done.stdout.endswith("}\n")


@pytest.mark.parametrize("args", [[], ["usage-ping"], ["billing"], ["usage-pings", "more"]])
def test_a_schema_that_is_not_there_is_wrong_use(args: list[str]) -> None:
    done = CliRunner().invoke(cli, ["schema", *args])
    assert done.exit_code == 2
    assert done.stdout == "" and "usage" in done.stderr.lower()


def test_the_help_has_an_example_and_the_list_of_commands_has_the_command() -> None:
    for name in ("usage-pings", "billing-events"):
        assert f"pingstream schema {name}" in CliRunner().invoke(cli, ["schema", "--help"]).stdout
    assert "  schema " in CliRunner().invoke(cli, ["--help"]).stdout
