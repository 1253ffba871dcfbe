"""`pingstream demo`: everything on this machine, once through, then the KPIs."""

from __future__ import annotations

import datetime as dt
import itertools
import logging
import os
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

import click
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError
from rich.console import Console

from deploy.cli.errors import Failure, WrongUse
from deploy.cli.options import with_settings
from deploy.cli.question import refusal
from deploy.demo.emitter import Emitter
from deploy.demo.figures import is_complete, print_kpis
from deploy.demo.folder import fresh_folder
from deploy.demo.leashed import Leashed, plain_environment
from deploy.demo.progress import Steps, steps
from deploy.demo.watching import Counts, counts, web_address
from deploy.fleet import Fleet, FleetSpec
from deploy.fleet.spec import usual_accounts
from deploy.kafka.broker import BrokerError, LocalBroker
from deploy.kafka.distribution import KAFKA, DistributionError
from deploy.message import Message
from schemas.settings import PREFIX, Settings
from sinks.clickhouse.connection import ConnectionFailed, EngineInUse, connect

PASSED_ON: Final = (
    "kafka", "data_dir", "database", "as_of", "saas_hostnames", "reporting_currency", "flush_seconds", "partitions",
    "replication", "retention", "max_message_bytes", "web_host",
)  # fmt: skip
"""Settings that the demo's worker gets from the demo. Its key it makes itself, in the demo's folder."""

STALL_SECONDS: Final = 90.0
"""Without a message sent or processed for so long the demo gives up."""

GRACE_SECONDS: Final = 5.0
ENGINE_SECONDS: Final = 10.0
PAUSE_SECONDS: Final = 0.1
NOTICE_SECONDS: Final = 1.0
"""The connections of a process that is killed close before it counts as ended."""

LIVE_RATE: Final = 2.0
LIVE_DAYS: Final = 7
LIVE_INSTALLATIONS: Final = 10
LIVE_GROUPS: Final = 3

SHORT: Final = 60
"""Purposes stand below each other behind commands of up to so many characters."""

PIPE_WIDTH: Final = 100
"""Columns of the tables where there is no terminal."""


@click.command(short_help="Everything on this machine: broker, worker, ClickHouse, a fleet that sends; then the KPIs.")
@click.option(
    "--installations",
    type=click.IntRange(1),
    default=50,
    show_default=True,
    help="Self-managed installations that send.",
)
@click.option("--groups", type=click.IntRange(0), default=12, show_default=True, help="Groups of GitLab.com that send.")
@click.option("--days", type=click.IntRange(2), default=60, show_default=True, help="Days that pings are sent on.")
@click.option("--seed", default=1, show_default=True, help="Another seed, another fleet.")
@click.option("--keep", is_flag=True, help="Stay after the KPIs, with more pings all the time, until Ctrl-C.")
@with_settings
def command(settings: Settings, installations: int, groups: int, days: int, seed: int, keep: bool) -> None:
    """Everything on this machine, with nothing to install: Kafka, a worker with embedded ClickHouse, and a fleet of
    installations and of GitLab.com's groups that sends its usage pings, with the billing events of the accounts that own
    them; then the KPIs of both.

    People join, rest on weekends and leave; installations start later or fall silent; accounts buy, grow, renew and cancel
    over 18 months; some messages come twice, late, out of order or broken. The data are in the folder `demo` of the data
    dir, made afresh at each run. Ctrl-C ends everything.

    \b
    Examples:
      pingstream demo
      pingstream demo --installations 200 --days 90 --seed 7
      pingstream demo --keep
    """
    _end_by_signals()
    logging.getLogger().addHandler(logging.NullHandler())  # what libraries say is not for this terminal
    as_of = settings.as_of or dt.datetime.now(dt.UTC).date()
    if not settings.has_web:
        raise WrongUse(
            "the demo sees by its worker's web end how far it is: leave --web-host out, or set it to an address"
        )
    if as_of > dt.datetime.now(dt.UTC).date():
        raise WrongUse(f"--as-of {as_of} lies in the future; the demo's newest pings are of that day")
    try:
        spec = FleetSpec(
            last_day=as_of, days=days, seed=seed, installations=installations, groups=groups,
            accounts=usual_accounts(installations, groups), reporting_currency=settings.reporting_currency,
            duplicates=0.01, reordered=0.02, late=0.002, late_billing=0.03, future=0.002, broken=0.004, wrong_keys=0.005,
            conflicts=0.004,
        )  # fmt: skip
    except ValueError as exc:
        raise WrongUse(str(exc)) from None

    shown = settings.data_dir / "demo"
    with fresh_folder(shown) as folder, ExitStack() as running:
        broker = LocalBroker(folder / "kafka", port=0)
        running.callback(_at_once, broker.kill)
        try:
            with steps() as progress:
                progress.begin(f"starting Apache Kafka {KAFKA}")
                begun = time.monotonic()
                broker.start()
                progress.say(
                    f"Apache Kafka {KAFKA} answers on {broker.bootstrap} after {time.monotonic() - begun:.1f} s"
                )
                ours = _settings_of_the_demo(settings, broker.bootstrap, folder, as_of)
                progress.begin("starting a worker with embedded ClickHouse")
                worker = _start_worker(ours, folder)
                running.callback(_at_once, worker.kill)
                run = _Run(broker, worker, ours, progress)
                became = run.through(Fleet(spec))
            run.show(as_of - dt.timedelta(days=1), became)
            if keep:
                _say_where(shown, run.address, broker.bootstrap)
                run.go_on(_more_pings(spec))
            worker.stop(GRACE_SECONDS)
            broker.stop(GRACE_SECONDS)
        except (BrokerError, DistributionError) as exc:
            raise Failure(str(exc)) from None
    _say_what_next(shown)


class _Run:
    """A demo whose broker and worker run."""

    def __init__(self, broker: LocalBroker, worker: Leashed, settings: Settings, progress: Steps) -> None:
        self._broker = broker
        self._worker = worker
        self._settings = settings
        self._progress = progress
        self._last = 0, 0
        self._changed = time.monotonic()
        self.address = ""
        """Where the worker's web end is, once it is there."""

    def through(self, fleet: Fleet) -> Counts:
        """Sends the fleet's messages and returns what became of them, once all their rows are written.

        Raises:
            Failure: the broker or the worker has ended, or nothing goes on.
        """
        begun = time.monotonic()
        spec = fleet.spec
        expected = fleet.expected_messages()
        with Emitter(self._settings, fleet.messages()) as emitter:
            while True:
                done = self._is_done(emitter)
                became = self._counts()
                self._progress.count(emitter.sent, became.read, emitter.sent if done else expected)
                if done and became.read >= emitter.sent and not became.waiting.total():
                    break
                self._pause(emitter.sent, became.read)
        self._progress.begin("writing the figures up to the as-of day")
        with self._asking() as client:
            while not is_complete(client, spec.last_day):
                self._pause(*self._last)
        self._progress.say(
            f"{emitter.sent:,} messages of {spec.installations} installations and {spec.groups} groups ({spec.first_day} to "
            f"{spec.last_day}) and of {spec.accounts} accounts (from {spec.first_billing_day} on), sent and counted in "
            f"{time.monotonic() - begun:.1f} s"
        )
        return became

    def show(self, day: dt.date, became: Counts) -> None:
        """Prints the KPIs of `day` on standard output."""
        console = Console(highlight=False, width=None if sys.stdout.isatty() else PIPE_WIDTH)
        console.print(f"\nKPIs of {day:%A, %Y-%m-%d}, the newest day that is over (UTC)\n", style="bold")
        with self._asking() as client:
            print_kpis(console, client, day, became)

    def go_on(self, messages: Iterator[Message]) -> None:
        """Sends more until Ctrl-C.

        Raises:
            Failure: the broker or the worker has ended.
        """
        with suppress(KeyboardInterrupt), Emitter(self._settings, messages, LIVE_RATE) as emitter:
            while not self._is_done(emitter):
                self._pause(emitter.sent, 0)

    def _is_done(self, emitter: Emitter) -> bool:
        """Whether everything is sent; when that failed because a part has ended, it is the part that is told of."""
        try:
            return emitter.done
        except Exception:
            time.sleep(NOTICE_SECONDS)
            self._fail_if_ended()
            raise

    def _counts(self) -> Counts:
        if not self.address:
            self.address = web_address(self._worker.log()) or ""
            if self.address:
                self._progress.say(f"the worker runs, metrics on {self.address}/metrics")
        return (counts(self.address) if self.address else None) or Counts()

    def _pause(self, sent: int, processed: int) -> None:
        """Waits a moment; fails when waiting does not help."""
        if (sent, processed) != self._last:
            self._last, self._changed = (sent, processed), time.monotonic()
        self._fail_if_ended()
        if time.monotonic() - self._changed > STALL_SECONDS:
            raise Failure(
                f"nothing went on for {STALL_SECONDS:.0f} s; the worker's log ends with:\n{self._worker.log_end()}"
            )
        time.sleep(PAUSE_SECONDS)

    def _fail_if_ended(self) -> None:
        if not self._broker.alive:
            raise Failure(
                f"Kafka ended by itself; its log in {self._broker.data_dir} ends with:\n{self._broker.log_end()}"
            )
        if self._worker.exit_code is not None:
            raise Failure(
                f"the worker ended by itself with exit code {self._worker.exit_code}; its log {self._worker.log_file} ends "
                f"with:\n{self._worker.log_end()}"
            )

    @contextmanager
    def _asking(self) -> Iterator[Client]:
        try:
            client = connect(self._settings.clickhouse_dsn, self._settings.database, wait=ENGINE_SECONDS)
        except (ConnectionFailed, EngineInUse) as exc:
            self._fail_if_ended()
            raise Failure(str(exc)) from None
        try:
            yield client
        except ClickHouseError as exc:
            self._fail_if_ended()
            raise Failure(refusal(exc)) from None
        finally:
            client.close()


def _settings_of_the_demo(settings: Settings, kafka: str, folder: Path, as_of: dt.date) -> Settings:
    """The user's settings, but for a broker, a ClickHouse, a key and a folder of the demo's own."""
    return settings.model_copy(
        update={
            "kafka": kafka,
            "kafka_security_protocol": "PLAINTEXT",
            "clickhouse": None,
            "pseudonym_key": None,
            "data_dir": folder,
            "as_of": as_of,
            "replication": 1,
            "retention": -1,
            "log_format": "text",
        }
    )


def _start_worker(settings: Settings, folder: Path) -> Leashed:
    # By the environment, so that no .env file and no setting of the demo's own surroundings has a say.
    passed = {name: getattr(settings, name) for name in PASSED_ON}
    if "web_port" in settings.model_fields_set:
        passed["web_port"] = settings.web_port
    environment = {
        PREFIX + name.upper(): ",".join(value) if isinstance(value, list) else str(value)
        for name, value in passed.items()
    }
    return Leashed(
        [sys.executable, "-m", "deploy.cli.main", "worker"],
        folder / "worker.log",
        folder,
        {**plain_environment(PREFIX), **environment},
    )


def _more_pings(spec: FleetSpec) -> Iterator[Message]:
    """Pings of ever more installations."""
    for seed in itertools.count(spec.seed + 1):
        yield from Fleet(
            replace(
                spec,
                seed=seed,
                days=min(spec.days, LIVE_DAYS),
                installations=LIVE_INSTALLATIONS,
                groups=min(spec.groups, LIVE_GROUPS),
                accounts=0,
            )
        ).messages()


def _end_by_signals() -> None:
    """SIGTERM, and a terminal that is closed, end the demo as Ctrl-C does, which counts even where a shell's `&` has it
    ignored."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup
        signal.signal(signal.SIGHUP, signal.default_int_handler)


def _at_once(kill: Callable[[], None]) -> None:
    """Ends what still runs, and lets no second Ctrl-C come between. What ended in order is not touched."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    try:
        kill()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _say_where(shown: Path, address: str, kafka: str) -> None:
    folder = shlex.quote(str(shown))
    _say(
        f"Still running, with {LIVE_RATE:.0f} more pings a second, until Ctrl-C. In another terminal:",
        (f"kpi mau --data-dir {folder}", "more users at each look"),
        (f"dlq list --kafka {kafka}", "dead letters"),
        (f"send ping.json --kafka {kafka}", "a payload of your own"),
    )
    click.echo(f"  metrics, for Prometheus: {address}/metrics\n", err=True)


def _say_what_next(shown: Path) -> None:
    folder = shlex.quote(str(shown))
    _say(
        f"Everything has ended; the data are in {shown}. Where to look next:",
        (f"kpi --data-dir {folder}", "the KPI views"),
        (f"kpi net_retention --data-dir {folder}", "one of them, newest day"),
        (f'sql "select * from kpi_mau order by as_of" --data-dir {folder}', "any query"),
        (f"broker --data-dir {folder}", "the demo's Kafka again, and beside it:"),
        ("dlq list", "its dead letters"),
        ("demo --keep", "stays: more pings all the time, and /metrics"),
    )
    _say(
        "In earnest, each in a terminal of its own (settings: --help, or PINGSTREAM_… in the environment):",
        ("broker", "or PINGSTREAM_KAFKA=host:9092, your cluster"),
        ("worker", "metrics on http://127.0.0.1:8088/metrics"),
        ("send ping.json event.json", "real payloads, pings and billing events"),
    )


def _say(sentence: str, *commands: tuple[str, str]) -> None:
    """A sentence, and commands to copy with what they are for."""
    sys.stdout.flush()
    program = _program()
    width = max((len(arguments) for arguments, _ in commands if len(arguments) <= SHORT), default=0)
    lines = [f"  {program} {arguments:{width}}   # {purpose}" for arguments, purpose in commands]
    click.echo("\n".join([sentence, "", *lines, ""]), err=True)


def _program() -> str:
    """What to type for this program here."""
    called = Path(sys.argv[0])
    if called.name != "pingstream" or shutil.which("pingstream"):
        return "pingstream"
    return min(str(called), os.path.relpath(called), key=len)
