"""Logs: one line an event on standard error, for people or for machines; the noise of libraries tamed."""

from __future__ import annotations

import logging
import sys
from typing import Literal

import structlog

QUIET = {
    "faust": logging.WARNING,
    "mode": logging.WARNING,
    "mode.timers": logging.ERROR,  # a commit that takes longer than the pause between two is no news
    "aiokafka": logging.ERROR,
    "aiokafka.consumer.group_coordinator": logging.CRITICAL,  # every first start meets a coordinator that is not there yet
    "streams.store": logging.WARNING,  # Faust logs the life of a service under its module's name
    "streams.app": logging.WARNING,
    "streams.transport": logging.WARNING,
    "asyncio": logging.ERROR,
    "clickhouse_connect": logging.ERROR,
    "numba": logging.WARNING,
}


def configure(form: Literal["text", "json"]) -> None:
    """Sets up structlog, and the standard library's logging through it."""
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper("iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    render: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if form == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), pad_event_to=0)
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processor=render))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.INFO)
    for name, level in QUIET.items():
        logging.getLogger(name).setLevel(level)
