"""Masks as bytes and back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.ledger.cells import pack, pack_rows, unpack, unpack_rows


@given(
    st.tuples(st.integers(0, 3), st.integers(0, 5), st.integers(0, 40)), st.tuples(st.integers(0, 2), st.integers(0, 9)),
    st.integers(0, 2**32), st.floats(0, 1),
)  # fmt: skip
@settings(deadline=None)
def test_what_was_packed_comes_out_without_what_there_is_only_room_for(
    shape: tuple[int, int, int], room: tuple[int, int], seed: int, share: float
) -> None:
    (panes, features, users), (more_features, more_users) = shape, room
    dice = np.random.default_rng(seed)
    there = panes, features + more_features, users + more_users
    masks = dice.integers(0, 2**64, there, np.uint64) * (dice.random(there) < share).astype(np.uint64)
    assert (unpack(pack(masks, features, users)) == masks[:, :features, :users]).all()


@given(st.integers(1, 300), st.lists(st.floats(0, 1), max_size=6), st.integers(0, 2**32))
@settings(deadline=None)
def test_rows_come_out_sorted_in_their_groups(users: int, shares: list[float], seed: int) -> None:
    dice = np.random.default_rng(seed)
    groups = [dice.permutation(np.flatnonzero(dice.random(users) < share)).astype(np.int32) for share in shares]
    counts = np.array([len(group) for group in groups], np.int64)
    rows = np.concatenate([*groups, np.empty(0, np.int32)])
    found = unpack_rows(pack_rows(rows, counts, users), counts)
    assert found.tolist() == [row for group in groups for row in sorted(group.tolist())]


@pytest.mark.parametrize("apart", [255, 256, 70_000])
def test_cells_may_be_any_distance_apart(apart: int) -> None:
    masks = np.zeros((1, 2, 3 * apart + 1), np.uint64)
    masks[0, :, ::apart] = 2**63 + 1
    assert (unpack(pack(masks, *masks.shape[1:])) == masks).all()


def test_bytes_that_are_0_everywhere_are_left_out() -> None:
    masks = np.zeros((2, 3, 1000), np.uint64)
    masks[0, 1, :] = np.uint64(1) << np.uint64(8)
    cells = pack(masks, 3, 1000)
    assert len(cells.bits) == 1000 and np.frombuffer(cells.planes, "<u2").tolist() == [1]
