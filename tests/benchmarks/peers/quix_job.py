"""The process of Quix Streams, in an environment of its own: `quix_job.py TASK.json`. Dense, with numpy.

An installation's state is one value: user ids, ascending, and a matrix [feature, user] of day masks. A ping is folded as a
whole: one array of users, one of features and days, one scatter. A message with the day's figures goes to the result topic
for each day that is new or has changed.

Left out, in its favour: lateness, duplicates, days beyond 64, user ids that are no numbers, pseudonyms, dau and wau.
"""

from __future__ import annotations

import datetime as dt
import itertools
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from quixstreams import Application
from quixstreams.models import TopicConfig
from quixstreams.state import State

Array = Any
STATE = "installation"
HEAD = 2  # numbers before the ids: how many users, the newest day
ONE = np.uint64(1)


def windows(days: int) -> Array:
    """[day]: the mask of the 28 days up to each day."""
    return np.array([((1 << (day + 1)) - 1) & ~((1 << max(0, day - 27)) - 1) for day in range(days)], np.uint64)


class Folding:
    """Folds a ping into an installation's state, and gives the figures of days that are new or have changed."""

    def __init__(self, task: dict[str, Any]) -> None:
        first = dt.date.fromisoformat(task["first_day"])
        self._days = {str(first + dt.timedelta(day)): day for day in range(task["days"])}
        self._columns = {(stage, feature): number for number, (stage, feature) in enumerate(task["features"])}
        self._features = len(task["features"])
        self._stages = task["stages"]
        self._windows = windows(task["days"])

    def __call__(self, value: bytes, state: State) -> list[bytes]:
        ping = orjson.loads(value)
        kept = state.get_bytes(STATE)
        if kept is None:
            ids, masks, newest = np.empty(0, np.int64), np.empty((self._features, 0), np.uint64), -1
        else:
            users, newest = np.frombuffer(kept, np.int64, HEAD).tolist()
            ids = np.frombuffer(kept, np.int64, users, 8 * HEAD)
            masks = np.frombuffer(kept, np.uint64, offset=8 * (HEAD + users)).reshape(self._features, users)
        entries = ping["activity"]
        lists = [entry["users"] for entry in entries]
        who = np.fromiter(itertools.chain.from_iterable(lists), np.int64, sum(map(len, lists)))
        columns = np.array([self._columns[entry["stage"], entry["feature"]] for entry in entries], np.int64)
        days = np.array([self._days[entry["date"]] for entry in entries], np.int64)
        ids, rows, masks = self._rows(ids, who, masks)
        changed = newest + 1
        lengths = np.array([len(users) for users in lists], np.int64)
        places = np.repeat(columns * len(ids), lengths) + rows
        of_day = np.repeat(days, lengths)
        for day in np.unique(days).tolist():
            on = np.zeros(masks.size, np.uint64)
            on[places[of_day == day]] = ONE << np.uint64(day)
            with_day = masks | on.reshape(masks.shape)
            if day < changed and not np.array_equal(with_day, masks):
                changed = day
            masks = with_day
        newest = max(newest, self._days[ping["recorded_at"][:10]])
        state.set_bytes(
            STATE, b"".join((np.array([len(ids), newest], np.int64).tobytes(), ids.tobytes(), masks.tobytes()))
        )
        return [self._figures(masks, day) for day in range(changed, newest + 1)]

    def _rows(self, ids: Array, who: Array, masks: Array) -> tuple[Array, Array, Array]:
        """(ids, row of each user, masks), with rows for those who are new."""
        rows: Array = np.searchsorted(ids, who)
        known: Array = rows < len(ids)
        known[known] = ids[rows[known]] == who[known]
        if known.all():
            return ids, rows, masks
        every = np.union1d(ids, who)
        moved = np.zeros((self._features, len(every)), np.uint64)
        moved[:, np.searchsorted(every, ids)] = masks
        return every, np.searchsorted(every, who), moved

    def _figures(self, masks: Array, day: int) -> bytes:
        seen = (masks & self._windows[day]) != 0
        stages = seen.reshape(self._stages, -1, seen.shape[1]).any(axis=1)
        counted = (stages.any(axis=0).sum(), *stages.sum(axis=1), *seen.sum(axis=1))
        return np.array((day, *counted), "<i4").tobytes()


def main() -> None:
    task = json.loads(Path(sys.argv[1]).read_text())
    app = Application(
        broker_address=task["kafka"],
        consumer_group="quix",
        auto_offset_reset="earliest",
        state_dir=str(Path(task["folder"], "quix")),
        loglevel="WARNING",
        consumer_extra_config={"max.partition.fetch.bytes": 8 * 1024 * 1024, "fetch.max.bytes": 64 * 1024 * 1024},
        producer_extra_config={"linger.ms": 50, "message.max.bytes": 8 * 1024 * 1024},
    )
    pings = app.topic(task["topic"], key_deserializer="bytes", value_deserializer="bytes")
    figures = app.topic(task["results"], key_serializer="bytes", value_serializer="bytes", config=TopicConfig(4, 1))
    app.dataframe(pings).apply(Folding(task), stateful=True, expand=True).to_topic(figures)
    app.run(count=task["pings"])


if __name__ == "__main__":
    main()
