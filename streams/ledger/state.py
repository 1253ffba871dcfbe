"""A scope's state as changelog records: a base now and then, what was new in each flush as deltas on top of it.

A value is a header (format, kind, epoch, revision) and a body. The epoch goes up each time a worker takes a partition
over, the revision with every change of the scope, so of two values of one key the higher (epoch, revision) stands,
whichever was written last: a worker that was paused and wakes up overwrites nothing. A base is one value, or a head and
parts of at most 480 kB; parts alternate between two sets of keys, so a crash between parts leaves the old base whole.
Deltas name the base they stand on; others are left out. What does not fit into one delta goes into several.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
import zstandard
from msgspec import Struct

from streams.ledger.cells import Cells, pack, pack_rows, unpack, unpack_rows
from streams.ledger.kernels import PANE
from streams.ledger.names import Names
from streams.ledger.records import Change, PingKey, ScopeKey
from streams.ledger.scope import NEVER, READ_HERE, Scope
from streams.ledger.usage import Entries
from streams.ledger.watermarks import Heard

FORMAT = 2
HEADER = struct.Struct(">BBIQ")
VERSION = slice(2, HEADER.size)
"""Bytes of a value that compare as its version."""
EPOCH = slice(2, 6)
"""And those that compare as its epoch."""

BASE, PART, DELTA, PARTITION = 1, 2, 3, 4

MAX_VALUE = 512 * 1024
PART_BYTES = 480 * 1024
FEW_DELTAS = 8
DELTA_SHARE = 1024
"""A base bears 8 deltas, a large one another for each kB, and half as many bytes of deltas as it has itself: few, because
recovery costs by the record; not none, because a base repeats what has not changed."""

SMALL_BASE = 8 * 1024
PACKED = 1024
"""From this number of new bits on they are sorted and packed; from this number of bytes on a delta is."""

SMALL_MASKS = 16 * 1024
"""Masks of up to so many bytes are left to the compressor as they are: a small base is made often, and fast."""

SHORT_ROWS = 0x10000
"""The rows of so many users are numbers of 16 bits."""

MAX_DELTA_COLUMNS = 0xFFFF
"""A delta has 16 bits for a feature's column."""

WORTH_EMPTYING = 1024
ZSTD = b"\x28\xb5\x2f\xfd"

SMALL_DELTA = 4 * 1024
"""A delta of up to so many bytes is left as it is: packing takes longer than making it."""

DELTA_ROWS = 80_000
DELTA_USERS = 40_000
"""New bits and new users in one delta, of 4 and 8 bytes."""

_encode = msgspec.msgpack.Encoder().encode


class StateError(Exception):
    """State that cannot be used: of a newer program, under another pseudonym key, or with a part missing."""


@contextmanager
def readable() -> Iterator[None]:
    """Reading of a record: what is no state is a StateError, whatever a decoder makes of it."""
    try:
        yield
    except (msgspec.MsgspecError, struct.error, zstandard.ZstdError, ValueError, LookupError) as exc:
        raise StateError(
            f"a record of the state in the changelog cannot be read ({type(exc).__name__}): it was not written by this program, "
            "or was damaged; docs/operations.md says how to start over"
        ) from exc


class Version(NamedTuple):
    """Version of a value and of the rows made from it."""

    epoch: int
    revision: int

    @property
    def row(self) -> int:
        """As one number for ClickHouse: 24 bits of epoch, 40 of revision."""
        return self.epoch << 40 | self.revision


class Base(Struct, array_like=True):
    """Body of a base. It has `masks` or, from format 2 on, `cells`; `deliveries` goes with `recent`."""

    population: str
    scope_id: str
    features: list[tuple[str, str]]
    users: bytes
    first_pane: int
    shape: tuple[int, int, int]
    masks: bytes
    sessions: list[tuple[int, int, int]]
    oldest: int
    newest: int
    pings: list[tuple[str, str, str, bytes]]
    recent: list[tuple[str, str, str, int, int, int]]
    written_to: int
    dirty_from: int
    cells: Cells | None = None
    floor: int = NEVER
    deliveries: list[int] = []


class Head(Struct, array_like=True):
    """Body of a BASE record: the packed base itself, or how many parts it has and in which set of keys."""

    parts: int
    parity: int
    packed: bytes


class Delta(Struct, array_like=True):
    """Body of a delta: what a flush added. `deliveries` goes with `pings`; `packed`: `rows` is what `pack_rows` made."""

    base_epoch: int
    base_revision: int
    written_to: int
    dirty_from: int
    features: list[tuple[str, str]]
    users: bytes
    days: bytes
    columns: bytes
    lengths: bytes
    rows: bytes
    sessions: list[tuple[int, int, int]]
    pings: list[tuple[str, str, str, int, int, int]]
    deliveries: list[int] = []
    packed: bool = False


class PartitionState(Struct, array_like=True):
    """Body of a partition's own record.

    newest_before: (offset, newest timestamp before it) at the ends of the last batches.
    rolled_to: last day that the as-of clock has written for every scope.
    heard: the watermarks that are known.
    fingerprint: of the key that users are pseudonymised with; b"" while it is not known.
    settled: the epoch is known to be above those of the sink's rows.
    generation: of the consumer group in which the epoch began.
    """

    newest_before: list[tuple[int, int]]
    rolled_to: int
    heard: list[Heard] = []
    fingerprint: bytes = b""
    settled: bool = False
    generation: int = 0


_base_decoder = msgspec.msgpack.Decoder(Base)
_head_decoder = msgspec.msgpack.Decoder(Head)
_delta_decoder = msgspec.msgpack.Decoder(Delta)
_partition_decoder = msgspec.msgpack.Decoder(PartitionState)


def scope_digest(key: ScopeKey) -> bytes:
    """16 bytes that stand for a scope in keys."""
    return hashlib.blake2b(f"{key.population}\0{key.scope_id}".encode(), digest_size=16).digest()


def head_key(digest: bytes) -> bytes:
    """Key of a scope's base."""
    return b"s" + digest + b"b"


def partition_key(partition: int) -> bytes:
    """Key of a partition's own record."""
    return b"p" + partition.to_bytes(4, "big")


def digest_of(key: bytes) -> bytes | None:
    """The scope that a key belongs to; None for a partition's record."""
    return key[1:17] if key[:1] == b"s" else None


def _delta_key(digest: bytes, slot: int) -> bytes:
    return b"s" + digest + b"d" + slot.to_bytes(1 if slot < 256 else 2, "big")


def _part_key(digest: bytes, parity: int, part: int) -> bytes:
    return b"s" + digest + b"p" + struct.pack(">BH", parity, part)


def version_of(value: bytes) -> Version:
    """The version in a value's header."""
    with readable():
        form, _, epoch, revision = HEADER.unpack_from(value)
    if form > FORMAT:
        raise StateError(
            f"the state in the changelog has format {form}, this program reads up to {FORMAT}: run the newer version again"
        )
    return Version(epoch, revision)


def encode_partition(epoch: int, revision: int, state: PartitionState) -> bytes:
    """A partition's own record."""
    return HEADER.pack(FORMAT, PARTITION, epoch, revision) + _encode(state)


def decode_partition(value: bytes) -> tuple[Version, PartitionState]:
    """What `encode_partition` made."""
    version = version_of(value)
    with readable():
        return version, _partition_decoder.decode(memoryview(value)[HEADER.size :])


class Packer:
    """Makes the changelog records of scopes. Holds compressors, which are costly to make."""

    def __init__(self) -> None:
        self._pack = zstandard.ZstdCompressor(level=1).compress
        self._unpack = zstandard.ZstdDecompressor().decompress

    def changes(
        self,
        scope: Scope,
        epoch: int,
        entries: Entries | None,
        chosen: npt.NDArray[np.int64],
        rows: npt.NDArray[np.int32],
        sessions: list[tuple[int, int, int]],
    ) -> list[Change]:
        """Records for what a flush added to a scope; the scope's revision must have been raised for it.

        Args:
            entries, chosen, rows: the entries in which something was new, by number, and the new rows, joined.
            sessions: (day, column, number) that were raised.
        """
        scope.epoch = epoch
        deltas = (
            self._deltas(scope, epoch, entries, chosen, rows, sessions)
            if self._bears_deltas(scope, epoch, rows)
            else []
        )
        if (
            not deltas
            or len(scope.deltas) + len(deltas) > max(FEW_DELTAS, scope.base_bytes // DELTA_SHARE)
            or sum(map(len, deltas)) + sum(scope.deltas) > _most_deltas(scope)
            or max(map(len, deltas)) > PART_BYTES
        ):
            return self.base(scope, epoch)
        scope.revision += len(deltas) - 1
        scope.written_features, scope.written_users = len(scope.ledger.features), scope.ledger.count
        changes = [
            Change(_delta_key(scope.digest, slot), value) for slot, value in enumerate(deltas, len(scope.deltas))
        ]
        scope.deltas += map(len, deltas)
        return changes

    def bears(self, scope: Scope, epoch: int, size: int) -> bool:
        """Whether what is new fits on the scope's base as one small delta, whose body has `size` bytes: of bits of known features."""
        return (
            size <= SMALL_DELTA
            and scope.base is not None
            and scope.base[0] == epoch
            and scope.written_features == len(scope.ledger.features)
            and scope.ledger.count <= SHORT_ROWS
            and len(scope.deltas) < max(FEW_DELTAS, scope.base_bytes // DELTA_SHARE)
            and HEADER.size + size + sum(scope.deltas) <= _most_deltas(scope)
        )

    def delta(self, scope: Scope, epoch: int, body: bytes) -> Change:
        """The record of a small delta that is made already; the scope's revision must have been raised for it."""
        value = HEADER.pack(FORMAT, DELTA, epoch, scope.revision) + body
        change = Change(_delta_key(scope.digest, len(scope.deltas)), value)
        scope.deltas.append(len(value))
        scope.written_users = scope.ledger.count
        return change

    def _bears_deltas(self, scope: Scope, epoch: int, rows: npt.NDArray[np.int32]) -> bool:
        """Whether there is a base of this owner that what is new may fit on."""
        if scope.base is None or scope.base[0] != epoch or len(scope.ledger.features) > MAX_DELTA_COLUMNS:
            return False
        return 8 * (scope.ledger.count - scope.written_users) + len(rows) <= _most_deltas(scope)

    def _deltas(
        self,
        scope: Scope,
        epoch: int,
        entries: Entries | None,
        chosen: npt.NDArray[np.int64],
        rows: npt.NDArray[np.int32],
        sessions: list[tuple[int, int, int]],
    ) -> list[bytes]:
        """What a flush added, as the values of one delta or of several, each with a revision of its own."""
        assert scope.base is not None
        ledger = scope.ledger
        row_type = _row_type(ledger.count)
        users = ledger.users[scope.written_users : ledger.count]
        features = ledger.features[scope.written_features :]
        recent, deliveries = _recent(scope)
        if len(rows) <= DELTA_ROWS and len(users) <= DELTA_USERS:
            pieces = [(users, chosen, entries.new_counts[chosen] if entries is not None else chosen, rows)]
        else:
            assert entries is not None
            owners = np.repeat(chosen, entries.new_counts[chosen])
            pieces = [(users[at : at + DELTA_USERS], *_no_rows()) for at in range(0, len(users), DELTA_USERS)]
            for at in range(0, len(rows), DELTA_ROWS):
                some, counts = np.unique(owners[at : at + DELTA_ROWS], return_counts=True)
                pieces.append((users[:0], some, counts, rows[at : at + DELTA_ROWS]))
        values = []
        for number, (new, some, counts, some_rows) in enumerate(pieces):
            packed = len(some_rows) >= PACKED
            body = Delta(
                *scope.base,
                scope.written_to,
                scope.dirty_from,
                [] if number else features,
                new.tobytes(),
                entries.days[some].astype("<i4").tobytes() if entries is not None else b"",
                entries.columns[some].astype("<u2").tobytes() if entries is not None else b"",
                counts.astype("<u4").tobytes(),
                pack_rows(some_rows, counts, ledger.count) if packed else some_rows.astype(row_type).tobytes(),
                [] if number else sessions,
                recent,
                deliveries,
                packed,
            )
            value = _encode(body)
            if len(value) >= PACKED:
                value = min(value, self._pack(value), key=len)
            values.append(HEADER.pack(FORMAT, DELTA, epoch, scope.revision + number) + value)
        return values

    def base(self, scope: Scope, epoch: int) -> list[Change]:
        """Records of a new base; the scope's revision must have been raised for it."""
        ledger = scope.ledger
        scope.stale |= ledger.forget_before(scope.final_before)
        masks = ledger.masks[:, : len(ledger.features), : ledger.count]
        known = np.argwhere(ledger.sessions[:, :, : len(ledger.features)] >= 0).tolist() if ledger.sessions.size else []
        recent, deliveries = _recent(scope)
        small = masks.nbytes <= SMALL_MASKS
        packed = self._pack(
            _encode(
                Base(
                    *scope.key,
                    ledger.features,
                    ledger.users[: ledger.count].tobytes(),
                    ledger.first_pane,
                    masks.shape,
                    masks.tobytes() if small else b"",
                    [
                        ((pane + ledger.first_pane) * PANE + day, column, int(ledger.sessions[pane, day, column]))
                        for pane, day, column in known
                    ],
                    ledger.oldest,
                    ledger.newest,
                    [(*key, times) for key, times in scope.pings.items()],
                    recent,
                    scope.written_to,
                    scope.dirty_from,
                    None if small else pack(ledger.masks, len(ledger.features), ledger.count),
                    ledger.floor,
                    deliveries,
                )
            )
        )
        header = HEADER.pack(FORMAT, BASE, epoch, scope.revision)
        old_parts, old_parity = scope.parts, scope.parity
        pieces = (
            [packed[at : at + PART_BYTES] for at in range(0, len(packed), PART_BYTES)]
            if len(packed) > PART_BYTES
            else []
        )
        changes: list[Change] = []
        if pieces:
            scope.parity ^= 1
            part_header = HEADER.pack(FORMAT, PART, epoch, scope.revision)
            changes += [
                Change(_part_key(scope.digest, scope.parity, part), part_header + piece)
                for part, piece in enumerate(pieces)
            ]
        head = header + _encode(Head(len(pieces), scope.parity, b"" if pieces else packed))
        changes.append(Change(head_key(scope.digest), head))
        changes += [
            Change(_part_key(scope.digest, old_parity, part), HEADER.pack(FORMAT, PART, epoch, scope.revision))
            for part in range(old_parts)  # emptied, not deleted: a delete has no version
        ]
        changes += [
            Change(_delta_key(scope.digest, slot), HEADER.pack(FORMAT, DELTA, epoch, scope.revision))
            for slot, size in enumerate(scope.deltas)
            if size > WORTH_EMPTYING
        ]
        scope.parts = len(pieces)
        scope.base, scope.base_bytes, scope.deltas = (epoch, scope.revision), len(packed), []
        scope.written_features, scope.written_users = len(ledger.features), ledger.count
        for change in changes:
            assert len(change.value) <= MAX_VALUE
        return changes

    def load(self, digest: bytes, values: dict[bytes, bytes], names: Names) -> Scope:
        """A scope from its records.

        Raises:
            StateError: a part or a delta is missing, or a newer program wrote it, or it cannot be read.
        """
        with readable():
            return self._load(digest, values, names)

    def _load(self, digest: bytes, values: dict[bytes, bytes], names: Names) -> Scope:
        value = values[head_key(digest)]
        version = version_of(value)
        head = _head_decoder.decode(memoryview(value)[HEADER.size :])
        packed = head.packed or b"".join(
            self._part(values, digest, head.parity, part, version) for part in range(head.parts)
        )
        base = _base_decoder.decode(self._unpack(packed))
        scope = Scope(ScopeKey(base.population, base.scope_id), digest)
        scope.base, scope.base_bytes = (version.epoch, version.revision), len(packed)
        scope.epoch = version.epoch
        scope.parts, scope.parity = head.parts, head.parity
        self._load_base(scope, base, names)
        deltas = sorted(
            (version_of(found), found)
            for key, found in values.items()
            if key[:18] == _delta_key(digest, 0)[:18] and len(found) > HEADER.size
        )
        scope.revision = version.revision
        for delta_version, found in deltas:
            body = found[HEADER.size :]
            delta = _delta_decoder.decode(self._unpack(body) if body.startswith(ZSTD) else body)
            if (delta.base_epoch, delta.base_revision) != tuple(version):
                continue
            if delta_version != (version.epoch, scope.revision + 1):
                raise StateError(f"a change of the state is missing in the changelog: revision {scope.revision + 1}")
            scope.revision = delta_version.revision
            scope.deltas.append(len(found))
            self._load_delta(scope, delta, names)
        scope.written_features, scope.written_users = len(scope.ledger.features), scope.ledger.count
        scope.unsure = True
        return scope

    def _part(self, values: dict[bytes, bytes], digest: bytes, parity: int, part: int, version: Version) -> bytes:
        value = values.get(_part_key(digest, parity, part))
        if value is None or version_of(value) != version:
            raise StateError(f"part {part} of a scope's state is missing in the changelog")
        return value[HEADER.size :]

    def _load_base(self, scope: Scope, base: Base, names: Names) -> None:
        ledger = scope.ledger
        ledger.append_users(np.frombuffer(base.users, "<u8"))
        for stage, feature in base.features:
            ledger.column(stage, feature, names)
        panes, features, users = base.shape
        if panes:
            ledger.open_days(base.first_pane * PANE, (base.first_pane + panes) * PANE - 1)
            ledger.masks[:, :features, :users] = (
                unpack(base.cells) if base.cells else np.frombuffer(base.masks, "<u8").reshape(base.shape)
            )
        ledger.floor = base.floor
        ledger.oldest, ledger.newest = base.oldest, base.newest
        for day, column, number in base.sessions:
            ledger.raise_sessions(day, column, number)
        for *key, times in base.pings:
            scope.pings.load(PingKey(*key), times)
        _load_recent(scope, base.recent, base.deliveries)
        scope.written_to, scope.dirty_from = base.written_to, base.dirty_from

    def _load_delta(self, scope: Scope, delta: Delta, names: Names) -> None:
        ledger = scope.ledger
        for stage, feature in delta.features:
            ledger.column(stage, feature, names)
        ledger.append_users(np.frombuffer(delta.users, "<u8"))
        lengths = np.frombuffer(delta.lengths, "<u4").astype(np.int64)
        rows = unpack_rows(delta.rows, lengths) if delta.packed else np.frombuffer(delta.rows, _row_type(ledger.count))
        columns = np.frombuffer(delta.columns, "<u2").astype(np.int64)
        if len(rows) and (rows.max() >= ledger.count or columns.max() >= len(ledger.features)):
            raise StateError("a change of the state in the changelog names users or features that are not in it")
        ledger.fold_rows(np.frombuffer(delta.days, "<i4").astype(np.int64), columns, lengths, rows.astype(np.int32))
        for day, column, number in delta.sessions:
            ledger.raise_sessions(day, column, number)
        _load_recent(scope, delta.pings, delta.deliveries)
        scope.written_to, scope.dirty_from = delta.written_to, delta.dirty_from


def _recent(scope: Scope) -> tuple[list[tuple[str, str, str, int, int, int]], list[int]]:
    recent = scope.pings.recent
    return (
        [(*key, recorded_at, partition, offset) for key, recorded_at, (partition, offset, _) in recent],
        [delivery for _, _, (_, _, delivery) in recent],
    )


def _load_recent(scope: Scope, recent: list[tuple[str, str, str, int, int, int]], deliveries: list[int]) -> None:
    scope.pings.load_recent(
        [
            (PingKey(uuid, hostname, namespace_id), recorded_at, (partition, offset, delivery))
            for (uuid, hostname, namespace_id, recorded_at, partition, offset), delivery in zip(
                recent, deliveries or [READ_HERE] * len(recent), strict=True
            )
        ]
    )


def _most_deltas(scope: Scope) -> int:
    """Bytes of deltas that a scope's base bears."""
    return max(scope.base_bytes // 2, SMALL_BASE)


def _no_rows() -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int32]]:
    return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.int32)


def _row_type(users: int) -> str:
    return "<u2" if users <= SHORT_ROWS else "<u4"
