"""Masks as bytes and back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.ledger.cells import pack, unpack


@given(st.tuples(st.integers(0, 3), st.integers(0, 5), st.integers(0, 40)), st.integers(0, 2**32), st.floats(0, 1))
@settings(deadline=None)
def test_what_was_packed_comes_out(shape: tuple[int, int, int], seed: int, share: float) -> None:
    dice = np.random.default_rng(seed)
    masks = dice.integers(0, 2**64, shape, np.uint64) * (dice.random(shape) < share).astype(np.uint64)
    assert (unpack(pack(masks)) == masks).all()


@pytest.mark.parametrize("apart", [255, 256, 70_000])
def test_cells_may_be_any_distance_apart(apart: int) -> None:
    masks = np.zeros((1, 2, 3 * apart + 1), np.uint64)
    masks[0, :, ::apart] = 2**63 + 1
    assert (unpack(pack(masks)) == masks).all()


def test_bytes_that_are_0_everywhere_are_left_out() -> None:
    masks = np.zeros((2, 3, 1000), np.uint64)
    masks[0, 1, :] = np.uint64(1) << np.uint64(8)
    cells = pack(masks)
    assert len(cells.bits) == 1000 and np.frombuffer(cells.planes, "<u2").tolist() == [1]
