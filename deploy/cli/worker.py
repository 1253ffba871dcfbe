"""`pingstream worker`."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import threading
from collections.abc import Callable
from importlib.metadata import version
from typing import TYPE_CHECKING, NoReturn

import click
import structlog
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception_type,
    retry_unless_exception_type,
    stop_after_delay,
    wait_exponential,
)

from deploy.cli.errors import Failure, WrongUse
from deploy.cli.lean import leave
from deploy.cli.options import with_settings
from deploy.clickhouse.door import Door
from deploy.logging import configure
from deploy.pseudonym_key import pseudonym_key
from schemas.settings import Settings
from sinks.clickhouse.connection import (
    ConnectionFailed,
    ConnectionRefused,
    EngineInUse,
    NotTrusted,
    WrongPassword,
    connect,
    open_engine,
)
from sinks.clickhouse.schema import SchemaError, migrate
from sinks.kafka_client import BrokerRefused, BrokerUnavailable, wait_for_broker
from sinks.topics import TopicError

if TYPE_CHECKING:
    from streams.worker import Worker

log = structlog.get_logger("pingstream.worker")

WAIT_SECONDS = 600.0
STOP_SECONDS = 3.5
"""What a worker that does not run yet takes at most to end."""


@click.command(short_help="One worker: pings from Kafka to exact figures in ClickHouse.")
@click.option("--drain", is_flag=True, help="Process up to the topics' ends as of the start, flush, and end.")
@click.option(
    "--new-pseudonym-key",
    "new_key",
    is_flag=True,
    help="Go on with another pseudonym key than the state was made with. Users of before count as others for 28 days.",
)
@with_settings
def command(settings: Settings, drain: bool, new_key: bool) -> int:
    """One worker, one process: usage pings from Kafka, exact figures into ClickHouse and Prometheus.

    It waits for a broker and for ClickHouse, makes missing topics, and brings the schema up to date. Ctrl-C ends it in
    order. Several workers share the work when they share a ClickHouse (`pingstream clickhouse`, or a server).

    \b
    Examples:
      pingstream worker
      pingstream worker --drain --as-of 2026-11-20
      PINGSTREAM_CLICKHOUSE=http://127.0.0.1:8123 pingstream worker
    """
    configure(settings.log_format)
    # Until the worker runs and ends in order: the first process of a container is not ended by a signal that nobody handles.
    signal.signal(signal.SIGTERM, _stop)
    log.info("worker starts", version=version("pingstream"), process=os.getpid(), settings=settings.public())
    key = pseudonym_key(settings)
    path = settings.embedded_path
    if path is None:
        return _run(settings, key, lambda: connect(settings.clickhouse_dsn, settings.database), drain, new_key)
    try:
        engine = open_engine(path)
    except EngineInUse as exc:
        raise WrongUse(str(exc)) from None
    except ConnectionFailed as exc:
        raise Failure(str(exc)) from None
    except OSError as exc:
        raise Failure(f"embedded ClickHouse cannot start at {path}: {exc}") from None
    password = secrets.token_urlsafe(24)
    with engine, Door(engine.path, port=0, password=password) as door:
        # Lets `pingstream sql` and `kpi` ask the engine while this process holds it.
        engine.publish_door(door.address, password)
        return _run(settings, key, lambda: engine.client(settings.database), drain, new_key)


def _stop(*_: object) -> NoReturn:
    # What is under way in threads is waited for, a migration or the compiler, and may take longer than there is time.
    last = threading.Timer(STOP_SECONDS, leave, [0])
    last.daemon = True
    last.start()
    raise SystemExit(0)


def _run(settings: Settings, key: bytes, client: Callable[[], Client], drain: bool, new_key: bool) -> int:
    try:
        return asyncio.run(_start(settings, key, client, drain, new_key))
    except (BrokerRefused, TopicError, SchemaError, WrongPassword, NotTrusted) as exc:
        raise WrongUse(str(exc)) from None
    except (BrokerUnavailable, ConnectionFailed) as exc:
        raise Failure(str(exc)) from None
    except ClickHouseError as exc:
        raise Failure(f"ClickHouse refused to bring its schema up to date: {exc}") from None
    except OSError as exc:
        raise WrongUse(f"{settings.web_host}:{settings.web_port}: {exc}; choose another with --web-port") from None


def _worker(settings: Settings, key: bytes, client: Callable[[], Client], drain: bool, new_key: bool) -> Worker:
    from streams.worker import WebChoice, Worker

    web = None
    if settings.has_web:
        web = WebChoice(settings.web_host, settings.web_port, "web_port" not in settings.model_fields_set)
    return Worker(settings, client, key, web, drain=drain, new_key=new_key)


async def _start(settings: Settings, key: bytes, client: Callable[[], Client], drain: bool, new_key: bool) -> int:
    await wait_for_broker(settings, patience=WAIT_SECONDS, say=log.warning)
    connection = await _wait_for_clickhouse(client)
    # No task: an end that comes in the middle waits for it, as a migration that is cut off leaves its lock.
    migrating = asyncio.get_running_loop().run_in_executor(
        None,
        lambda: migrate(
            connection, settings.database, replicated=settings.replicated, cluster=settings.clickhouse_cluster
        ),
    )
    try:
        worker = _worker(settings, key, client, drain, new_key)  # Faust's modules are loaded while the schema is made
        taken = await asyncio.shield(migrating)
    finally:
        await asyncio.wait([migrating])
        connection.close()
    if taken:
        log.info("schema brought up to date", steps=[step.name for step in taken])
    return await worker.run()


async def _wait_for_clickhouse(client: Callable[[], Client]) -> Client:
    """A connection, after pauses that grow from a quarter of a second to ten."""

    def say(state: RetryCallState) -> None:
        if state.attempt_number == 1 and state.outcome is not None:
            log.warning("waiting for ClickHouse", seconds=WAIT_SECONDS, reason=str(state.outcome.exception()))

    async for attempt in AsyncRetrying(
        retry=retry_if_exception_type(ConnectionFailed) & retry_unless_exception_type(ConnectionRefused),
        wait=wait_exponential(0.25, max=10),
        stop=stop_after_delay(WAIT_SECONDS),
        before_sleep=say,
        reraise=True,
    ):
        with attempt:
            return await asyncio.to_thread(client)
    raise AssertionError("the last attempt raises")
