"""`pingstream schema` as a shell sees it."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from deploy.cli.main import cli
from schemas import ping


def test_the_schema_goes_to_standard_output_and_nothing_else_does() -> None:
    done = CliRunner().invoke(cli, ["schema", "usage-pings"])
    assert (done.exit_code, done.stderr) == (0, "")
    assert json.loads(done.stdout) == ping.json_schema()
    assert done.stdout.startswith('{\n  "$schema"') and done.stdout.endswith("}\n")


@pytest.mark.parametrize("args", [[], ["usage-ping"], ["usage-pings", "more"]])
def test_a_schema_that_is_not_there_is_wrong_use(args: list[str]) -> None:
    done = CliRunner().invoke(cli, ["schema", *args])
    assert done.exit_code == 2
    assert done.stdout == "" and "usage" in done.stderr.lower()


def test_the_help_has_an_example_and_the_list_of_commands_has_the_command() -> None:
    assert "pingstream schema usage-pings" in CliRunner().invoke(cli, ["schema", "--help"]).stdout
    assert "  schema " in CliRunner().invoke(cli, ["--help"]).stdout
