"""One record on its way into a topic."""

from __future__ import annotations

from typing import NamedTuple


class Message(NamedTuple):
    """A record to produce. `timestamp_ms` is Unix time in milliseconds."""

    topic: str
    key: bytes | None
    value: bytes
    timestamp_ms: int
