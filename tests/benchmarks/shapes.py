"""The two shapes of the benchmark: seeded, with the figures that must come out of them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from deploy.message import Message
from sinks.topics import USAGE_PINGS

DAYS = 40
FIRST_DAY = dt.date(2026, 1, 4)
LAST_DAY = FIRST_DAY + dt.timedelta(days=DAYS - 1)

STAGES = ("create", "verify", "plan", "secure", "package", "deploy", "monitor", "govern")
FEATURES = ("merge_requests", "pipelines", "issues", "scans", "registry")

Presence = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Shape:
    """A data set: every installation sends a ping a day, which tells of that day and repeats the day before.

    Attributes:
        users: of each installation.
        stages, features: stages, and features of each.
        active: mean chance that a user is active on a day.
        used: mean number of features that an active user uses a day.
    """

    name: str
    installations: int
    users: int
    stages: int
    features: int
    active: float
    used: float


SMALL = Shape("small", 2_000, 30, 6, 3, 0.4, 3.0)
LARGE = Shape("large", 40, 5_000, 8, 5, 0.5, 5.0)


@dataclass(frozen=True)
class Installation:
    """One installation's year, as numbers.

    Attributes:
        ids: of its users, ascending.
        present: [day, user, feature]: who used what when; feature f is of stage f // features.
    """

    uuid: str
    ids: npt.NDArray[np.int64]
    present: Presence

    def users(self, day: int, window: int, columns: slice) -> int:
        """How many users were active in some of the columns in the `window` days up to `day`."""
        seen = self.present[max(0, day - window + 1) : day + 1, :, columns]
        return int(seen.any(axis=(0, 2)).sum())


def names(shape: Shape) -> list[tuple[str, str]]:
    """(stage, feature) of each column."""
    return [(STAGES[s], f"{STAGES[s]}_{FEATURES[f]}") for s in range(shape.stages) for f in range(shape.features)]


def installation(shape: Shape, number: int) -> Installation:
    """The same for the same shape and number, however many there are."""
    rng = np.random.default_rng([2026, shape.users, number])
    columns = shape.stages * shape.features
    ids = np.sort(rng.choice(shape.users * 10, shape.users, replace=False)) + 1
    habit = rng.beta(2 * shape.active, 2 * (1 - shape.active), shape.users)  # some come daily, some hardly ever
    popularity = rng.permutation(1 / np.sqrt(np.arange(1, columns + 1)))
    liked = np.minimum(popularity * shape.used / popularity.sum(), 0.95)
    present = np.empty((DAYS, shape.users, columns), np.bool_)
    for day in range(DAYS):
        present[day] = rng.random((shape.users, columns)) < liked
        present[day] &= (rng.random(shape.users) < habit)[:, None]
    return Installation(f"installation-{number:05d}", ids, present)


@dataclass
class Filled:
    """What was sent.

    Attributes:
        activities: users in all entries, repeats included.
        kept: some installations, to check figures with.
        totals: (dau, wau, mau) summed over all installations on the last day.
        samples: some messages, for measuring decoding alone.
    """

    pings: int
    activities: int
    nbytes: int
    kept: list[Installation]
    totals: tuple[int, int, int]
    samples: list[bytes]


def messages(shape: Shape, installations: int, filled: Filled) -> Iterator[Message]:
    """Every ping in the order of days, while `filled` is told what they hold.

    Only each installation's entries as bytes are kept, of one day at a time: memory stays small.
    """
    labels = [f'"stage":"{stage}","feature":"{feature}","users":[' for stage, feature in names(shape)]
    everybody = [installation(shape, number) for number in range(installations)]
    filled.kept = everybody[:3]
    every = slice(None)
    counts = [[one.users(DAYS - 1, window, every) for window in (1, 7, 28)] for one in everybody]
    dau, wau, mau = (sum(column) for column in zip(*counts, strict=True))
    filled.totals = dau, wau, mau
    before: list[tuple[str, int]] = [("", 0)] * installations
    for day in range(DAYS):
        date = FIRST_DAY + dt.timedelta(days=day)
        moment = dt.datetime.combine(date, dt.time(22), dt.UTC)
        timestamp_ms = int(moment.timestamp()) * 1000
        for number, one in enumerate(everybody):
            yesterday, repeated = before[number]
            today, told = _entries(one, day, date, labels)
            before[number] = today, told
            joined = f"{yesterday},{today}" if yesterday and today else yesterday or today
            value = (
                f'{{"uuid":"{one.uuid}","hostname":"gitlab.{one.uuid}.example","version":"18.3.1-ee","edition":"EEP",'
                f'"recorded_at":"{moment:%Y-%m-%dT%H:%M:%SZ}","active_user_count":{shape.users},"activity":[{joined}]}}'
            ).encode()
            filled.pings += 1
            filled.activities += repeated + told
            filled.nbytes += len(value)
            if number == 0 or filled.pings % 97 == 0:
                filled.samples.append(value)
            yield Message(USAGE_PINGS, one.uuid.encode(), value, timestamp_ms)


def _entries(one: Installation, day: int, date: dt.date, labels: list[str]) -> tuple[str, int]:
    """A day's entries as JSON, and the number of users in them."""
    by_feature = one.present[day].T
    parts = []
    for column in np.flatnonzero(by_feature.any(axis=1)).tolist():
        users = ",".join(map(str, one.ids[by_feature[column]].tolist()))
        parts.append(f'{{"date":"{date}",{labels[column]}{users}]}}')
    return ",".join(parts), int(by_feature.sum())
