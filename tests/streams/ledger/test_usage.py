"""The usage ledger against sets in dictionaries: any order, any repetition, any cut gives the same ledger."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from streams.ledger.names import Names
from streams.ledger.usage import Entries, Figures, UsageLedger

Fact = tuple[int, str, str, int]  # day, stage, feature, user

DAY0 = 20_000

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
    lengths, counted = ledger.count_days(first, last, out)
    assert lengths.sum() == out.length
    starts = np.cumsum(lengths) - lengths
    return {
        (day, int(out.name[i])): (int(out.dau[i]), int(out.wau[i]), int(out.mau[i]), int(out.sessions[i]))
        for day, start, figures in zip(range(first, last + 1), starts.tolist(), counted.tolist(), strict=True)
        for i in range(start, start + figures)
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


def test_features_that_come_after_the_first_number_of_sessions_have_none() -> None:
    names, ledger = Names(), UsageLedger()
    column = ledger.column("s", "f0", names)
    fold(ledger, names, [(DAY0, "s", "f0", 1), (DAY0 + 1, "s", "f0", 1)])
    for back in range(8):
        ledger.raise_sessions(DAY0 + back, column, 1_000 + back)
    for number in range(1, 40):
        fold(ledger, names, [(DAY0, "s", f"f{number}", 1)])
    found = figures(ledger, DAY0, DAY0 + 1)
    assert {key: value[3] for key, value in found.items() if value[3] >= 0} == {
        (day, name): 1_000 + day - DAY0
        for day in (DAY0, DAY0 + 1)
        for name in (0, names.number("s", ""), names.number("s", "f0"))
    }


def test_sessions_without_users_stand_behind_the_figures() -> None:
    names, ledger = Names(), UsageLedger()
    ledger.raise_sessions(DAY0, ledger.column("s", "f", names), 5)
    out = Figures()
    lengths, counted = ledger.count_days(DAY0, DAY0, out)
    assert (lengths.tolist(), counted.tolist()) == ([3], [0])
    assert sorted(out.name[:3].tolist()) == sorted([0, names.number("s", ""), names.number("s", "f")])
    assert out.sessions[:3].tolist() == [5, 5, 5] and out.mau[:3].tolist() == [0, 0, 0]
    assert (ledger.first_day, ledger.last_day, ledger.reach) == (DAY0, DAY0, DAY0)


@given(facts, st.integers(DAY0 - 10, DAY0 + 200))
@example([(DAY0 + 41, "create", "merge_requests", 0), (DAY0 + 42, "create", "snippets", 0)], DAY0 + 42)
@settings(max_examples=60, deadline=None)
def test_days_that_leave_change_no_figure_that_does_not_reach_back_to_them(facts: list[Fact], floor: int) -> None:
    names, ledger = Names(), UsageLedger()
    fold(ledger, names, facts)
    for day, stage, feature, _ in facts[::3]:
        ledger.raise_sessions(day, ledger.column(stage, feature, names), day % 7)
    last = ledger.last_day
    before = figures(ledger, DAY0 - 10, last) if ledger.reach >= 0 else {}
    forgot = ledger.forget_before(floor)
    assert ledger.floor <= floor or not forgot
    if ledger.reach >= 0:
        first = max(ledger.floor + 28, DAY0 - 10)
        after = figures(ledger, first, last) if first <= last else {}
        assert after == {key: value for key, value in before.items() if key[0] >= first}
    kept = {(user, day) for day, _, _, user in facts if day >= ledger.floor}
    assert sorted(ledger.users[: ledger.count].tolist()) == sorted({user for user, _ in kept})
    more = [(max(ledger.floor, DAY0) + 3, "s9", "f9", 7)]
    fold(ledger, names, more)
    assert figures(ledger, more[0][0], more[0][0])[more[0][0], names.number("s9", "f9")][2] == 1


@pytest.mark.parametrize("users", [1, 15, 17, 3_000, 200_000])
@pytest.mark.parametrize("panes", [1, 2])
def test_windows_at_the_edges_of_panes_are_those_of_the_bits(users: int, panes: int) -> None:
    """Days of which a pane is missing, of the newest days and the oldest, against shifts of whole numbers."""
    rng = np.random.default_rng([users, panes])
    names, ledger, first_pane = Names(), UsageLedger(), DAY0 // 64
    for stage, feature in FEATURES[:3]:
        ledger.column(stage, feature, names)
    ledger.append_users(np.arange(users, dtype=np.uint64))
    ledger.open_days(64 * first_pane, 64 * (first_pane + panes) - 1)
    bits, others = rng.integers(0, 2**64, (2, panes, 3, users), np.uint64)
    bits &= others
    ledger.masks[:, :3, :users] = bits
    first, last = 64 * first_pane, 64 * (first_pane + panes) + 20
    found = figures(ledger, first, last)
    created = np.array([True, True, False])
    for day in range(first, last + 1, 1 if users < 1_000 else 19):
        active = np.zeros((28, 3, users), np.bool_)
        for back in range(28):
            pane, bit = divmod(day - back - 64 * first_pane, 64)
            if 0 <= pane < panes:
                active[back] = bits[pane] >> np.uint64(bit) & np.uint64(1)
        wanted = {
            names.number(*name): tuple(int(active[:window, which].any(axis=(0, 1)).sum()) for window in (1, 7, 28))
            for name, which in (
                (("", ""), created | True), (("create", ""), created), (("plan", ""), ~created),
                (FEATURES[0], [0]), (FEATURES[1], [1]), (FEATURES[2], [2]),
            )
        }  # fmt: skip
        assert {name: figure[:3] for (on, name), figure in found.items() if on == day and figure[2]} == {
            name: figure for name, figure in wanted.items() if figure[2]
        }


def test_no_kernel_reads_memory_that_is_free_again() -> None:
    """A kernel that knows only an array's address does not keep the array. What is freed is filled, by glibc and on macOS."""
    code = (
        "from tests.streams.ledger.test_usage import test_windows_at_the_edges_of_panes_are_those_of_the_bits as check\n"
        "for users in 1, 17, 3_000:\n"
        "    check(users, 1); check(users, 2)"
    )
    filled = {"MALLOC_PERTURB_": "165", "MallocScribble": "1", "PYTHONPATH": str(Path(__file__).parents[3])}
    done = subprocess.run([sys.executable, "-c", code], env=os.environ | filled, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
