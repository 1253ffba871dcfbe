"""Sends a fleet's messages in a thread of its own, so that the demo can watch everything else meanwhile."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable
from types import TracebackType
from typing import Self

from deploy.message import Message
from deploy.producing import produce
from schemas.settings import Settings

_END_SECONDS = 2.0


class Emitter:
    """Sends while the context lasts; what is not sent by its end is not sent at all.

        with Emitter(settings, messages) as emitter:
            while not emitter.done: ...

    Args:
        rate: messages a second, 0 for as many as possible.
    """

    def __init__(self, settings: Settings, messages: Iterable[Message], rate: float = 0.0) -> None:
        self.sent = 0
        """Messages that are acknowledged."""
        self._error: BaseException | None = None
        self._loop = asyncio.new_event_loop()
        self._sending = self._loop.create_task(produce(settings, messages, rate=rate, sent=self._count))
        self._thread = threading.Thread(target=self._run, name="emitter", daemon=True)

    @property
    def done(self) -> bool:
        """Whether everything is sent.

        Raises:
            deploy.cli.errors.Failure: it cannot be.
        """
        if self._thread.is_alive():
            return False
        if self._error is not None:
            raise self._error
        return True

    def _count(self, number: int) -> None:
        self.sent += number

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._sending)
        except BaseException as exc:
            self._error = exc
        finally:
            self._loop.close()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._sending.cancel)
            # Of a broker that is gone the producer takes leave for long; the thread ends with the process.
            self._thread.join(_END_SECONDS)
