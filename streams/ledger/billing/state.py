"""An account's state as changelog records: its events, in the order in which they came, in pieces.

Nothing in it is derived, and no event ever leaves it: a new one goes into the last piece, so what a flush writes of an account
does not grow with its history. A piece that is full is closed, compressed, and never written again. A value is a header (as
`streams.ledger.state` has it: format, kind, epoch, revision) and a body; the version is the book's when the piece was written.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator, Mapping

import msgspec
import zstandard
from msgspec import Struct

from schemas.billing import BillingEvent
from streams.ledger.records import Change
from streams.ledger.scope import READ_HERE
from streams.ledger.state import HEADER, StateError, Version

FORMAT = 1
OPEN, CLOSED, PARTITION = 1, 2, 3

PIECE_BYTES = 4 * 1024
"""A piece is closed when it has more than this: what a flush writes of an account that goes on for years."""

_COUNT = struct.Struct(">I")
_ARRAY = struct.Struct(">BI")


class Fact(Struct, array_like=True, frozen=True, gc=False):
    """An event, and where it came from: partition and offset in the source topic; its offset in the internal one, if it came
    by it."""

    event: BillingEvent
    partition: int
    offset: int
    delivery: int = READ_HERE


class PartitionState(Struct, array_like=True):
    """Body of a partition's own record.

    read_to: offset after the last message of the source topic that was read; -1 when none was.
    rolled_to: the as-of day up to which rows are written.
    written: version (epoch, revision) up to which the rows of all accounts are written.
    settled: the epoch is known to be above those of the sink's rows.
    """

    read_to: int
    rolled_to: int
    written: tuple[int, int]
    settled: bool


_encode = msgspec.msgpack.Encoder().encode
_facts = msgspec.msgpack.Decoder(list[Fact])
_partition = msgspec.msgpack.Decoder(PartitionState)
_compress = zstandard.ZstdCompressor(level=3).compress
_decompress = zstandard.ZstdDecompressor().decompress


def account_digest(account_id: str) -> bytes:
    """16 bytes that stand for an account in keys."""
    return hashlib.blake2b(account_id.encode(), digest_size=16).digest()


def piece_key(digest: bytes, piece: int) -> bytes:
    """Key of a piece of an account, from 0 on."""
    return b"a" + digest + piece.to_bytes(4, "big")


def partition_key(partition: int) -> bytes:
    """Key of a partition's own record."""
    return b"p" + partition.to_bytes(4, "big")


def piece_of(key: bytes) -> tuple[bytes, int] | None:
    """(digest, piece) of a key; None for a partition's record."""
    return (key[1:17], int.from_bytes(key[17:21], "big")) if key[:1] == b"a" else None


def version_of(value: bytes) -> Version:
    """The version in a value's header.

    Raises:
        StateError: a newer program wrote it.
    """
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
    return version_of(value), _partition.decode(memoryview(value)[HEADER.size :])


def read_piece(value: bytes) -> list[Fact]:
    """The facts of a piece, in the order in which they came."""
    version_of(value)
    count, body = _body(value)
    return _facts.decode(_ARRAY.pack(0xDD, count) + body)


def _body(value: bytes) -> tuple[int, bytes]:
    body = value[HEADER.size :]
    if value[1] == CLOSED:
        body = _decompress(body)
    return _COUNT.unpack_from(body)[0], body[_COUNT.size :]


def read_facts(values: Mapping[bytes, bytes], digest: bytes, pieces: int) -> Iterator[Fact]:
    """All facts of an account, in the order in which they came.

    Raises:
        StateError: a piece is missing, or a newer program wrote it.
    """
    for piece in range(pieces):
        value = values.get(piece_key(digest, piece))
        if value is None:
            raise StateError(f"piece {piece} of {pieces} of an account is missing in the changelog")
        yield from read_piece(value)


def append(
    digest: bytes, pieces: int, last: bytes | None, facts: list[Fact], version: Version
) -> tuple[list[Change], int]:
    """Writes an account's new facts behind those it has.

    Args:
        pieces: how many there are, the last of them with the value `last`.
        facts: new ones; none writes the last piece again, under the new version.

    Returns:
        Changes for the changelog, and how many pieces there are now.
    """
    count, body, piece = 0, b"", pieces
    if last is not None:
        closed = last[1] == CLOSED
        if not facts or not closed:
            count, body = _body(last)
            piece = pieces - 1
    changes = []
    parts, size = [body], len(body)
    for fact in facts:
        if size > PIECE_BYTES:
            changes.append(_piece(digest, piece, count, b"".join(parts), version))
            piece, count, parts, size = piece + 1, 0, [], 0
        encoded = _encode(fact)
        parts.append(encoded)
        size += len(encoded)
        count += 1
    changes.append(_piece(digest, piece, count, b"".join(parts), version))
    return changes, piece + 1


def _piece(digest: bytes, piece: int, count: int, body: bytes, version: Version) -> Change:
    content = _COUNT.pack(count) + body
    if len(body) > PIECE_BYTES:
        value = HEADER.pack(FORMAT, CLOSED, *version) + _compress(content)
    else:
        value = HEADER.pack(FORMAT, OPEN, *version) + content
    return Change(piece_key(digest, piece), value)
