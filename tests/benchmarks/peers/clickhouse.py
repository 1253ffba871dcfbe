"""ClickHouse's own Kafka table engine, inside chdb, and the query that makes every figure."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa

from tests.benchmarks.peers.jobs import Figures, by_position
from tests.benchmarks.peers.systems import Skipped, Spent, System, Task, measured
from tests.running import environment

_JOB = Path(__file__).with_name("clickhouse_job.py")


class ClickHouse(System):
    """Day bitmasks of users for installations of up to a thousand users, bitmaps of a day's users above."""

    name = "clickhouse"

    def prepare(self) -> None:
        tried = subprocess.run(
            [sys.executable, str(_JOB), "--try"], env=environment(), capture_output=True, text=True, timeout=120
        )
        if tried.returncode:
            raise Skipped(f"this chdb has no Kafka engine that works: {tried.stderr.strip().splitlines()[-1:]}")

    def run(self, task: Task) -> Spent:
        results = task.folder / "figures.arrow"
        layout = "masks" if task.job.shape.users <= 1_000 else "bitmaps"
        file = task.file(results=str(results), layout=layout)
        return measured([sys.executable, str(_JOB), str(file)], task, results.exists)

    def figures(self, task: Task) -> list[Figures]:
        with pa.ipc.open_stream(task.folder / "figures.arrow") as stream:
            rows = stream.read_all()
        job = task.job
        numbers = np.array([int(uuid[-5:]) for uuid in rows["uuid"].to_pylist()], np.int64)
        counts = rows["mau"].combine_chunks()
        lengths = counts.value_lengths().to_numpy()
        days = rows["days"].combine_chunks().flatten().to_numpy()
        stages, features = rows["stage"].to_numpy(), rows["feature"].to_numpy()
        places = np.where(features > 0, job.shape.stages + features, stages).astype(np.int64)
        flat = counts.flatten().to_numpy()
        return [by_position(job, (np.repeat(numbers, lengths), days, np.repeat(places, lengths)), flat)]
