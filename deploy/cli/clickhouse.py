"""`pingstream clickhouse`: embedded ClickHouse behind its HTTP protocol, in the foreground."""

from __future__ import annotations

import errno
import signal
import threading

import click

from deploy.cli.errors import Failure, WrongUse
from deploy.cli.options import secret_of_file, with_settings
from deploy.clickhouse.door import Door
from schemas.settings import Settings
from sinks.clickhouse.connection import ConnectionFailed, EngineInUse, open_engine


@click.command(short_help="Embedded ClickHouse behind ClickHouse's HTTP protocol, in the foreground.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8123,
    show_default=True,
    help="Port on 127.0.0.1; 0 takes a free one.",
)
@click.option("--password", default=None, metavar="VALUE|@FILE", help="Password of the user default [default: none]")
@with_settings
def command(settings: Settings, port: int, password: str | None) -> None:
    """Embedded ClickHouse on this machine, behind ClickHouse's own HTTP protocol, until Ctrl-C.

    For several workers, for Grafana, and for any ClickHouse client, without a server. Its data is in the folder
    `clickhouse` of the data dir: the same that a single worker uses by itself.

    \b
    Examples:
      pingstream clickhouse
      pingstream clickhouse --port 8124 --data-dir /tmp/try
      curl http://127.0.0.1:8123 --data-binary "select version()"
    """
    if password is not None and password.startswith("@"):
        password = secret_of_file("--password", password.removeprefix("@"))
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda *_: ended.set())
    path = settings.embedded_path or settings.data_dir.absolute() / "clickhouse"
    try:
        with open_engine(path) as engine, Door(engine.path, port=port, password=password or None) as door:
            engine.publish_door(door.address, password or "")
            click.echo(f"pingstream: ClickHouse is ready on {door.address}, data in {path}; Ctrl-C ends it", err=True)
            shown = door.address.replace("://", "://default:<password>@") if password else door.address
            click.echo(f"\n  export PINGSTREAM_CLICKHOUSE={shown}\n", err=True)
            ended.wait()
    except EngineInUse as exc:
        raise WrongUse(str(exc)) from None
    except ConnectionFailed as exc:
        raise Failure(str(exc)) from None
    except OSError as exc:
        if exc.errno == errno.EADDRINUSE:
            raise WrongUse(f"port {port} on 127.0.0.1 is taken; choose another with --port") from None
        raise Failure(f"ClickHouse cannot start at {path}: {exc}") from None
    click.echo("pingstream: ClickHouse has ended", err=True)
