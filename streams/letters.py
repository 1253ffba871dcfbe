"""Dead letters, for as long as it takes: nothing of a message goes on before its letter stands in the topic.

A topic that is missing or refuses makes its pipeline wait, as ClickHouse does when it is away; the other topic goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_exponential

from sinks.dead_letters import DeadLetter, DeadLetters
from sinks.message_limits import MessageLimits
from sinks.prometheus import Metrics

log = structlog.get_logger("pingstream.letters")

CLOSE_SECONDS = 2.0


class _Abandoned(Exception):
    """The partitions are not ours any more: their next owner writes the letters."""


class Letters:
    """The dead letters' topic of a source topic, as the pipeline sees it.

    Args:
        topic: its name.
        connect: makes a producer of its own; another one after each failure, since an idempotent producer has lost its
            place once something was refused.
        mend: makes the topic when it is missing; may raise KafkaError.
    """

    def __init__(
        self,
        topic: str,
        connect: Callable[[], AIOKafkaProducer],
        limits: MessageLimits,
        mend: Callable[[], Awaitable[None]],
        metrics: Metrics,
    ) -> None:
        self._topic = topic
        self._connect = connect
        self._limits = limits
        self._mend = mend
        self._metrics = metrics
        self._producer: AIOKafkaProducer | None = None
        self.failing: str | None = None
        """Why letters are waiting, None while they are not."""

    async def send(self, letters: Sequence[DeadLetter], still_ours: Callable[[], bool]) -> bool:
        """Writes letters, again and again until all of them are acknowledged. One that was written before a failure is written
        twice, as after a crash: it is known by its message's place.

        Returns:
            True once they are, False when the topic refused until `still_ours` said no.
        """
        if not letters:
            return True

        def failed(state: RetryCallState) -> None:
            error = state.outcome.exception() if state.outcome else None
            self._metrics.sink_errors.labels(self._topic).inc()
            if self.failing is None:
                log.warning(
                    "the dead letters' topic takes no letters; their messages wait, and those behind them",
                    topic=self._topic, error=repr(error)[:500],
                )  # fmt: skip
            self.failing = repr(error)[:500]

        try:
            async for attempt in AsyncRetrying(
                retry=retry_if_exception_type(KafkaError), wait=wait_exponential(0.2, max=10), before_sleep=failed
            ):
                with attempt:
                    if self.failing is not None:
                        if not still_ours():
                            raise _Abandoned
                        await self.close()
                        await self._mend()
                    await self._write(letters)
        except _Abandoned:
            return False
        if self.failing is not None:
            log.info("the dead letters' topic takes letters again", topic=self._topic)
            self.failing = None
        return True

    async def _write(self, letters: Sequence[DeadLetter]) -> None:
        if self._producer is None:
            self._producer = self._connect()
            await self._producer.start()
        await DeadLetters(self._producer, self._limits).send(letters)

    async def close(self) -> None:
        """Closes the connection; what is still on its way may arrive."""
        producer, self._producer = self._producer, None
        if producer is not None:
            with contextlib.suppress(TimeoutError, KafkaError):
                await asyncio.wait_for(producer.stop(), CLOSE_SECONDS)
