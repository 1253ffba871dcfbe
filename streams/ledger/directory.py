"""Where the arrays of many ledgers are: a table of addresses and sizes, by which one kernel reads and changes all of them.

A row is a copy of what a scope and its ledger hold. Whoever changes one of them in Python marks the scope `stale`, and its row
is made anew before a kernel sees it; what a kernel changes in a row is written back to the scope by its caller.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from streams.ledger.compiled import compiled
from streams.ledger.scope import Scope

(
    USERS, COUNT, ROOM, SLOTS, SLOT_COUNT, MASKS, PANES, FEATURE_ROOM, FIRST_PANE, NAMES, FEATURES, STAGE_OF, STAGES,
    STAGE_NAMES, SESSIONS, SESSION_PANES, NEWEST, OLDEST, TOLD_FIRST, TOLD_LAST, FLOOR, WRITTEN_TO, DIRTY_FROM, UNSURE, RECORDED,
) = range(25)  # fmt: skip
"""Columns: addresses of arrays and their sizes, and numbers of the same names as in `UsageLedger` and `Scope`. ROOM and
FEATURE_ROOM: users and features that the masks have room for; RECORDED: the newest `recorded_at` of its pings."""

FIELDS = RECORDED + 1

Numbers = npt.NDArray[np.int64]


class Directory:
    """The scopes of a book by number.

    Attributes:
        scopes: each scope, by its number.
    """

    def __init__(self) -> None:
        self.scopes: list[Scope] = []
        self._rows: Numbers = np.zeros((64, FIELDS), np.int64)

    @property
    def rows(self) -> Numbers:
        """[number, column], for kernels."""
        return self._rows

    def numbers(self, scopes: Iterable[Scope]) -> Numbers:
        """Numbers of scopes; their rows are as the scopes are."""
        found = []
        for scope in scopes:
            if scope.number < 0:
                scope.number = len(self.scopes)
                self.scopes.append(scope)
                if scope.number >= len(self._rows):
                    self._rows = np.concatenate([self._rows, np.zeros_like(self._rows)])
            if scope.stale:
                self.refresh(scope)
            found.append(scope.number)
        return np.array(found, np.int64)

    def refresh(self, scope: Scope) -> None:
        """Makes a scope's row anew."""
        ledger = scope.ledger
        panes, features, room = ledger.masks.shape
        row = self._rows[scope.number]
        # What stands at 0 are addresses.
        row[:] = (
            0, ledger.count, room, 0, len(ledger.slots), 0, panes, features, ledger.first_pane, 0, len(ledger.features), 0,
            len(ledger.stages), 0, 0, ledger.sessions.shape[0], ledger.newest, ledger.oldest, ledger.told_first,
            ledger.told_last, ledger.floor, scope.written_to, scope.dirty_from, scope.unsure, scope.pings.newest,
        )  # fmt: skip
        _put_addresses(
            row, ledger.users, ledger.slots, ledger.masks, ledger.names, ledger.stage_of, ledger.stage_names, ledger.sessions
        )  # fmt: skip
        scope.stale = False


@compiled
def _put_addresses(row, users, slots, masks, names, stage_of, stage_names, sessions):  # type: ignore[no-untyped-def]
    """Where arrays are, into a row. Asking each of them in Python takes seven times as long."""
    row[USERS], row[SLOTS], row[MASKS] = users.ctypes.data, slots.ctypes.data, masks.ctypes.data
    row[NAMES], row[STAGE_OF], row[STAGE_NAMES] = names.ctypes.data, stage_of.ctypes.data, stage_names.ctypes.data
    row[SESSIONS] = sessions.ctypes.data
