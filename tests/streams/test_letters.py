"""Letters are written again until their topic takes them; then what waited goes on, and nothing is left out."""

from __future__ import annotations

from typing import Any

import pytest
from aiokafka.errors import InvalidTimestampError

from schemas.dead_letters import Reason
from sinks.dead_letters import DeadLetter
from sinks.prometheus import Metrics
from streams import letters as module
from streams.letters import Letters

TOPIC = "usage-pings.dlq"


class Refusing:
    """A producer's topic that refuses as often as it is told to; `taken`: offsets of what it took."""

    def __init__(self, refusals: int) -> None:
        self.refusals = refusals
        self.taken: list[int] = []
        self.made = self.stopped = self.mended = 0

    def connect(self) -> Any:
        self.made += 1
        return self

    async def start(self) -> None: ...

    async def stop(self) -> None:
        self.stopped += 1

    async def mend(self) -> None:
        self.mended += 1

    async def send(self, topic: str, *, headers: list[tuple[str, bytes]], **_: Any) -> Any:
        assert topic == TOPIC
        offset = int(dict(headers)["pingstream-offset"])

        async def acknowledged() -> None:
            if self.refusals:
                self.refusals -= 1
                raise InvalidTimestampError
            self.taken.append(offset)

        return acknowledged()


class Roomy:
    """Limits that are never in the way."""

    async def make_room(self, topic: str, size: int) -> None: ...


def letter(offset: int) -> DeadLetter:
    return DeadLetter("usage-pings", 0, offset, 1, b"k", b"{", Reason.NOT_JSON, "no JSON", 0)


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is logged."""
    found: list[str] = []

    class Log:
        def warning(self, event: str, **_: Any) -> None:
            found.append(event)

        info = warning

    monkeypatch.setattr(module, "log", Log())
    return found


def box(topic: Refusing) -> tuple[Letters, Metrics]:
    metrics = Metrics("test")
    roomy: Any = Roomy()
    return Letters(TOPIC, topic.connect, roomy, topic.mend, metrics), metrics


async def test_a_topic_that_refuses_is_tried_again_by_another_producer_and_it_is_said_once(said: list[str]) -> None:
    topic = Refusing(3)
    letters, metrics = box(topic)
    assert await letters.send([letter(7)], lambda: True)
    assert topic.taken == [7]
    assert (topic.made, topic.stopped, topic.mended) == (4, 3, 3)
    assert [sentence[:50] for sentence in said] == [
        "the dead letters' topic takes no letters; their me",
        "the dead letters' topic takes letters again",
    ]
    assert metrics.sink_errors.labels(TOPIC)._value.get() == 3
    assert await letters.send([letter(8), letter(9)], lambda: True)
    assert topic.taken == [7, 8, 9] and topic.made == 4 and letters.failing is None and len(said) == 2


async def test_letters_of_partitions_that_are_gone_are_left_to_their_next_owner(said: list[str]) -> None:
    topic = Refusing(100)
    letters, _ = box(topic)
    tries = 0

    def still_ours() -> bool:
        nonlocal tries
        tries += 1
        return tries < 3

    assert not await letters.send([letter(7)], still_ours)
    assert not topic.taken and tries == 3 and len(said) == 1


async def test_without_letters_there_is_no_producer() -> None:
    topic = Refusing(0)
    letters, _ = box(topic)
    assert await letters.send([], lambda: False)
    await letters.close()
    assert not topic.made
