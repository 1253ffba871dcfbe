"""The short cut: a few cases in their small form. `make faults` runs all of them in full."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.case import cases
from tests.faults.stage import SMALL

SHORT = ("sigkill_at_random_moments", "sigterm_while_it_starts", "sigstop_between_recovery_and_claim")
SEED = 20


@pytest.mark.slow
@pytest.mark.parametrize("name", SHORT)
def test_nothing_is_lost(name: str, tmp_path: Path) -> None:
    chosen = cases()[name]
    with chosen.stage(tmp_path, SEED, SMALL) as stage:
        chosen.play(stage)
