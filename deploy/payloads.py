"""Payloads in files: where each document begins and ends, what it is, and the record it becomes."""

from __future__ import annotations

import datetime as dt
import json
import re
from dataclasses import dataclass
from typing import Any, Final

from deploy.message import Message
from sinks.topics import BILLING_EVENTS, USAGE_PINGS

EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
DAY_MS: Final = 86_400_000

_WHITE: Final = " \t\r\n"
_CONSTANT: Final = re.compile(r'"(?:[^"\\]|\\.)*"|(-?Infinity|NaN)')
_GAP: Final = re.compile(r"[ \t\r\n,]*")


class NotJson(Exception):
    """A file is no JSON. The text says in which line and why."""


@dataclass(frozen=True)
class Payload:
    """A document as it stands in its file, and what it says (None where it is nested too deep to be looked into)."""

    raw: bytes
    document: Any


def payloads(data: bytes) -> list[Payload]:
    """The documents of a file: one JSON document, the elements of a list, or one document a line.

    Each keeps its bytes, without the white space around it.

    Raises:
        NotJson: the file is none of these, or empty.
    """
    try:
        text = data.decode("utf-8-sig")  # a byte order mark belongs to the file, not to the document
    except UnicodeDecodeError as exc:
        line = data.count(b"\n", 0, exc.start) + 1
        raise NotJson(f"line {line} is not UTF-8") from None
    text = text.rstrip(_WHITE)
    if not text:
        raise NotJson("there is nothing in it")
    try:
        document = _parse(text)
    except NotJson as whole:
        if not _stands_alone(text):
            raise whole from None
        return _lines(text)
    except RecursionError:
        return _lines(text) if _stands_alone(text) else [Payload(text.strip(_WHITE).encode(), None)]
    if isinstance(document, list):
        return _elements(text, len(document))
    return [Payload(text.strip(_WHITE).encode(), document)]


def to_message(payload: Payload, now_ms: int, *, topic: str | None = None, received_now: bool = False) -> Message:
    """The record of a document.

    The timestamp is its `recorded_at` (a ping's) or `occurred_at` (a billing event's); the present where that cannot be
    read, lies before 1970 or more than a day ahead, as no topic takes it then, or when `received_now` asks for it.

    Args:
        payload: the document.
        now_ms: the present, Unix time in milliseconds.
        topic: where it goes; None decides by its content.
        received_now: stamp it with the present.
    """
    fields = payload.document if isinstance(payload.document, dict) else {}
    target = topic or (
        BILLING_EVENTS if "event_id" in fields or {"type", "account_id"} <= fields.keys() else USAGE_PINGS
    )
    if target == BILLING_EVENTS:
        key, moment = fields.get("account_id"), fields.get("occurred_at")
    else:
        key, moment = fields.get("uuid"), fields.get("recorded_at")
        namespace = fields.get("namespace_id")
        if isinstance(key, str) and isinstance(namespace, str) and namespace:
            key = f"{key}:{namespace}"
    timestamp_ms = None if received_now else _milliseconds(moment)
    if timestamp_ms is None or timestamp_ms > now_ms + DAY_MS:
        timestamp_ms = now_ms
    return Message(target, _key(key), payload.raw, timestamp_ms)


def misplaced(payload: Payload) -> str | None:
    """What to say of a document of GitLab's that neither topic is for, None for any other."""
    fields = payload.document if isinstance(payload.document, dict) else {}
    if "unit_of_measure" in fields and "type" not in fields:
        return "a billable usage event of GitLab is none of our kinds, billing by usage is not read: it becomes a dead letter"
    if "billable_users_count" in fields and "uuid" not in fields and "type" not in fields:
        return "a licence sync is no usage ping and becomes a dead letter; --as license-sync makes an event of it"
    return None


def _key(value: object) -> bytes | None:
    try:
        return value.encode() if isinstance(value, str) else None
    except UnicodeEncodeError:  # half a surrogate pair
        return None


def _milliseconds(moment: object) -> int | None:
    """Unix time of an RFC 3339 moment, None where it is none or before 1970."""
    if not isinstance(moment, str):
        return None
    try:
        parsed = dt.datetime.fromisoformat(moment.upper())
        if parsed.tzinfo is None or parsed < EPOCH:
            return None
        return (parsed - EPOCH) // dt.timedelta(milliseconds=1)
    except (ValueError, OverflowError):
        return None


def _refuse_constant(name: str) -> float:
    raise ValueError(name)


# Numbers as floats: their value does not matter here, and no number is too long for that.
_decoder = json.JSONDecoder(parse_constant=_refuse_constant, parse_int=float)


def _parse(text: str, line: int = 1) -> Any:
    """A document that begins in a line of a file.

    Raises:
        NotJson: with the line.
        RecursionError: it is nested deeper than Python goes. Python's own depth decides, not the grammar.
    """
    try:
        return _decoder.decode(text)
    except json.JSONDecodeError as exc:
        raise NotJson(f"line {line + exc.lineno - 1} is not JSON: {exc.msg} (column {exc.colno})") from None
    except ValueError as exc:
        for match in _CONSTANT.finditer(text):
            if match.group(1):
                line += text.count("\n", 0, match.start())
                break
        raise NotJson(f"line {line} is not JSON: {exc} is no JSON number") from None


def _stands_alone(text: str) -> bool:
    """Whether the first line is a document of its own, as in JSON lines."""
    first = text.strip(_WHITE).split("\n", 1)[0]
    try:
        _parse(first)
    except NotJson:
        return False
    except RecursionError:
        return True
    return True


def _lines(text: str) -> list[Payload]:
    found = []
    for number, line in enumerate(text.split("\n"), 1):  # not splitlines(): a string may hold other line ends
        if raw := line.strip(_WHITE):
            try:
                document = _parse(raw, number)
            except RecursionError:
                document = None
            found.append(Payload(raw.encode(), document))
    return found


def _elements(text: str, number: int) -> list[Payload]:
    """The elements of a list that was parsed already, each as it stands there."""
    found = []
    position = text.index("[") + 1
    for _ in range(number):
        gap = _GAP.match(text, position)
        assert gap is not None
        document, end = _decoder.raw_decode(text, gap.end())
        found.append(Payload(text[gap.end() : end].encode(), document))
        position = end
    return found
