"""A message whose key is missing or wrong goes on, by the internal topic, to the partition where its scope lives.

What goes on is what the ledger needs and no more: no user id that is not pseudonymous, no personal field, not the message
itself. It was judged where it was read, by its own received time and its own partition's; only whether it was sent before
is for its home to say. Should a dead letter be due there, the original is read again from its place in the source topic.
"""

from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Struct

from schemas.dead_letters import Reason
from streams.ledger.reading import GROUP, Entry, Told
from streams.ledger.records import PingKey, PingRow, ScopeKey


class ForwardedEntry(Struct, array_like=True, frozen=True):
    """An entry with its pseudonymous users, 64-bit little-endian."""

    day: int
    stage: str
    feature: str
    sessions: int | None
    users: bytes


class ForwardedPing(Struct, array_like=True, frozen=True):
    """A judged message. `row` is empty when it is dead as a whole, unless it was sent before."""

    partition: int
    offset: int
    timestamp: int
    attempt: int
    population: str
    scope_id: str
    uuid: str
    hostname: str
    namespace_id: str
    recorded_at: int
    reason: str
    sentence: str
    entries: list[ForwardedEntry]
    late: int
    future: int
    row: PingRow | None


class Case(Struct):
    """A message that names a ping, judged but for whether it was sent before.

    Attributes:
        place: its partition and offset in the source topic.
        verdict: why it is dead as a whole, None when it is not.
        told: its compact entries, None when some were taken out.
        late, future: entries that were taken out.
        row: None with a verdict.
    """

    place: tuple[int, int]
    timestamp: int
    attempt: int
    scope: ScopeKey
    key: PingKey
    recorded_at: int
    verdict: tuple[Reason, str] | None
    entries: list[Entry]
    told: Told | None
    late: int
    future: int
    row: PingRow | None


class Forward(msgspec.Struct, frozen=True):
    """A record for the internal topic; `key` decides its partition."""

    key: bytes
    value: bytes
    timestamp: int


_encode = msgspec.msgpack.Encoder().encode
_decoder = msgspec.msgpack.Decoder(ForwardedPing)


def message_key(population: str, key: PingKey) -> bytes:
    """The key that a ping's message should have (contract, section 2)."""
    return (f"{key.uuid}:{key.namespace_id}" if population == GROUP else key.uuid).encode()


def encode(
    case: Case, ids: npt.NDArray[np.uint64], starts: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]
) -> Forward:
    """A case for the internal topic; entry e's users are ids[starts[e] : starts[e] + lengths[e]]."""
    reason, sentence = case.verdict or ("", "")
    entries = [
        ForwardedEntry(
            entry.day, entry.stage, entry.feature, entry.sessions,
            ids[starts[entry.number] : starts[entry.number] + lengths[entry.number]].tobytes(),
        )
        for entry in case.entries
    ]  # fmt: skip
    ping = ForwardedPing(
        *case.place, case.timestamp, case.attempt, *case.scope, *case.key, case.recorded_at, str(reason), sentence,
        entries, case.late, case.future, case.row,
    )  # fmt: skip
    return Forward(message_key(case.scope.population, case.key), _encode(ping), case.timestamp)


def decode(value: bytes, numbers_from: int) -> tuple[Case, list[npt.NDArray[np.uint64]]]:
    """A case from the internal topic and its entries' users; entries are numbered from `numbers_from`."""
    ping = _decoder.decode(value)
    entries = [
        Entry(entry.day, entry.stage, entry.feature, entry.sessions, None, numbers_from + at)
        for at, entry in enumerate(ping.entries)
    ]
    case = Case(
        (ping.partition, ping.offset),
        ping.timestamp,
        ping.attempt,
        ScopeKey(ping.population, ping.scope_id),
        PingKey(ping.uuid, ping.hostname, ping.namespace_id),
        ping.recorded_at,
        (Reason(ping.reason), ping.sentence) if ping.reason else None,
        entries,
        None,
        ping.late,
        ping.future,
        ping.row,
    )
    return case, [np.frombuffer(entry.users, "<u8") for entry in ping.entries]
