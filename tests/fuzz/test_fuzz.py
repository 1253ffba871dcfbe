"""A short run, from a seed that stands; `make faults` takes longer ones and seeds of chance."""

from __future__ import annotations

from tests.fuzz.run import run


def test_bad_input_has_an_outcome_and_nothing_else() -> None:
    said: list[str] = []
    done = run(20, 0.0, said.append, 150, 30, patience=5.0)
    assert not said
    assert done == {"usage-pings": 150, "billing-events": 150, "http": 30}
