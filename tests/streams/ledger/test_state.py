"""State through the changelog and back: a book that was restarted anywhere is the book that never was."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streams.ledger import state
from streams.ledger.book import Book, Rules, UsageRows
from streams.ledger.cells import Cells, unpack
from streams.ledger.names import Names
from streams.ledger.pseudonym import Pseudonymiser
from streams.ledger.records import Change
from streams.ledger.scope import Scope
from streams.ledger.state import (
    BASE,
    DELTA,
    FORMAT,
    HEADER,
    PART,
    PARTITION,
    VERSION,
    Packer,
    StateError,
    decode_partition,
    head_key,
    partition_key,
)
from streams.ledger.usage import Figures
from tests.streams.ledger.record import Record

EPOCH = dt.date(1970, 1, 1)
DAY0 = 20_500
DAY_MS = 86_400_000
FEATURES = [("create", "merge_requests"), ("create", "snippets"), ("plan", "issues"), ("verify", "pipelines")]

Values = dict[bytes, bytes]


class Fact(NamedTuple):
    """One ping: from which installation, of which day, and who did what how many days before."""

    scope: int
    day: int
    minute: int
    activity: tuple[tuple[int, int, tuple[int | str, ...], int | None], ...]


users = st.lists(st.integers(0, 40) | st.integers(2**63, 2**64 - 1) | st.sampled_from(["a", "b", "17"]), max_size=6)
activity = st.tuples(st.integers(0, 36), st.sampled_from(range(4)), users.map(tuple), st.none() | st.integers(0, 99))
facts = st.builds(
    Fact, st.integers(0, 2), st.integers(0, 30), st.integers(0, 5), st.lists(activity, max_size=4).map(tuple)
)
batches = st.lists(st.lists(facts, min_size=1, max_size=5), min_size=1, max_size=8)


def record(offset: int, fact: Fact) -> Record:
    day = DAY0 + fact.day
    ping = {
        "uuid": f"installation-{fact.scope}",
        "hostname": "gitlab.example",
        "recorded_at": f"{EPOCH + dt.timedelta(days=day)}T10:{fact.minute:02}:00Z",
        "activity": [
            {
                "date": str(EPOCH + dt.timedelta(days=day - back)),
                "stage": FEATURES[feature][0],
                "feature": FEATURES[feature][1],
                "users": list(some),
                "sessions": sessions,
            }
            for back, feature, some, sessions in fact.activity
        ],
    }
    return Record(None, json.dumps(ping).encode(), offset, day * DAY_MS)


def numbered(some: list[list[Fact]]) -> list[list[Record]]:
    offset, out = 0, []
    for batch in some:
        out.append([record(offset + i, fact) for i, fact in enumerate(batch)])
        offset += len(batch)
    return out


def book(values: Values) -> Book:
    return Book(0, dict(values), Names(), Pseudonymiser(b"0123456789abcdef"), Rules())


def keep(values: Values, changes: Sequence[Change]) -> None:
    """What a changelog does: of two values of a key the higher version stands."""
    for key, value in changes:
        assert len(value) <= state.MAX_VALUE
        if key not in values or values[key][VERSION] <= value[VERSION]:
            values[key] = value


def took_over(values: Values) -> Book:
    """The next owner's book; its epoch is known before anything else."""
    mine = book(values)
    keep(values, [mine.claim(DAY0 + 40)])
    return mine


def figures(some: Book) -> dict[tuple[str, int, str, str], tuple[int, int, int, int]]:
    """Every figure that the book's scopes have: (scope, day, stage, feature) -> (dau, wau, mau, sessions)."""
    found = {}
    for scope in some.all_scopes():
        ledger = scope.ledger
        if ledger.newest < 0:
            continue
        out = Figures()
        at = 0
        for back, length in enumerate(ledger.count_days(ledger.oldest, ledger.last_day, out)[0].tolist()):
            for i in range(at, at + length):
                name = some._names.name(int(out.name[i]))
                counts = (int(out.dau[i]), int(out.wau[i]), int(out.mau[i]), int(out.sessions[i]))
                found[(scope.key.scope_id, ledger.oldest + back, *name)] = counts
            at += length
    return found


def pings(some: Book) -> dict[str, dict[object, bytes]]:
    """Every identity that the book remembers, by scope."""
    return {scope.key.scope_id: dict(scope.pings.items()) for scope in some.all_scopes()}


def fold_all(some: list[list[Fact]], restarts: set[int]) -> tuple[Book, Values, list[int]]:
    """Folds batches, with a new owner before each batch in `restarts`; gives the outcomes' numbers batch by batch."""
    values: Values = {}
    mine = took_over(values)
    applied = []
    for number, batch in enumerate(numbered(some)):
        if number in restarts:
            mine = took_over(values)
        folded = mine.fold(batch, DAY0 + 40)
        keep(values, folded.changes)
        applied.append(len(folded.pings))
    return mine, values, applied


@given(batches, st.data())
@settings(max_examples=60, deadline=None)
def test_restarts_at_any_boundaries_change_nothing(some: list[list[Fact]], data: st.DataObject) -> None:
    restarts = data.draw(st.sets(st.integers(0, len(some) - 1)))
    straight, _, applied = fold_all(some, set())
    restarted, values, again = fold_all(some, restarts)
    assert again == applied, "identities are remembered over a restart"
    assert figures(restarted) == figures(straight)
    read_back = took_over(values)
    assert figures(read_back) == figures(straight)
    assert pings(read_back) == pings(straight)


@given(batches, st.sampled_from([64, 300]))
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_bases_in_parts_are_put_together_again(some: list[list[Fact]], part_bytes: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(state, "PART_BYTES", part_bytes)
        straight, values, _ = fold_all(some, set(range(0, len(some), 2)))
        assert figures(took_over(values)) == figures(straight)


def test_a_crash_between_the_parts_of_a_new_base_leaves_the_old_one_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "PART_BYTES", 64)
    first = [[Fact(0, 3, 0, ((0, 0, tuple(range(200)), None),))]]
    mine, values, _ = fold_all(first, set())
    before = figures(mine)
    mine = took_over(values)  # a new epoch writes a new base
    folded = mine.fold([record(1, Fact(0, 4, 0, ((0, 1, tuple(range(300)), None),)))], DAY0 + 40)
    kinds = [change.value[1] for change in folded.changes]
    assert kinds.count(PART) > 5 and kinds.count(BASE) == 1
    head = kinds.index(BASE)
    for cut in range(head + 1):
        part_way = dict(values)
        keep(part_way, folded.changes[:cut])
        assert figures(book(part_way)) == before
    keep(values, folded.changes)
    assert figures(book(values)) == figures(mine) != before


def test_parts_of_the_base_before_are_emptied(monkeypatch: pytest.MonkeyPatch) -> None:
    """The state would keep two bases of a large scope for ever."""
    monkeypatch.setattr(state, "PART_BYTES", 64)
    values: Values = {}
    for epoch in range(6):
        mine = took_over(values)
        fact = Fact(0, 3, epoch, ((0, 0, tuple(range(200)), None),))
        keep(values, mine.fold([record(epoch, fact)], DAY0 + 40).changes)
        full = [key for key, value in values.items() if value[1] == PART and len(value) > HEADER.size]
        assert len({key[18] for key in full}) == 1, "the parts of one base only"
    assert figures(book(values)) == figures(mine)


FACTS = [
    [
        Fact(0, 0, 0, ((0, 0, (0, 1, "a"), 3), (1, 2, (0, 2**63 + 5), None))),
        Fact(1, 0, 1, ((0, 1, tuple(range(30)), 7),)),
    ],
    [
        Fact(0, 1, 0, ((0, 0, (1, 2, "a"), 3), (1, 2, (1, 2**63 + 5), None))),
        Fact(1, 1, 1, ((0, 1, tuple(range(30)), 7),)),
    ],
    [Fact(0, 2, 0, ((0, 0, (2, 3, "a"), 3), (1, 2, (2, 2**63 + 5), None)))],
]
"""What the kept states were made of; the owner changed before the second batch."""


@pytest.mark.parametrize("form", range(1, FORMAT + 1))
def test_the_state_that_each_version_of_the_program_has_kept_is_read(form: int) -> None:
    """As it was written then: bases of masks (1), and of cells in parts (2), deltas, the partition's own record."""
    kept = json.loads((Path(__file__).parent / "kept_states.json").read_text())[str(form)]
    values = {bytes.fromhex(key): bytes.fromhex(value) for key, value in kept.items()}
    assert {value[0] for value in values.values()} == {form}
    assert {value[1] for value in values.values()} == {BASE, DELTA, PARTITION} | ({PART} if form > 1 else set())
    mine = took_over(values)
    straight, _, _ = fold_all(FACTS, set())
    assert figures(mine) == figures(straight)
    assert pings(mine) == pings(straight)
    again = [one._replace(offset=one.offset + 100) for batch in numbered(FACTS) for one in batch]
    assert not mine.fold(again, DAY0 + 40).pings, "all of them are known"


def a_base_and_two_deltas() -> tuple[Values, bytes, list[bytes]]:
    """The state of one scope after three flushes, the scope's digest and the keys of its deltas in their order."""
    some = [[Fact(0, day, 0, ((0, 0, (day, day + 1), None),))] for day in range(3)]
    _, values, _ = fold_all(some, set())
    deltas = sorted((key for key, value in values.items() if value[1] == DELTA), key=lambda key: values[key][VERSION])
    assert len(deltas) == 2
    return values, deltas[0][1:17], deltas


def test_a_missing_delta_is_an_error_not_a_silent_hole() -> None:
    values, _, deltas = a_base_and_two_deltas()
    del values[deltas[0]]
    with pytest.raises(StateError, match="missing"):
        list(book(values).all_scopes())


def test_a_missing_part_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "PART_BYTES", 64)
    _, values, _ = fold_all([[Fact(0, 3, 0, ((0, 0, tuple(range(200)), None),))]], set())
    part = next(key for key, value in values.items() if value[1] == PART)
    del values[part]
    with pytest.raises(StateError, match="part"):
        list(book(values).all_scopes())


def test_deltas_on_an_older_base_are_left_out() -> None:
    """An owner that was paused writes on on top of the base that it knows; its successor's base does not know that."""
    values, _, _ = a_base_and_two_deltas()
    paused = took_over(values)
    keep(values, paused.fold([record(3, Fact(0, 5, 0, ((0, 0, (50,), None),)))], DAY0 + 40).changes)
    successor = took_over(values)
    keep(values, successor.fold([record(4, Fact(0, 6, 0, ((0, 1, (60,), None),)))], DAY0 + 40).changes)
    stale = paused.fold([record(4, Fact(0, 7, 0, ((0, 2, (70,), None),)))], DAY0 + 40).changes
    assert any(change.value[1] == DELTA for change in stale)
    keep(values, stale)
    assert figures(book(values)) == figures(successor)


def test_a_value_of_a_newer_program_is_an_error_that_says_what_to_do() -> None:
    values, digest, _ = a_base_and_two_deltas()
    key = head_key(digest)
    values[key] = HEADER.pack(FORMAT + 1, BASE, 9, 9) + values[key][HEADER.size :]
    with pytest.raises(StateError, match="newer"):
        list(book(values).all_scopes())


def test_the_partitions_own_record_of_a_newer_program_is_an_error_too() -> None:
    values, _, _ = a_base_and_two_deltas()
    key = partition_key(0)
    values[key] = bytes([FORMAT + 1]) + values[key][1:]
    with pytest.raises(StateError, match="newer"):
        book(values)


def test_each_owner_has_a_higher_epoch_and_its_values_win() -> None:
    values: Values = {}
    versions = []
    for offset in range(4):
        mine = took_over(values)
        changes = mine.fold([record(offset, Fact(0, offset, 0, ((0, 0, (offset,), None),)))], DAY0 + 40).changes
        versions.append(min(change.value[VERSION] for change in changes))
        keep(values, changes)
    assert versions == sorted(set(versions))


def in_generation(values: Values, generation: int) -> Book:
    return Book(0, dict(values), Names(), Pseudonymiser(b"0123456789abcdef"), Rules(), generation)


def test_owners_of_one_state_share_no_epoch_whichever_of_them_claims_first() -> None:
    """A worker that was paused between recovery and its claim wakes up behind its successors."""
    values: Values = {}
    keep(values, [in_generation(values, 3).claim(DAY0)])
    paused, successor = in_generation(values, 4), in_generation(values, 6)
    assert paused.epoch < successor.epoch
    keep(values, [successor.claim(DAY0)])
    assert not paused.outrun and not successor.outrun
    assert in_generation(values, 7).epoch > successor.epoch


def test_a_state_of_a_later_generation_says_so_and_a_group_that_begins_anew_goes_on_above_it() -> None:
    values: Values = {}
    before = in_generation(values, 40)
    keep(values, [before.claim(DAY0)])
    first, second = in_generation(values, 1), in_generation(values, 2)
    assert first.outrun and before.epoch < first.epoch < second.epoch
    keep(values, [first.claim(DAY0)])
    assert in_generation(values, 2).epoch == second.epoch and not in_generation(values, 2).outrun


def test_an_epoch_is_above_those_of_the_tables_by_the_generation() -> None:
    first, second = in_generation({}, 1), in_generation({}, 2)
    for mine in (first, second):
        mine.settle(70)
    assert 70 < first.epoch < second.epoch and first.settled


def test_rows_have_the_version_of_the_state_whoever_counts_them() -> None:
    """Of rows of two owners those must stand whose state stands, or a new owner's clock writes over an older one's facts."""
    values: Values = {}
    mine = took_over(values)
    folded = mine.fold([record(0, Fact(0, 3, 0, ((0, 0, (1,), None),)))], DAY0 + 40)
    keep(values, folded.changes)
    rows, again = UsageRows(), UsageRows()
    mine.rows(folded, rows)
    successor = took_over(values)
    successor.roll(successor.all_scopes(), DAY0 + 40, again)
    assert successor.epoch > mine.epoch and rows.versions == again.versions


def test_a_scope_all_of_whose_facts_lie_behind_the_clock_has_no_rows() -> None:
    mine = took_over({})
    mine.fold([record(0, Fact(0, 3, 0, ((0, 3, (1,), None),)))], DAY0)
    rows = UsageRows()
    mine.roll(mine.all_scopes(), DAY0 - 5, rows)
    assert not rows.scopes and not rows.figures.length


def test_what_an_older_owner_wrote_after_its_time_becomes_the_new_owners() -> None:
    values: Values = {}
    older = took_over(values)
    keep(values, older.fold([record(0, Fact(0, 3, 0, ((0, 0, (1,), None),)))], DAY0 + 40).changes)
    late = older.fold([record(1, Fact(0, 4, 0, ((0, 1, (2,), None),)))], DAY0 + 40).changes
    took_over(values)
    keep(values, late)
    successor = took_over(values)
    owned = successor.own([change.key for change in late])
    assert owned and all(state.version_of(change.value).epoch == successor.epoch for change in owned)
    keep(values, owned)
    assert figures(book(values)) == figures(successor)
    assert any(mau == 2 for _, _, mau, _ in figures(successor).values())


def test_nothing_of_a_user_id_stands_in_the_state() -> None:
    _, values, _ = fold_all([[Fact(0, 3, 0, ((0, 0, ("a.person@example.com", 2**63 + 4711), None),))]], set())
    mine = book(values)
    (scope,) = mine.all_scopes()
    assert isinstance(scope, Scope)
    assert (2**63 + 4711) not in scope.ledger.users[: scope.ledger.count].tolist()
    assert not any(b"a.person" in value for value in values.values())


def test_few_changes_on_a_large_scope_cost_few_bytes() -> None:
    """A delta holds what a flush added, not the scope again."""
    first = [[Fact(0, 3, 0, ((0, 0, tuple(range(20_000)), None),))]]
    mine, _, _ = fold_all(first, set())
    folded = mine.fold([record(1, Fact(0, 4, 0, ((0, 1, (1, 2, 3), None),)))], DAY0 + 40)
    (delta,) = [change for change in folded.changes if change.value[1] == DELTA]
    assert len(delta.value) < 500


@pytest.mark.parametrize("flushes", [1, 2])
def test_a_forwarded_ping_that_comes_again_behind_a_new_one_is_written_again(flushes: int) -> None:
    """A crash between state and rows: of the two topics a book reads, either may be fetched first afterwards."""
    partitions = {b"installation-0": 0}
    rules = Rules(partitions=2, partition_of=lambda key: partitions.get(key, 1))
    elsewhere = Book(1, {}, Names(), Pseudonymiser(b"0123456789abcdef"), rules)
    forward, *_ = elsewhere.fold([record(0, Fact(0, 3, 0, ((0, 0, (1, 2), None),)))], DAY0 + 40).forwards
    internal = Record(forward.key, forward.value, 0, forward.timestamp)
    fresh = record(0, Fact(0, 4, 0, ((0, 0, (3,), None),)))

    def home(values: Values) -> Book:
        mine = Book(0, dict(values), Names(), Pseudonymiser(b"0123456789abcdef"), rules)
        keep(values, [mine.claim(DAY0 + 40)])
        return mine

    values: Values = {}
    keep(values, home(values).fold([], DAY0 + 40, [internal]).changes)  # its rows are lost
    successor = home(values)
    if flushes == 1:
        folded = [successor.fold([fresh], DAY0 + 40, [internal])]
    else:
        folded = [successor.fold([fresh], DAY0 + 40)]
        keep(values, folded[0].changes)
        folded.append(successor.fold([], DAY0 + 40, [internal]))
    assert len([ping for done in folded for ping in done.pings]) == 2


def test_two_crashes_in_a_row_between_state_and_rows_lose_nothing() -> None:
    """The second flush brings the first one's pings again, and a new one: all of them are still to be written."""
    values: Values = {}
    records = [record(offset, Fact(0, 3 + offset, 0, ((0, 0, (offset,), None),))) for offset in range(4)]
    for last in range(1, len(records) + 1):
        folded = took_over(values).fold(records[:last], DAY0 + 40)  # the state is kept, the rows are lost
        keep(values, folded.changes)
        assert len(folded.pings) == last
        (touched,) = folded.touched
        assert touched[1] == DAY0 + 3, "and the days of all of them"


@given(batches, st.data())
@settings(max_examples=40, deadline=None)
def test_deltas_in_pieces_and_packed_say_the_same(some: list[list[Fact]], data: st.DataObject) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(state, "DELTA_ROWS", data.draw(st.integers(1, 9)))
        patch.setattr(state, "DELTA_USERS", data.draw(st.integers(1, 9)))
        patch.setattr(state, "PACKED", data.draw(st.sampled_from([0, 1, 3, 512])))
        patch.setattr(state, "FEW_DELTAS", 1000)
        patch.setattr(state, "SMALL_BASE", 10**9)
        straight, values, _ = fold_all(some, set())
        assert figures(took_over(values)) == figures(straight)


def test_deltas_of_a_base_that_was_replaced_are_emptied(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "WORTH_EMPTYING", 0)
    some = [
        [Fact(0, day, 0, ((0, 0, tuple(range(day * 40, day * 40 + 40)), None),))] for day in range(state.FEW_DELTAS + 3)
    ]
    mine, values, _ = fold_all(some, set())
    alive = [key for key, value in values.items() if value[1] == DELTA and len(value) > HEADER.size]
    assert len(alive) < 3
    assert figures(took_over(values)) == figures(mine)


def test_a_base_of_the_format_before_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "SMALL_MASKS", 0)
    some = [[Fact(0, day, 0, ((0, 0, (1, 2, 2**63 + day), 7), (70, 1, ("a",), None)))] for day in range(2)]
    mine, values, _ = fold_all(some, {1})
    key = next(key for key, value in values.items() if value[1] == BASE)
    body = values[key][HEADER.size :]
    parts, parity, packed = msgspec.msgpack.decode(body)
    base = msgspec.msgpack.decode(zstandard.ZstdDecompressor().decompress(packed))
    cells = msgspec.convert(base[14], Cells)
    base[6] = unpack(cells).tobytes()
    old = msgspec.msgpack.encode(
        [parts, parity, zstandard.ZstdCompressor().compress(msgspec.msgpack.encode(base[:14]))]
    )
    values[key] = b"\x01" + values[key][1 : HEADER.size] + old
    assert figures(took_over(values)) == figures(mine)


@pytest.mark.parametrize("damaged", [b"", b"\x02", HEADER.pack(FORMAT, PARTITION, 1, 1) + b"\xc1", b"\x01" * 40])
def test_what_is_no_state_is_refused_with_a_sentence(damaged: bytes) -> None:
    with pytest.raises(StateError, match="cannot be read"):
        decode_partition(damaged)


def test_a_damaged_base_is_refused_with_a_sentence() -> None:
    digest = b"d" * 16
    damaged = HEADER.pack(FORMAT, BASE, 1, 1) + msgspec.msgpack.encode((0, 0, b"no frame of zstd"))
    with pytest.raises(StateError, match="cannot be read"):
        Packer().load(digest, {head_key(digest): damaged}, Names())
