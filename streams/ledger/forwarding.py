"""What goes from one book to another, by the internal topic.

A message whose key is missing or wrong goes on to the partition where its scope lives; it was judged where it was read, by
its own received time and its own partition's, and only whether it was sent before is for its home to say. Should a dead
letter be due there, the original is read again from its place in the source topic. GitLab.com's activity goes on by user:
`sharing`. Each book's watermark goes to all others.

What goes on is what the ledger needs and no more: no user id that is not pseudonymous, no personal field, not the message
itself.
"""

from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Struct

from schemas.dead_letters import Reason
from streams.ledger.reading import GITLAB_COM, SELF_MANAGED, Entry, Told
from streams.ledger.records import PingKey, PingRow, ScopeKey
from streams.ledger.scope import READ_HERE

GITLAB_SCOPE = ScopeKey(GITLAB_COM, "gitlab.com")
"""GitLab.com as a whole. Every book holds a shard of it: the users that the top of their pseudonym puts there."""


class ForwardedEntry(Struct, array_like=True, frozen=True):
    """An entry with its pseudonymous users, 64-bit little-endian."""

    day: int
    stage: str
    feature: str
    sessions: int | None
    users: bytes


class ForwardedPing(Struct, array_like=True, frozen=True, tag="ping"):
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


class Share(Struct, array_like=True, frozen=True, tag="share"):
    """Who was active on GitLab.com, of one shard's users: facts that are applied and new where they come from."""

    entries: list[ForwardedEntry]


class Word(Struct, array_like=True, frozen=True, tag="watermark"):
    """How far a book is; see `watermarks`."""

    partition: int
    source: int
    low: int


class Case(Struct):
    """A message that names a ping, judged but for whether it was sent before.

    Attributes:
        place: its partition and offset in the source topic; delivery: its offset in the internal one, if it came by it.
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
    delivery: int = READ_HERE


class Forward(msgspec.Struct, frozen=True):
    """A record for the internal topic. Without a partition, its key decides about it."""

    key: bytes
    value: bytes
    timestamp: int
    partition: int | None = None


encode = msgspec.msgpack.Encoder().encode
decode = msgspec.msgpack.Decoder(ForwardedPing | Share | Word).decode


def home_key(scope: ScopeKey, key: PingKey) -> bytes:
    """The key whose partition a ping's scope lives in: its `uuid`; of a group and of GitLab.com the scope itself, as there may
    be pings of it under several."""
    return (key.uuid if scope.population == SELF_MANAGED else scope.scope_id).encode()


def forward_case(
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
    return Forward(home_key(case.scope, case.key), encode(ping), case.timestamp)


def arrived(ping: ForwardedPing, delivery: int, numbers_from: int) -> tuple[Case, list[npt.NDArray[np.uint64]]]:
    """A case that came by the internal topic at offset `delivery`, and its entries' users; they are numbered from
    `numbers_from`."""
    entries, users = numbered(ping.entries, numbers_from)
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
        delivery,
    )
    return case, users


def numbered(some: list[ForwardedEntry], numbers_from: int) -> tuple[list[Entry], list[npt.NDArray[np.uint64]]]:
    """Entries that came by the internal topic, numbered from `numbers_from`, and their users."""
    entries = [
        Entry(entry.day, entry.stage, entry.feature, entry.sessions, None, number)
        for number, entry in enumerate(some, numbers_from)
    ]
    return entries, [np.frombuffer(entry.users, "<u8") for entry in some]
