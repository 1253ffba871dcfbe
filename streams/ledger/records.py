"""What goes into a book and what comes out: plain values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from schemas.dead_letters import HEADER_ATTEMPT, Outcome, Reason

DAY_MS = 86_400_000
DAY_US = 86_400_000_000


class Record(Protocol):
    """A Kafka record, as its consumer hands it over. `timestamp`: milliseconds since 1970, the received time."""

    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def headers(self) -> Sequence[tuple[str, bytes]]: ...


def attempt_of(record: Record) -> int:
    """How often a replayed dead letter was tried before; 0 for any other message."""
    for name, value in record.headers:
        if name == HEADER_ATTEMPT:
            return int(value) if value.isdigit() else 0
    return 0


class Letter(NamedTuple):
    """A dead letter about the message at `place` (partition and offset in the source topic), received at `timestamp`, ms."""

    place: tuple[int, int]
    timestamp: int
    reason: Reason
    sentence: str
    attempt: int


class PingRow(NamedTuple):
    """One row of `usage_ping` and what its scope reports; since 1970: `recorded_at` in microseconds, `received_at` in ms.

    reported: (stage, feature, mau) of each reported figure that is known, ('', '', mau) the total; None when it reports none.
    unknown: reported figures that are negative or of an unexpected type.
    users_by: (dimension, value, users), None when it does not tell.
    """

    uuid: str
    hostname: str
    namespace_id: str
    recorded_at: int
    received_at: int
    population: str
    scope_id: str
    version: str
    edition: str
    plan: str
    registered_users: int | None
    billable_users: int | None
    seats: int | None
    historical_max_users: int | None
    counters: int
    failed_counters: int
    license_subscription_id: str
    license_sha256: str
    reported: list[tuple[str, str, int]] | None
    unknown: int
    users_by: list[tuple[str, str, int]] | None


class PingKey(NamedTuple):
    """What names a ping beside `recorded_at`."""

    uuid: str
    hostname: str
    namespace_id: str


class ScopeKey(NamedTuple):
    """One member of a population."""

    population: str
    scope_id: str


class Change(NamedTuple):
    """One record for the changelog."""

    key: bytes
    value: bytes


@dataclass
class Tally:
    """What became of the messages of a batch. Records read = the outcomes + forwarded + passed.

    Attributes:
        forwarded: messages that went on to their home, which judges them.
        passed: records of the internal topic that bring no message to be judged: shares, watermarks, messages that came before.
        unknown: negative or unusable numbers where a figure was looked for, under `counts` and in what is reported.
        forgotten: entries of days that have left the ledger.
    """

    outcomes: Counter[Outcome] = field(default_factory=Counter)
    reasons: Counter[Reason] = field(default_factory=Counter)
    forwarded: int = 0
    passed: int = 0
    activities: int = 0
    unknown: int = 0
    forgotten: int = 0

    @property
    def handled(self) -> int:
        """Records of which it is known what became of them."""
        return sum(self.outcomes.values()) + self.forwarded + self.passed
