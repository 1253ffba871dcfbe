"""Messages that go on coming while faults happen."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence
from typing import Self

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from deploy.message import Message

CHUNK_SECONDS = 0.1


class Load:
    """Sends messages in their order, in the background, until all are acknowledged. A broker that is away is waited for.

    What was not acknowledged when it went is sent again, so a few messages may stand twice in the topic: duplicates, which
    the oracle sees too.

    Args:
        partitions: of both source topics; messages without a key are dealt to them in turn.
        rate: messages a second, 0 for as many as possible.
    """

    def __init__(self, bootstrap: str, messages: Sequence[Message], rate: float, partitions: int) -> None:
        self._bootstrap = bootstrap
        self._messages = messages
        self._partitions = partitions
        self._chunk = max(1, int(rate * CHUNK_SECONDS)) if rate else 1_000
        self._pause = self._chunk / rate if rate else 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="load", daemon=True)
        self.acknowledged = 0
        self.interruptions = 0

    @property
    def running(self) -> bool:
        """Whether there is something left to send."""
        return self._thread.is_alive()

    def join(self, seconds: float = 120.0) -> None:
        """Waits until everything is sent."""
        self._thread.join(seconds)
        assert not self._thread.is_alive(), f"{self.acknowledged} of {len(self._messages)} sent in {seconds:.0f} s"
        assert self._stop.is_set() or self.acknowledged == len(self._messages)

    def stop(self) -> None:
        """Sends no more."""
        self._stop.set()
        self.join(30)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(30)

    def _run(self) -> None:
        while self.acknowledged < len(self._messages) and not self._stop.is_set():
            try:
                asyncio.run(self._send())
            except (KafkaError, OSError):
                self.interruptions += 1
                time.sleep(0.2)

    async def _send(self) -> None:
        producer = AIOKafkaProducer(
            bootstrap_servers=self._bootstrap,
            acks="all",
            enable_idempotence=True,
            linger_ms=2,
            request_timeout_ms=5_000,
            max_request_size=64 * 1024 * 1024,
        )
        try:
            await producer.start()
            while self.acknowledged < len(self._messages) and not self._stop.is_set():
                begun = time.monotonic()
                chunk = self._messages[self.acknowledged : self.acknowledged + self._chunk]
                waiting = []
                for number, message in enumerate(chunk, self.acknowledged):
                    turn = number % self._partitions if message.key is None else None
                    waiting.append(
                        await producer.send(
                            message.topic, message.value, message.key, partition=turn, timestamp_ms=message.timestamp_ms
                        )
                    )
                await asyncio.gather(*waiting)
                self.acknowledged += len(chunk)
                await asyncio.sleep(max(0.0, begun + self._pause - time.monotonic()))
        finally:
            await producer.stop()
