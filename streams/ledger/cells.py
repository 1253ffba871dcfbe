"""Masks as bytes that pack well: the cells that hold a bit, in the order of features and users, as planes of bytes.

Most users use few features and most days lie outside of what is kept, so whole cells and whole bytes are 0. A cell is named
by its distance from the one before it in its feature; the n-th bytes of all masks lie side by side, where a compressor sees
what they have in common.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from streams.ledger.kernels import cut_bytes, find_cells, sort_rows

Masks = npt.NDArray[np.uint64]


class Cells(Struct, array_like=True):
    """The cells of masks [panes, features, users].

    Attributes:
        shape: of the masks.
        counts: cells of each feature, 32-bit.
        steps: distance of each cell's user from the feature's cell before it, in planes of bytes, the lowest first.
        planes: numbers of the bytes that are not 0 in all cells: pane * 8 + byte.
        bits: those bytes of every cell, a plane after the other.
    """

    shape: tuple[int, int, int]
    counts: bytes
    steps: bytes
    planes: bytes
    bits: bytes


def pack_rows(rows: npt.NDArray[np.int32], counts: npt.NDArray[np.int64], users: int) -> bytes:
    """Row numbers of so many users, in groups of `counts`, each once in its group: sorted, as planes of bytes of their distances,
    the lowest first."""
    steps = np.empty(len(rows), "<u4")
    sort_rows(rows, counts, users, steps)
    return _planes(steps)


def _planes(steps: npt.NDArray[np.uint32]) -> bytes:
    """Numbers as planes of bytes, the lowest first, as many as the largest needs."""
    width = max(1, (int(steps.max(initial=0)).bit_length() + 7) // 8)
    return steps.view(np.uint8).reshape(-1, 4).T[:width].tobytes()


def unpack_rows(data: bytes, counts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """What `pack_rows` was given, sorted."""
    number = int(counts.sum())
    if not number:
        return np.empty(0, np.int64)
    planes = np.frombuffer(data, np.uint8).reshape(-1, number)
    steps = np.zeros((number, 4), np.uint8)
    steps[:, : len(planes)] = planes.T
    walked = np.cumsum(steps.view("<u4").ravel().astype(np.int64))
    firsts = np.cumsum(counts) - counts
    before = np.where(firsts > 0, walked[np.maximum(firsts - 1, 0)], 0)
    rows: npt.NDArray[np.int64] = walked - np.repeat(before, counts)
    return rows


def pack(masks: Masks, features: int, users: int) -> Cells:
    """The cells of so many features and users of masks [panes, features, users], uint64."""
    panes, room = masks.shape[0], features * users
    counts, steps, words = np.empty(features, "<u4"), np.empty(room, "<u4"), np.empty((panes, room), np.uint64)
    number = find_cells(masks, features, users, counts, steps, words)
    kept: list[int] = []
    bits: list[bytes] = []
    plane = np.empty(number, np.uint8)
    for pane in range(panes):
        of_pane = words[pane, :number]
        seen = int(np.bitwise_or.reduce(of_pane))
        for byte in range(8):
            if seen >> 8 * byte & 0xFF:
                cut_bytes(of_pane, byte, plane)
                kept.append(pane * 8 + byte)
                bits.append(plane.tobytes())
    return Cells(
        (panes, features, users),
        counts.tobytes(),
        _planes(steps[:number]),
        np.array(kept, "<u2").tobytes(),
        b"".join(bits),
    )


def unpack(cells: Cells) -> Masks:
    """What `pack` was given, of so many features and users."""
    panes, features, users = cells.shape
    counts = np.frombuffer(cells.counts, "<u4").astype(np.int64)
    masks = np.zeros((panes, features, users), np.uint64)
    number = int(counts.sum())
    if not number:
        return masks
    columns = np.repeat(np.arange(features), counts)
    bits = np.frombuffer(cells.bits, np.uint8).reshape(-1, number)
    words = np.zeros((panes, number, 8), np.uint8)
    for plane, values in zip(np.frombuffer(cells.planes, "<u2").tolist(), bits, strict=True):
        words[plane // 8, :, plane % 8] = values
    masks[:, columns, unpack_rows(cells.steps, counts)] = words.view("<u8")[:, :, 0]
    return masks
