"""What a check found."""

from __future__ import annotations

from typing import Literal, NamedTuple

State = Literal["ok", "warning", "problem"]


class Finding(NamedTuple):
    """One thing that was looked at.

    Attributes:
        state: `problem` keeps a worker from starting, or figures from being right; `warning` may do so later.
        found: what is the case, a sentence.
        advice: what to do about it; '' where nothing is to be done.
    """

    part: str
    check: str
    state: State
    found: str
    advice: str = ""


def ok(part: str, check: str, found: str) -> Finding:
    """Nothing to do."""
    return Finding(part, check, "ok", found)


def warning(part: str, check: str, found: str, advice: str) -> Finding:
    """Better mended, though work goes on."""
    return Finding(part, check, "warning", found, advice)


def problem(part: str, check: str, found: str, advice: str) -> Finding:
    """To be mended."""
    return Finding(part, check, "problem", found, advice)
