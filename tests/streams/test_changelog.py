"""A claim stands right behind what was recovered, or it is none."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from streams.changelog import Changelog, Overtaken
from streams.ledger.records import Change

CLAIM = [Change(b"p", b"claim")]


class Batch:
    """Takes everything."""

    def __init__(self) -> None:
        self._records = 0

    def append(self, **_: Any) -> object:
        self._records += 1
        return object()

    def record_count(self) -> int:
        return self._records

    def close(self) -> None:
        pass


class Producer:
    """Acknowledges each batch at the end of its partition.

    Args:
        ends: of the partitions.
    """

    def __init__(self, ends: dict[int, int]) -> None:
        self.ends = ends

    def create_batch(self) -> Batch:
        return Batch()

    async def send_batch(self, batch: Batch, topic: str, *, partition: int) -> asyncio.Future[Any]:
        done = asyncio.get_running_loop().create_future()
        done.set_result(SimpleNamespace(topic=topic, partition=partition, offset=self.ends[partition]))
        self.ends[partition] += batch.record_count()
        return done


async def test_a_claim_behind_what_is_known_is_taken_and_gives_the_new_ends() -> None:
    changelog = Changelog(Producer({0: 7, 1: 0}), "changelog")  # type: ignore[arg-type]
    await changelog.claim({0: CLAIM * 2, 1: CLAIM}, {0: 7, 3: 9})
    await changelog.claim({0: CLAIM}, {0: 9, 1: 1})


@pytest.mark.parametrize("end", [8, 1])
async def test_of_two_who_recovered_the_same_state_the_first_one_has_it(end: int) -> None:
    changelog = Changelog(Producer({0: end, 1: 0}), "changelog")  # type: ignore[arg-type]
    with pytest.raises(Overtaken, match="changelog, partition 0: another worker has written to it"):
        await changelog.claim({0: CLAIM, 1: CLAIM}, {0: 7} if end == 8 else {})
