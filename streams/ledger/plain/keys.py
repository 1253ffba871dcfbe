"""Who sends pings, by number."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from streams.ledger.plain import kernels

Numbers = npt.NDArray[np.int64]


class PingKeys:
    """(uuid, hostname), numbered from 0 on as they come."""

    def __init__(self) -> None:
        self._places = np.empty((256, 3), np.int64)
        self._text = np.empty(256 * 64, np.uint8)
        self._slots = np.full(512, -1, np.int32)
        self._state = np.zeros(2, np.int64)

    def __len__(self) -> int:
        return int(self._state[0])

    def __getitem__(self, number: int) -> tuple[str, str]:
        at, uuid, hostname = self._places[number].tolist()
        joined = self._text[at : at + uuid + hostname].tobytes()
        return joined[:uuid].decode(), joined[uuid:].decode()

    def number(self, text: npt.NDArray[np.uint8], spans: Numbers, chosen: Numbers) -> Numbers:
        """Numbers of the messages `chosen`, whose texts lie in `text`; see `kernels.read_pings`."""
        numbers = np.empty(len(chosen), np.int64)
        done = 0
        while (
            done := kernels.number_pings(
                text, spans, chosen, done, self._places, self._text, self._slots, self._state, numbers
            )
        ) < len(chosen):
            self._grow()
        return numbers

    def _grow(self) -> None:
        self._places = np.concatenate([self._places, np.empty_like(self._places)])
        self._text = np.concatenate([self._text, np.empty_like(self._text)])
        self._slots = np.full(2 * len(self._slots), -1, np.int32)
        kernels.place_pairs(self._places, len(self), self._text, self._slots)
