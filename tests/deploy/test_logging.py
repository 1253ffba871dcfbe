"""Log lines: one an event, in order, with a limit; no secret in them."""

from __future__ import annotations

import io
import json
import logging
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from deploy import logging as ours


class Clock:
    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[io.StringIO, ours.LimitedHandler, Clock]]:
    """What was written, by a handler whose clock stands still."""
    root, out, clock = logging.getLogger(), io.StringIO(), Clock()
    handlers, level = root.handlers, root.level
    levels = {name: logging.getLogger(name).level for name in ours.QUIET}
    monkeypatch.setattr(sys, "stderr", out)
    ours.configure("json")
    (handler,) = root.handlers
    assert isinstance(handler, ours.LimitedHandler)
    monkeypatch.setattr(handler, "_now", clock)
    yield out, handler, clock
    root.handlers = handlers
    root.setLevel(level)
    for name, before in levels.items():
        logging.getLogger(name).setLevel(before)
    structlog.reset_defaults()


def written(out: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_the_same_message_from_the_same_place_comes_once_in_ten_seconds_with_the_number_left_out(lines: Any) -> None:
    out, _, clock = lines
    log = structlog.get_logger("pingstream.test")
    for offset in range(50):
        log.warning("a message is odd", topic="usage-pings", partition=1, offset=offset)
    log.warning("a message is odd", topic="usage-pings", partition=2, offset=7)
    log.warning("another", topic="usage-pings", partition=1)
    log.info("taken over", topic="usage-pings", generation=1)
    log.info("taken over", topic="usage-pings", generation=2)
    clock.seconds += 10
    log.warning("a message is odd", topic="usage-pings", partition=1, offset=50)
    found = [
        (line["event"], line.get("partition"), line.get("offset"), line.get("like_this_left_out"))
        for line in written(out)
    ]
    assert found == [
        ("a message is odd", 1, 0, None),
        ("a message is odd", 2, 7, None),
        ("another", 1, None, None),
        ("taken over", None, None, None),
        ("taken over", None, None, None),
        ("a message is odd", 1, 50, 49),
    ]


def test_of_a_library_the_place_is_the_line_of_its_program(lines: Any) -> None:
    out, _, _ = lines
    library = logging.getLogger("somebodys.library")
    for node in range(20):
        library.error("unable to connect to node %d", node)
    assert [line["event"] for line in written(out)] == ["unable to connect to node 0"]


def test_of_kafkas_library_all_is_one(lines: Any) -> None:
    out, _, clock = lines
    for _ in range(100):
        logging.getLogger("aiokafka").error("Unable connect to node with id %s", 1)
        logging.getLogger("aiokafka").error("Unable to update metadata from %s", [1])
        logging.getLogger("aiokafka.consumer.fetcher").error("Failed fetch messages from %s", 1)
    clock.seconds += 11
    structlog.get_logger("pingstream.test").info("something else")
    assert [(line["event"], line.get("like_this_left_out")) for line in written(out)] == [
        ("Unable connect to node with id 1", None),
        ("Failed fetch messages from 1", 298),
        ("something else", None),
    ]


def test_what_was_left_out_last_is_told_at_the_end(lines: Any) -> None:
    out, handler, _ = lines
    log = structlog.get_logger("pingstream.test")
    for number in range(3):
        log.info("working", number=number)
    handler.close()
    assert [(line["number"], line.get("like_this_left_out")) for line in written(out)] == [(0, None), (2, 1)]


def test_what_libraries_put_into_their_messages_does_not_fill_the_memory(lines: Any) -> None:
    out, handler, _ = lines
    log = structlog.get_logger("pingstream.test")
    for number in range(2 * ours.KINDS):
        log.info(f"message {number}")
    assert len(handler._kinds) == ours.KINDS
    assert len(written(out)) == 2 * ours.KINDS


def test_a_line_says_when_how_bad_who_and_what_first(lines: Any) -> None:
    out, _, _ = lines
    try:
        raise ValueError("of all things")
    except ValueError:
        structlog.get_logger("pingstream.test").error("it failed", topic="usage-pings", exc_info=True)
    (text,) = out.getvalue().splitlines()
    line = json.loads(text)
    assert list(line)[:4] == ["timestamp", "level", "logger", "event"]
    assert (line["level"], line["logger"]) == ("error", "pingstream.test")
    assert "ValueError: of all things" in line["exception"]
