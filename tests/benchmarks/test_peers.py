"""The benchmark beside other engines catches a wrong row, whoever made it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from deploy.kafka.broker import LocalBroker
from tests.benchmarks.peers.clickhouse import ClickHouse
from tests.benchmarks.peers.jobs import MAU, WINDOWS, Figures, Job, Wrong, by_position, check, expected
from tests.benchmarks.peers.systems import Task, figures_of_records
from tests.benchmarks.shapes import DAYS, SMALL, Filled, installation, messages

JOB = Job("small", SMALL, 2)


@pytest.fixture(scope="module")
def wanted() -> list[Figures]:
    return expected(JOB)


def _records(figures: Figures) -> list[tuple[bytes, bytes]]:
    """Those of a result topic, a stale one first."""
    stale = [(b"installation-00000", np.full(1 + len(JOB.columns), 7, "<i4").tobytes())]
    return stale + [
        (f"installation-{number:05d}".encode(), np.array([day, *figures[number, day]], "<i4").tobytes())
        for number in range(JOB.installations)
        for day in range(DAYS)
    ]


def _table(figures: Figures) -> pa.Table:
    """The answer of ClickHouse."""
    each = SMALL.features
    places = [(0, 0), *((s + 1, 0) for s in range(SMALL.stages))]
    places += [(f // each + 1, f + 1) for f in range(SMALL.stages * each)]
    return pa.table(
        {
            "uuid": [f"installation-{number:05d}" for number in range(JOB.installations) for _ in places],
            "stage": pa.array([s for _ in range(JOB.installations) for s, _ in places], pa.uint8()),
            "feature": pa.array([f for _ in range(JOB.installations) for _, f in places], pa.uint8()),
            "days": pa.array([list(range(DAYS))] * (JOB.installations * len(places)), pa.list_(pa.uint16())),
            "mau": pa.array(
                [
                    figures[number, :, place].tolist()
                    for number in range(JOB.installations)
                    for place in range(len(places))
                ],
                pa.list_(pa.uint32()),
            ),
        }
    )


def test_the_expected_figures_are_sizes_of_unions(wanted: list[Figures]) -> None:
    one = installation(SMALL, 1)
    for figures, window in zip(wanted, WINDOWS, strict=True):
        assert figures[1, 30, 0] == one.users(30, window, slice(None))
        assert figures[1, 30, 2] == one.users(30, window, slice(SMALL.features, 2 * SMALL.features))
        assert figures[1, 30, -1] == one.users(30, window, slice(-1, None))
    filled = Filled(0, 0, 0, [], (0, 0, 0), [])
    assert len(list(messages(SMALL, JOB.installations, filled))) == JOB.pings
    assert filled.totals == tuple(int(figures[:, -1, 0].sum()) for figures in wanted)


@pytest.mark.parametrize("place", [(0, 0, 0), (1, DAYS - 1, 24), (0, 27, 6)])
def test_one_wrong_figure_is_found_and_named(wanted: list[Figures], place: tuple[int, int, int]) -> None:
    figures = wanted[MAU]
    assert check(JOB, 28, figures, figures.copy()) == np.count_nonzero(figures)
    wrong = figures.copy()
    wrong[place] += 1
    with pytest.raises(Wrong, match=f"^1 of .* installation {place[0]}, day {place[1]}, "):
        check(JOB, 28, figures, wrong)


def test_a_row_that_is_missing_or_there_twice_or_of_nobody_is_found(wanted: list[Figures]) -> None:
    figures = wanted[MAU]
    places = np.nonzero(figures)
    assert np.array_equal(by_position(JOB, places, figures[places]), figures)
    fewer = [column[1:] for column in places]
    with pytest.raises(Wrong, match=r"^1 of"):
        check(JOB, 28, figures, by_position(JOB, fewer, figures[places][1:]))
    with pytest.raises(Wrong, match="1 rows are there twice"):
        by_position(JOB, [np.append(column, column[0]) for column in places], np.append(figures[places], 1))
    with pytest.raises(Wrong, match="does not exist"):
        by_position(JOB, ([0], [DAYS], [0]), np.array([1]))


def test_a_wrong_record_of_a_result_topic_is_found(wanted: list[Figures]) -> None:
    figures = wanted[MAU]
    records = _records(figures)
    check(JOB, 28, figures, figures_of_records(JOB, records))
    with pytest.raises(Wrong, match=r"^1 of"):
        wrong = figures.copy()
        wrong[1, 12, 3] -= 1
        check(JOB, 28, figures, figures_of_records(JOB, _records(wrong)))
    with pytest.raises(Wrong, match="has not 104 bytes"):
        figures_of_records(JOB, [*records, (b"installation-00000", b"1234")])
    with pytest.raises(Wrong, match="nobody"):
        figures_of_records(JOB, [*records, (b"installation-00002", records[-1][1])])


def test_a_wrong_row_of_clickhouse_is_found(wanted: list[Figures], tmp_path: Path) -> None:
    figures = wanted[MAU]
    task = Task(JOB, LocalBroker(tmp_path / "kafka"), tmp_path)
    for wrong in (0, 1):
        answered = figures.copy()
        answered[1, 30, 7] += wrong
        table = _table(answered)
        with pa.OSFile(str(tmp_path / "figures.arrow"), "wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
            stream.write_table(table)
        (found,) = ClickHouse().figures(task)
        if wrong:
            with pytest.raises(Wrong, match=r"^1 of .* installation 1, day 30, create/create_merge_requests, "):
                check(JOB, 28, figures, found)
        else:
            check(JOB, 28, figures, found)
