"""Why a message becomes a dead letter, and what the letter carries (contract, section 2.3)."""

from __future__ import annotations

import enum


class Reason(enum.StrEnum):
    """The contract's reasons, the value of the header `pingstream-reason` and of `dead_letter.reason`."""

    NOT_JSON = "not_json"
    TOO_LARGE = "too_large"
    TOO_DEEP = "too_deep"
    INVALID = "invalid"
    LATE = "late"
    FUTURE = "future"
    CONFLICT = "conflict"
    UNKNOWN_TYPE = "unknown_type"
    UNSUPPORTED_CURRENCY = "unsupported_currency"


class Outcome(enum.StrEnum):
    """What became of a message; read = the sum of the three, per topic."""

    APPLIED = "applied"
    DUPLICATE = "duplicate"
    DEAD = "dead"


HEADER_REASON = "pingstream-reason"
HEADER_ERROR = "pingstream-error"
HEADER_TOPIC = "pingstream-topic"
HEADER_PARTITION = "pingstream-partition"
HEADER_OFFSET = "pingstream-offset"
HEADER_TIMESTAMP = "pingstream-timestamp"
HEADER_ATTEMPT = "pingstream-attempt"
HEADER_REDACTED = "pingstream-redacted"

HEADER_REPLAY = "pingstream-replay"
HEADER_REPLAY_PARTITION = "pingstream-replay-partition"
HEADER_REPLAY_OFFSET = "pingstream-replay-offset"


class Replay(enum.StrEnum):
    """How far the replay of a letter is, the value of the header `pingstream-replay` of a note about it."""

    BEGUN = "begun"
    SENT = "sent"
    NOT_SENT = "not_sent"


class Unreadable(Exception):
    """A message that cannot be taken as it is.

    Attributes:
        reason: the contract's reason.
        sentence: one readable sentence with the JSON path; never a value from the message, which may be personal.
    """

    def __init__(self, reason: Reason, sentence: str) -> None:
        super().__init__(sentence)
        self.reason = reason
        self.sentence = sentence
