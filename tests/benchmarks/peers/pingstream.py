"""Pingstream itself: `pingstream worker --drain` into embedded ClickHouse, everything included."""

from __future__ import annotations

import datetime as dt
import re
import subprocess
import sys
import urllib.request

import numpy as np
import pyarrow as pa

from tests.benchmarks.peers.jobs import WINDOWS, Figures, by_position
from tests.benchmarks.peers.systems import Skipped, Spent, System, Task, measured
from tests.benchmarks.shapes import DAYS, FIRST_DAY, LAST_DAY
from tests.running import environment

_ROWS = re.compile(r'^pingstream_sink_rows_total\{table="usage_day"\} (\S+)', re.MULTILINE)
_METRICS = re.compile(r"metrics[\"']?[=:] ?[\"']?(http://[^/\s]+/metrics)")

_DAYS_AT_ONCE = 10
_FIGURES = """
    SELECT toUInt32(substring(scope_id, length('installation-') + 1, 5)) AS number, concat(stage, '/', feature) AS name,
        dateDiff('day', {zero:Date}, as_of) AS day, dau, wau, mau
    FROM pingstream.usage_kpi
    WHERE as_of >= {first:Date} AND as_of < {first:Date} + {days:UInt32} AND population = 'self_managed' AND basis = 'exact'"""


class Pingstream(System):
    name = "pingstream"
    windows = range(len(WINDOWS))

    def prepare(self) -> None:
        """It is installed; its kernels are compiled here, as `make setup` does, when their source is new."""
        compiled = subprocess.run(
            [sys.executable, "-m", "streams.ledger.kernels"], env=environment(), capture_output=True, text=True
        )
        if compiled.returncode:
            raise Skipped(f"its kernels do not compile: {compiled.stderr[-2000:]}")

    def run(self, task: Task) -> Spent:
        arguments = task.site.worker_arguments("--drain", as_of=LAST_DAY.isoformat(), flush_seconds="0.25")
        return measured([sys.executable, "-m", "deploy.cli.main", *arguments], task, lambda: _rows_accepted(task))

    def figures(self, task: Task) -> list[Figures]:
        job = task.job
        columns = {f"{stage}/{feature}": number for number, (stage, feature) in enumerate(job.columns)}
        found: list[list[np.ndarray]] = []
        with task.site.tables() as client:
            for day in range(0, DAYS, _DAYS_AT_ONCE):
                first = FIRST_DAY + dt.timedelta(day)
                rows = client.query_arrow(
                    _FIGURES, parameters={"first": first, "days": _DAYS_AT_ONCE, "zero": FIRST_DAY}
                )
                names = rows["name"].cast(pa.string()).combine_chunks().dictionary_encode()
                places = np.array([columns[name] for name in names.dictionary.to_pylist()], np.int64)
                found.append(
                    [rows["number"].to_numpy(), rows["day"].to_numpy(), places[names.indices.to_numpy()]]
                    + [rows[name].to_numpy() for name in ("dau", "wau", "mau")]
                )
        numbers, days, places, *counts = (np.concatenate(column) for column in zip(*found, strict=True))
        return [by_position(job, (numbers, days, places), count) for count in counts]


def _rows_accepted(task: Task) -> bool:
    """Whether ClickHouse has accepted a row of figures, as the worker's metrics say."""
    log = task.folder / "process.log"
    if not log.exists() or not (address := _METRICS.search(log.read_text(errors="replace"))):
        return False
    try:
        with urllib.request.urlopen(address.group(1), timeout=5) as answer:
            rows = _ROWS.search(answer.read().decode())
    except OSError:
        return False
    return rows is not None and float(rows.group(1)) > 0
