"""The events of a partition's accounts as changelog records, in the order in which they came.

Nothing in it is derived, and no event ever leaves it. A segment holds facts of any accounts, one behind the other, each after
its length; new ones go behind those of the last segment until it is full, so what a flush writes does not grow with what there
is. A value is a header (as `streams.ledger.state` has it: format, kind, epoch, revision) and a body; the version is the book's
when the segment was written.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

import msgspec
import zstandard
from msgspec import Struct

from schemas.billing import BillingEvent
from streams.ledger.records import Change
from streams.ledger.scope import NEVER, READ_HERE
from streams.ledger.state import HEADER, StateError, Version, readable

FORMAT = 2
OPEN_PIECE, CLOSED_PIECE, PARTITION, SEGMENT = 1, 2, 3, 4
"""Kinds of values; pieces are those of format 1, which had the events of one account each."""

FULL_BYTES = 4 * 1024
"""A segment with more than this is never written again: what a flush of a single event writes."""

LARGEST_BYTES = 256 * 1024
"""A flush of many events begins a new segment behind so many bytes."""

_LENGTH = struct.Struct(">I")
_ARRAY = struct.Struct(">BI")


class Fact(Struct, array_like=True, frozen=True, gc=False):
    """An event, and where it came from: partition and offset in the source topic; its offset in the internal one, if it came
    by it."""

    event: BillingEvent
    partition: int
    offset: int
    delivery: int = READ_HERE


class _EventHead(Struct, array_like=True, frozen=True, gc=False):
    event_id: str
    type: str
    occurred_at: int
    sequence: int
    account_id: str


class _FactHead(Struct, array_like=True, frozen=True, gc=False):
    """As much of a `Fact` as tells whose it is."""

    event: _EventHead


class PartitionState(Struct, array_like=True):
    """Body of a partition's own record.

    read_to: offset after the last message of the source topic that was read; -1 when none was.
    rolled_to: the as-of day up to which rows are written.
    written: version (epoch, revision) up to which the rows of all accounts are written; (0, 0) when events came again whose
        rows may be missing.
    settled: the epoch is known to be above those of the sink's rows.
    generation: of the consumer group in which the epoch began.
    newest_timestamp: newest received time, ms since 1970; negative without messages.
    """

    read_to: int
    rolled_to: int
    written: tuple[int, int]
    settled: bool
    generation: int = 0
    newest_timestamp: int = NEVER


_encode = msgspec.msgpack.Encoder().encode
_fact = msgspec.msgpack.Decoder(Fact).decode
_head = msgspec.msgpack.Decoder(_FactHead).decode
_facts = msgspec.msgpack.Decoder(list[Fact])
_partition = msgspec.msgpack.Decoder(PartitionState)
_decompress = zstandard.ZstdDecompressor().decompress


def segment_key(segment: int) -> bytes:
    """Key of a segment, from 0 on."""
    return b"s" + segment.to_bytes(4, "big")


def partition_key(partition: int) -> bytes:
    """Key of a partition's own record."""
    return b"p" + partition.to_bytes(4, "big")


def is_segment(key: bytes) -> bool:
    """Whether a key is a segment's."""
    return key[:1] == b"s"


def is_piece(key: bytes) -> bool:
    """Whether a key is that of a piece of format 1."""
    return key[:1] == b"a"


def version_of(value: bytes) -> Version:
    """The version in a value's header.

    Raises:
        StateError: a newer program wrote it.
    """
    with readable():
        form, _, epoch, revision = HEADER.unpack_from(value)
    if form > FORMAT:
        raise StateError(
            f"the billing state in the changelog has format {form}, this program reads up to {FORMAT}: run the newer version again"
        )
    return Version(epoch, revision)


def encode_partition(version: Version, state: PartitionState) -> bytes:
    """A partition's own record."""
    return HEADER.pack(FORMAT, PARTITION, *version) + _encode(state)


def decode_partition(value: bytes) -> tuple[Version, PartitionState]:
    """What `encode_partition` made."""
    version = version_of(value)
    with readable():
        return version, _partition.decode(memoryview(value)[HEADER.size :])


def with_version(segment: bytes, version: Version) -> bytes:
    """A segment under another version."""
    return HEADER.pack(FORMAT, SEGMENT, *version) + segment[HEADER.size :]


def segment_of_piece(value: bytes) -> bytes:
    """A segment with the facts of a piece of format 1, under its version."""
    with readable():
        body = memoryview(value)[HEADER.size :]
        if value[1] == CLOSED_PIECE:
            body = memoryview(_decompress(body))
        (count,) = _LENGTH.unpack_from(body)
        facts = _facts.decode(_ARRAY.pack(0xDD, count) + body[_LENGTH.size :])
    return HEADER.pack(FORMAT, SEGMENT, *version_of(value)) + b"".join(
        part for fact in facts for part in _parts(_encode(fact))
    )


def fact_at(segment: bytes, place: int) -> bytes:
    """The fact that begins at this byte of a segment, with its length before it."""
    return segment[place : place + _LENGTH.size + _LENGTH.unpack_from(segment, place)[0]]


def read_fact(segment: bytes, place: int) -> Fact:
    """The same as an object."""
    return _fact(memoryview(fact_at(segment, place))[_LENGTH.size :])


def heads(segment: bytes) -> Iterator[tuple[int, str, str]]:
    """(place, account_id, event_id) of each fact of a segment."""
    place, end, view = HEADER.size, len(segment), memoryview(segment)
    while place < end:
        start = place + _LENGTH.size
        stop = start + _LENGTH.unpack_from(segment, place)[0]
        event = _head(view[start:stop]).event
        yield place, event.account_id, event.event_id
        place = stop


def append(
    segments: int, last: bytes | None, facts: Sequence[Fact], version: Version
) -> tuple[list[Change], list[tuple[int, int]]]:
    """Writes new facts behind those there are.

    Args:
        segments: how many there are, the last of them with the value `last`.

    Returns:
        Changes for the changelog, and the (segment, place) of each fact.
    """
    header = HEADER.pack(FORMAT, SEGMENT, *version)
    segment, parts = segments, [header]
    if last is not None and len(last) < FULL_BYTES:
        segment = segments - 1
        parts.append(last[HEADER.size :])
    size = sum(map(len, parts))
    changes: list[Change] = []
    places = []
    for fact in facts:
        if size > LARGEST_BYTES:
            changes.append(Change(segment_key(segment), b"".join(parts)))
            segment, parts, size = segment + 1, [header], len(header)
        places.append((segment, size))
        encoded = _encode(fact)
        parts += _parts(encoded)
        size += _LENGTH.size + len(encoded)
    if facts:
        changes.append(Change(segment_key(segment), b"".join(parts)))
    return changes, places


def _parts(encoded: bytes) -> tuple[bytes, bytes]:
    return _LENGTH.pack(len(encoded)), encoded
