"""Numbers as Grafana shows them, by the units that the dashboards use."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

_LETTERS = ((1e9, "B"), (1e6, "M"), (1e3, "K"))
_SPANS = ((86_400 * 7, "weeks"), (86_400, "days"), (3600, "hours"), (60, "min"), (1, "s"))
_BYTES = ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"))


def shown(value: Any, unit: str = "", decimals: int | None = None) -> str:
    """A value in words: `shown(0.5, "percentunit")` is 50 %."""
    if value is None:
        return ""
    if isinstance(value, dt.datetime):
        return value.strftime("%Y-%m-%d %H:%M")
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        return str(value)
    number = float(value)
    match unit:
        case "percentunit":
            return f"{_plain(100 * number, 1 if decimals is None else decimals)}%"
        case "currencyUSD":
            return f"{'-' if number < 0 else ''}${_scaled(abs(number), decimals)}"
        case "cps":
            return f"{_scaled(number, decimals)} c/s"
        case "s":
            return _span(number)
        case "bytes":
            return next((f"{number / size:.1f} {name}" for size, name in _BYTES if number >= size), f"{number:.0f} B")
    return _scaled(number, decimals)


def _scaled(number: float, decimals: int | None) -> str:
    for size, letter in _LETTERS:
        if abs(number) >= size:
            return _plain(number / size, 2 if decimals is None else decimals) + letter
    return _plain(number, 2 if decimals is None else decimals)


def _span(number: float) -> str:
    for size, name in _SPANS:
        if abs(number) >= size:
            text = _plain(number / size, 1)
            return f"{text} {name[:-1] if text == '1' and size > 60 else name}"
    return f"{_plain(1000 * number, 1)} ms" if number else "0 s"


def _plain(number: float, decimals: int) -> str:
    text = f"{number:,.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
