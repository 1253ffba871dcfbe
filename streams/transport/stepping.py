"""Runs a coroutine to its first wait by a plain call."""

from __future__ import annotations

import types
from collections.abc import Coroutine, Generator
from typing import Any


def first_step(coroutine: Coroutine[Any, Any, Any]) -> tuple[bool, Any]:
    """Steps a coroutine once.

    Returns:
        (True, result) when it ended, else (False, an awaitable for the rest).
    """
    try:
        waiting_for = coroutine.send(None)
    except StopIteration as stop:
        return True, stop.value
    return False, _rest(coroutine, waiting_for)


@types.coroutine
def _rest(coroutine: Coroutine[Any, Any, Any], waiting_for: Any) -> Generator[Any, Any, Any]:
    while True:
        try:
            sent = yield waiting_for
        except BaseException as exc:
            try:
                waiting_for = coroutine.throw(exc)
            except StopIteration as stop:
                return stop.value
        else:
            try:
                waiting_for = coroutine.send(sent)
            except StopIteration as stop:
                return stop.value
