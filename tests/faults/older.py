"""State as an older program kept it: what is in the changelogs, written again in format 1."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import Any

import msgspec
import numpy as np
import zstandard
from aiokafka.structs import ConsumerRecord

from schemas.billing_digest import digest_before
from streams.ledger import cells
from streams.ledger.billing import state as billing
from streams.ledger.billing.book import Book, Rules
from streams.ledger.state import (
    BASE,
    DELTA,
    HEADER,
    PARTITION,
    ZSTD,
    Base,
    Delta,
    Head,
    PartitionState,
    decode_partition,
)
from tests.faults.state import values

OLDER = 1
Keys = dict[tuple[int, bytes], bytes]
"""Value by partition and key."""

_encode = msgspec.msgpack.encode


def older_usage(changelog: Iterable[ConsumerRecord]) -> Keys:
    """Masks where there are cells now, rows that are not packed, and none of the fields that came later."""
    return {(partition, key): _usage(value) for partition, some in values(changelog) for key, value in some.items()}


def _usage(value: bytes) -> bytes:
    _, kind, *version = HEADER.unpack_from(value)
    header, body = HEADER.pack(OLDER, kind, *version), value[HEADER.size :]
    if kind == PARTITION:
        _, state = decode_partition(value)
        return header + _encode(_without(state, PartitionState, "settled"))
    if kind == DELTA and body:
        delta = msgspec.msgpack.decode(_unpacked(body), type=Delta)
        if delta.packed:
            lengths = np.frombuffer(delta.lengths, "<u4").astype(np.int64)
            delta.rows = cells.unpack_rows(delta.rows, lengths).astype("<u2").tobytes()
        return header + _encode(_without(delta, Delta, "deliveries"))
    if kind == BASE:
        head = msgspec.msgpack.decode(body, type=Head)
        if not head.parts:
            base = msgspec.msgpack.decode(_unpacked(head.packed), type=Base)
            if base.cells is not None:
                base.masks = cells.unpack(base.cells).tobytes()
            head.packed = zstandard.compress(_encode(_without(base, Base, "cells")))
            return header + _encode(head)
    return header + body


def older_billing(changelog: Iterable[ConsumerRecord], sent: Mapping[tuple[int, int], bytes]) -> Keys:
    """A piece an account where there are segments now, with the digests of then.

    Args:
        sent: the messages by their partition and offset in the source topic.
    """
    found: Keys = {}
    for partition, some in values(changelog):
        version, state = billing.decode_partition(some[billing.partition_key(partition)])
        found[partition, billing.partition_key(partition)] = HEADER.pack(OLDER, billing.PARTITION, *version) + _encode(
            _without(state, billing.PartitionState, "generation")
        )
        book = Book(partition, some, Rules())
        facts: dict[str, list[bytes]] = defaultdict(list)
        for key in sorted(filter(billing.is_segment, some)):
            for place, account_id, _ in billing.heads(some[key]):
                fact = billing.read_fact(some[key], place)
                digest = digest_before(sent[fact.partition, fact.offset])
                event = msgspec.structs.replace(fact.event, digest=digest)
                facts[account_id].append(_encode((event, fact.partition, fact.offset)))
        assert facts.keys() == set(book.accounts)
        for account_id, some_facts in facts.items():
            key = b"a" + blake2b(account_id.encode(), digest_size=16).digest() + (0).to_bytes(4, "big")
            header = HEADER.pack(OLDER, billing.OPEN_PIECE, *version)
            found[partition, key] = header + len(some_facts).to_bytes(4, "big") + b"".join(some_facts)
    return found


def _without(struct: Any, kind: type[Any], first: str) -> list[Any]:
    """The fields before one that came later, and nothing behind it."""
    names = kind.__struct_fields__
    return [getattr(struct, name) for name in names[: names.index(first)]]


def _unpacked(body: bytes) -> bytes:
    return zstandard.decompress(body) if body.startswith(ZSTD) else body
