"""The usage ledger against sets in dictionaries: any order, any repetition, any cut gives the same ledger."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.ledger.names import Names
from streams.ledger.usage import Entries, Figures, UsageLedger

Fact = tuple[int, str, str, int]  # day, stage, feature, user

FEATURES = [("create", "merge_requests"), ("create", "snippets"), ("plan", "issues"), ("verify", "pipelines")]


def fold(ledger: UsageLedger, names: Names, facts: list[Fact]) -> int:
    """Folds facts, an entry each run of one (day, feature); returns how many were new."""
    grouped: dict[tuple[int, str, str], list[int]] = {}
    for day, stage, feature, user in facts:
        grouped.setdefault((day, stage, feature), []).append(user)
    if not grouped:
        return 0
    lengths = np.array([len(users) for users in grouped.values()])
    entries = Entries(
        days=np.array([key[0] for key in grouped]),
        columns=np.array([ledger.column(stage, feature, names) for _, stage, feature in grouped]),
        starts=np.cumsum(lengths) - lengths,
        lengths=lengths,
        ids=np.array([user for users in grouped.values() for user in users], np.uint64),
    )
    ledger.fold(entries, 0, len(lengths))
    return entries.new_total


def figures(ledger: UsageLedger, first: int, last: int) -> dict[tuple[int, int], tuple[int, int, int, int]]:
    """(day, name) -> (dau, wau, mau, sessions), as the kernel counts."""
    out = Figures(1)
    lengths = ledger.count_days(first, last, out)
    assert lengths.sum() == out.length
    days = np.repeat(np.arange(first, last + 1), lengths)
    return {
        (int(days[i]), int(out.name[i])): (int(out.dau[i]), int(out.wau[i]), int(out.mau[i]), int(out.sessions[i]))
        for i in range(out.length)
    }


def slow_figures(facts: list[Fact], names: Names, first: int, last: int) -> dict[tuple[int, int], tuple[int, ...]]:
    """The same with sets."""

    def active(stage: str, feature: str, day: int, window: int) -> int:
        return len({u for d, s, f, u in facts if day - window < d <= day and stage in ("", s) and feature in ("", f)})

    wanted = {("", "")} | {(s, "") for _, s, _, _ in facts} | {(s, f) for _, s, f, _ in facts}
    out = {}
    for stage, feature in wanted:
        for day in range(first, last + 1):
            monthly = active(stage, feature, day, 28)
            if monthly or active(stage, feature, day - 1, 28):
                daily, weekly = active(stage, feature, day, 1), active(stage, feature, day, 7)
                out[day, names.number(stage, feature)] = (daily, weekly, monthly, -1)
    return out


facts = st.lists(
    st.tuples(
        st.integers(20_000, 20_150), st.sampled_from(FEATURES), st.integers(0, 2**64 - 1) | st.integers(0, 12)
    ).map(lambda t: (t[0], *t[1], t[2])),
    max_size=60,
)


@given(facts, st.data())
@settings(max_examples=60, deadline=None)
def test_any_order_repetition_and_cut_gives_the_figures_of_the_sets(some: list[Fact], data: st.DataObject) -> None:
    names = Names()
    again = data.draw(st.permutations(some + some[: len(some) // 2])) if some else []
    cuts = sorted(data.draw(st.lists(st.integers(0, len(again)), max_size=4)))
    ledger = UsageLedger()
    new = sum(fold(ledger, names, again[a:b]) for a, b in zip([0, *cuts], [*cuts, len(again)], strict=True))
    assert new == len(set(some))
    expected = slow_figures(some, names, 19_990, 20_185)
    assert figures(ledger, 19_990, 20_185) == expected


def test_the_window_has_28_days_and_includes_the_last() -> None:
    """Contract, section 1: [as_of - 27, as_of]."""
    names = Names()
    ledger = UsageLedger()
    fold(ledger, names, [(20_000, "create", "merge_requests", 7)])
    found = {day: value for (day, name), value in figures(ledger, 19_995, 20_040).items() if name == 0}
    assert min(found) == 20_000 and max(found) == 20_028
    assert found[20_000] == (1, 1, 1, -1)
    assert found[20_006] == (0, 1, 1, -1)
    assert found[20_007] == (0, 0, 1, -1)
    assert found[20_027] == (0, 0, 1, -1)
    assert found[20_028] == (0, 0, 0, -1), "once at 0 when it falls to 0"


def test_stage_and_total_are_unions_not_sums() -> None:
    names = Names()
    ledger = UsageLedger()
    fold(ledger, names, [(20_000, s, f, 1) for s, f in FEATURES] + [(20_000, "create", "snippets", 2)])
    found = {name: value[2] for (_, name), value in figures(ledger, 20_000, 20_000).items()}
    assert found[0] == 2
    assert found[names.number("create", "")] == 2
    assert found[names.number("create", "merge_requests")] == 1
    assert found[names.number("plan", "")] == 1


def test_sessions_take_the_largest_and_sum_upwards() -> None:
    names = Names()
    ledger = UsageLedger()
    fold(ledger, names, [(20_000, s, f, 1) for s, f in FEATURES])
    first, second = (ledger.column(*feature, names) for feature in FEATURES[:2])
    assert ledger.raise_sessions(20_000, first, 5)
    assert not ledger.raise_sessions(20_000, first, 4)
    assert ledger.raise_sessions(20_000, second, 0)
    found = {name: value[3] for (day, name), value in figures(ledger, 20_000, 20_001).items() if day == 20_000}
    assert found[0] == found[names.number("create", "")] == 5
    assert found[names.number("create", "snippets")] == 0
    assert found[names.number("plan", "")] == -1
    assert all(value[3] == -1 for (day, _), value in figures(ledger, 20_000, 20_001).items() if day == 20_001)


@pytest.mark.parametrize("users", [1, 7, 8, 9, 4_000])
def test_it_grows_while_it_folds(users: int) -> None:
    names = Names()
    ledger = UsageLedger()
    some = [(20_000 + day, "create", "snippets", user * 2**40 + 3) for day in (0, 1) for user in range(users)]
    assert fold(ledger, names, some) == 2 * users
    assert figures(ledger, 20_001, 20_001)[20_001, 0][:3] == (users, users, users)
