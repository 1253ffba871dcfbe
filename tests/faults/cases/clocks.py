"""Wrong clocks, midnight, and time zones with daylight saving.

Debian's `faketime` is not needed: a worker's `time.time` is shifted inside (see `tests.faults.spoil`). Figures stand for the
as-of day, which is the one thing that a clock may decide.
"""

from __future__ import annotations

import datetime as dt
from pathlib import Path

from tests.faults.case import case
from tests.faults.spoil import spoiled
from tests.faults.stage import Stage
from tests.faults.supervisor import Supervisor
from tests.faults.world import LAST_DAY
from tests.running import wait_until

DAY_SECONDS = 86_400
ZONES = ("America/New_York", "Europe/Berlin", "Australia/Lord_Howe", "Pacific/Kiritimati")


@case()
def clocks_a_day_ahead_and_a_day_behind(stage: Stage) -> None:
    """Two workers, one a day ahead and one a day behind, under load, in time zones with daylight saving: no figure shows it."""
    messages = stage.messages()
    with (
        _shifted(stage, DAY_SECONDS) as ahead,
        _shifted(stage, -DAY_SECONDS) as behind,
        stage.load(messages, seconds=stage.of(8.0, 20.0, 60.0)) as load,
    ):
        ahead.wait_ready()
        behind.wait_ready()
        stage.chance.choice((ahead, behind)).kill()
        load.join()
        stage.check()


@case()
def midnight(stage: Stage) -> None:
    """The clock passes midnight, jumps two days ahead and one back while a worker runs: each time the rows go up to its day."""
    messages = stage.messages()
    clock = stage.folder / "clock"

    def set_clock(day: dt.date, seconds: float) -> None:
        """`seconds` after the midnight, UTC, that `day` begins with."""
        then = dt.datetime.combine(day, dt.time(), dt.UTC) + dt.timedelta(seconds=seconds)
        clock.write_text(str((then - dt.datetime.now(dt.UTC)).total_seconds()))

    day = LAST_DAY - dt.timedelta(days=3)
    set_clock(day, DAY_SECONDS - 25.0)
    with _clocked(stage, clock) as worker, stage.load(messages, seconds=20) as load:
        load.join()
        for day in (LAST_DAY - dt.timedelta(days=2), LAST_DAY):
            stage.as_of = day
            if day == LAST_DAY:
                set_clock(day, 60.0)
            stage.settle()
        set_clock(LAST_DAY - dt.timedelta(days=1), 60.0)
        worker.kill()
        wait_until(lambda: worker.starts == 2, "it is started again")
        worker.wait_ready()
        worker.worker.wait_caught_up()
        stage.check()


def _shifted(stage: Stage, seconds: float) -> Supervisor:
    clock = stage.folder / f"clock{seconds:+.0f}"
    clock.write_text(str(seconds))
    return _clocked(stage, clock, as_of=LAST_DAY.isoformat())


def _clocked(stage: Stage, clock: Path, as_of: str = "") -> Supervisor:
    zone = {"TZ": stage.chance.choice(ZONES)}
    return stage.supervised(program=spoiled(f"clock={clock}"), variables=zone, as_of=as_of)
