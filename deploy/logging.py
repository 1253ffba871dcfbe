"""Logs: one line an event on standard error, for people or for machines; the noise of libraries tamed.

The same message from the same place comes at most once in ten seconds; the next one says how many were left out.
"""

from __future__ import annotations

import logging
import math
import sys
import time
from collections.abc import Callable
from typing import Final, Literal, TextIO

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
    "urllib3": logging.ERROR,  # it tries again; what comes of it is ours to say
    "numba": logging.WARNING,
}


LIMIT_SECONDS: Final = 10.0
PLACES: Final = ("topic", "partition", "table", "code", "generation", "level")
"""Of what a line says beside its message, what tells one place from another; of partitions taken over, one time from another; of
failures, one kind from another."""

KINDS: Final = 1_000
"""Kinds of messages that are remembered: libraries put addresses into theirs."""


class LimitedHandler(logging.StreamHandler[TextIO]):
    """Writes a message of one kind at most once in `LIMIT_SECONDS`, with the number of those that were left out before it.
    What is left out at the very end is told by `close`.
    """

    def __init__(self, stream: TextIO, now: Callable[[], float] = time.monotonic) -> None:
        super().__init__(stream)
        self._now = now
        self._kinds: dict[object, tuple[float, int, logging.LogRecord]] = {}
        """Of each kind: when it was written, how many were left out since, the last of them."""

    def emit(self, record: logging.LogRecord) -> None:
        """Writes it or leaves it out. The caller holds the handler's lock."""
        kind, now = _kind(record), self._now()
        written, left_out, _ = self._kinds.get(kind, (now - LIMIT_SECONDS, 0, record))
        if now - written < LIMIT_SECONDS:
            self._kinds[kind] = written, left_out + 1, record
            return
        self._kinds.pop(kind, None)
        self._tell_before(now - LIMIT_SECONDS)
        if len(self._kinds) >= KINDS:
            self._tell(*self._kinds.pop(next(iter(self._kinds)))[1:])
        self._kinds[kind] = now, 0, record
        self._write(left_out, record)

    def close(self) -> None:
        """Writes the last of each kind that was left out."""
        self.acquire()
        try:
            self._tell_before(math.inf)
        finally:
            self.release()
        super().close()

    def _tell_before(self, moment: float) -> None:
        """Tells of the kinds that were written before and have not come again since; oldest first."""
        for kind, (written, left_out, record) in list(self._kinds.items()):
            if written > moment:
                break
            del self._kinds[kind]
            self._tell(left_out, record)

    def _tell(self, left_out: int, record: logging.LogRecord) -> None:
        """Writes the last of those that were left out, if any was."""
        if left_out:
            self._write(left_out - 1, record)

    def _write(self, left_out: int, record: logging.LogRecord) -> None:
        record.left_out = left_out
        super().emit(record)


def _kind(record: logging.LogRecord) -> object:
    if isinstance(record.msg, dict):  # structlog's
        return record.name, record.msg.get("event"), *(str(record.msg.get(place)) for place in PLACES)
    if record.name.startswith("aiokafka"):  # a broker that is away is three different lines for each request
        return "aiokafka", record.levelno
    return record.name, record.levelno, record.pathname, record.lineno


def _tell_left_out(_: object, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    left_out = getattr(event["_record"], "left_out", 0)
    if left_out:
        event["like_this_left_out"] = left_out
    return event


def _in_order(_: object, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """When, how bad, who, what; then the rest as it was given."""
    first = ("timestamp", "level", "logger", "event")
    return {**{name: event[name] for name in first if name in event}, **event}


def configure(form: Literal["text", "json"]) -> None:
    """Sets up structlog, and the standard library's logging through it."""
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper("iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    render: structlog.typing.Processor = (
        structlog.processors.JSONRenderer(ensure_ascii=False)
        if form == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), pad_event_to=0)
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = LimitedHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[_tell_left_out, structlog.stdlib.ProcessorFormatter.remove_processors_meta, _in_order, render],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.INFO)
    for name, level in QUIET.items():
        logging.getLogger(name).setLevel(level)
