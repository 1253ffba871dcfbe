"""GitLab.com's users over its shards."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest

from streams.ledger import sharing
from streams.ledger.forwarding import Share, decode
from streams.ledger.sharing import Shares, shard_of

CELLS = [(20_000, "create", "wiki"), (20_001, "plan", "issues"), (20_000, "create", "wiki")]


def told(shares: Shares, partitions: int) -> dict[int, list[tuple[int, str, str, list[int]]]]:
    """What goes to each shard, record after record."""
    out: dict[int, list[tuple[int, str, str, list[int]]]] = defaultdict(list)
    for forward in shares.forwards(partitions, 7):
        assert forward.timestamp == 7 and forward.partition is not None
        share = decode(forward.value)
        assert isinstance(share, Share)
        for entry in share.entries:
            out[forward.partition].append(
                (entry.day, entry.stage, entry.feature, np.frombuffer(entry.users, "<u8").tolist())
            )
    return out


@pytest.mark.parametrize("partitions", [1, 3, 4])
def test_every_user_goes_to_one_shard_once(partitions: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharing, "SHARE_USERS", 50)
    ids = np.random.default_rng(1).integers(0, 2**64, 600, np.uint64)
    shares = Shares()
    shares.add(CELLS[:2], np.array([300, 300]), ids)
    shares.add(CELLS[2:], np.array([300]), ids[:300])  # the same users by another group
    found: dict[tuple[int, str, str], list[int]] = defaultdict(list)
    for shard, entries in told(shares, partitions).items():
        for day, stage, feature, users in entries:
            assert set(shard_of(np.array(users, np.uint64), partitions).tolist()) == {shard}
            found[day, stage, feature] += users
    assert {cell: sorted(users) for cell, users in found.items()} == {
        CELLS[0]: sorted(ids[:300].tolist()), CELLS[1]: sorted(ids[300:].tolist()),
    }  # fmt: skip


def test_shards_are_about_as_large_as_each_other_and_none_is_out_of_range() -> None:
    ids = np.append(np.random.default_rng(2).integers(0, 2**64, 40_000, np.uint64), np.array([0, 2**64 - 1], np.uint64))
    for partitions in (1, 3, 1024):
        counts = np.bincount(shard_of(ids, partitions), minlength=partitions)
        assert len(counts) == partitions
    assert (np.bincount(shard_of(ids, 4)) > 9_500).all()


def test_nothing_to_tell_is_no_record() -> None:
    assert not list(Shares().forwards(4, 0))
