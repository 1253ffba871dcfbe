"""The as-of clock: the one clock there is, and it decides no figure, only how far rows are written."""

from __future__ import annotations

import datetime as dt
import time

from schemas.ping import EPOCH_ORDINAL


class AsOfClock:
    """Today, UTC, or a fixed day."""

    def __init__(self, as_of: dt.date | None = None) -> None:
        self._fixed = None if as_of is None else as_of.toordinal() - EPOCH_ORDINAL

    def day(self) -> int:
        """Days since 1970-01-01."""
        return self._fixed if self._fixed is not None else int(time.time()) // 86_400
