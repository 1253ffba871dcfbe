"""A batch of messages as columns: what the plain ones among them say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from streams.ledger.names import number_of
from streams.ledger.plain import kernels
from streams.ledger.pseudonym import Pseudonymiser

Numbers = npt.NDArray[np.int64]

ENTRY_BYTES: Final = 40
"""An entry has at least so many."""


@dataclass(slots=True)
class PlainPings:
    """Messages by number, and what the plain ones say; see `kernels.read_pings` for the columns.

    Attributes:
        text: the messages side by side, in which `spans` lie.
        ids: pseudonymous.
    """

    text: bytes
    spans: Numbers
    numbers: Numbers
    moments: Numbers
    entry_from: Numbers
    entry_to: Numbers
    first_day: Numbers
    last_day: Numbers
    plain: npt.NDArray[np.bool_]
    days: Numbers
    names: Numbers
    starts: Numbers
    lengths: Numbers
    echoes: Numbers
    ids: npt.NDArray[np.uint64]


class PlainReader:
    """Reads batches, and remembers names of features.

    Attributes:
        names: (stage, feature) by number; digests: the number by which every worker knows it, see `streams.ledger.names`.
    """

    def __init__(self, pseudonymiser: Pseudonymiser, max_bytes: int) -> None:
        self._pseudonymiser = pseudonymiser
        self._max_bytes = max_bytes
        self.names: list[tuple[str, str]] = []
        self.digests = np.empty(0, np.uint64)
        self._places = np.zeros((kernels.NAME_ROOM, kernels.PLACE), np.int64)
        self._places[:, kernels.PLACE - 1] = -1
        self._text = np.empty(kernels.NAME_TEXT, np.uint8)
        self._slots = np.full(2 * kernels.NAME_ROOM, -1, np.int32)
        self._state = np.array([0, 0, 0, 0, -1])

    def read(self, values: Sequence[bytes | None]) -> PlainPings:
        """What each message says, where it is plain."""
        small = [value if value is not None and len(value) <= self._max_bytes else b"" for value in values]
        text = b"".join(small)
        count, room = len(small), len(text) // ENTRY_BYTES + 1
        out = PlainPings(
            text=text,
            spans=np.empty((count, kernels.MD5 + 1, 2), np.int64),
            numbers=np.empty((count, kernels.HISTORICAL + 1), np.int64),
            moments=np.empty(count, np.int64),
            entry_from=np.empty(count, np.int64),
            entry_to=np.empty(count, np.int64),
            first_day=np.empty(count, np.int64),
            last_day=np.empty(count, np.int64),
            plain=np.empty(count, np.bool_),
            days=np.empty(room, np.int64),
            names=np.empty(room, np.int64),
            starts=np.empty(room, np.int64),
            lengths=np.empty(room, np.int64),
            echoes=np.empty(room, np.int64),
            ids=np.empty(len(text) // 2 + 1, np.uint64),
        )
        ends = np.cumsum(np.fromiter(map(len, small), np.int64, count))
        entries, ids = kernels.read_pings(
            np.frombuffer(text, np.uint8), ends, out.spans, out.numbers, out.moments, out.entry_from, out.entry_to,
            out.first_day, out.last_day, out.plain, out.days, out.names, out.starts, out.lengths, out.echoes,
            out.ids, self._places, self._text, self._slots, self._state, np.empty((room, 3), np.int64),
            np.full(1 << room.bit_length(), -1, np.int32),
        )  # fmt: skip
        for column in ("days", "names", "starts", "lengths", "echoes"):
            setattr(out, column, getattr(out, column)[:entries])
        out.ids = out.ids[:ids]
        self._pseudonymiser.integers(out.ids)
        self._learn_names()
        return out

    def _learn_names(self) -> None:
        if len(self.names) == self._state[0]:
            return
        for at, stage, feature in self._places[len(self.names) : self._state[0], :3].tolist():
            joined = self._text[at : at + stage + feature].tobytes().decode()
            self.names.append((joined[:stage], joined[stage:]))
        self.digests = np.array([number_of(*name) for name in self.names], np.uint64)
