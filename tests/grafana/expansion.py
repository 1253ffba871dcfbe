"""What Grafana makes of a query before it asks: variables and the few macros that the dashboards use."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

Values = Mapping[str, Sequence[str]]
"""The chosen values of each variable."""


@dataclass(frozen=True)
class Moment:
    """What a query depends on beside its text.

    Attributes:
        start, end: Grafana's time range, seconds since 1970.
        step: `$__interval` of Prometheus, in seconds.
        rate: `$__rate_interval`, in seconds.
        values: what is chosen in each variable.
    """

    start: int
    end: int
    step: int = 60
    rate: int = 240
    values: Values = field(default_factory=dict)


def sql(text: str, moment: Moment) -> str:
    """A query of the ClickHouse data source as ClickHouse gets it.

    Raises:
        ValueError: it uses a macro, a format or a variable that is not known here.
    """
    text = re.sub(r"\$__fromTime\b", f"toDateTime({moment.start})", text)
    text = re.sub(r"\$__toTime\b", f"toDateTime({moment.end})", text)
    text = re.sub(r"\$\{(\w+):singlequote\}", lambda found: _quoted(moment.values, found.group(1)), text)
    return _whole(text)


def expression(text: str, moment: Moment) -> str:
    """A query of the Prometheus data source as Prometheus gets it.

    Raises:
        ValueError: as `sql`.
    """
    text = re.sub(r"\$__rate_interval\b", f"{moment.rate}s", text)
    text = re.sub(r"\$__interval\b", f"{moment.step}s", text)
    text = re.sub(r"\$instance\b", lambda _: _pattern(moment.values, "instance"), text)
    return _whole(text)


def words(text: str, values: Values) -> str:
    """A title as people see it."""
    return re.sub(r"\$(\w+)", lambda found: " + ".join(values[found.group(1)]), text)


def _quoted(values: Values, name: str) -> str:
    return ",".join("'" + value.replace("'", "\\'") + "'" for value in _chosen(values, name))


def _pattern(values: Values, name: str) -> str:
    chosen = _chosen(values, name)
    return chosen[0] if len(chosen) == 1 else f"({'|'.join(chosen)})"


def _chosen(values: Values, name: str) -> Sequence[str]:
    if name not in values:
        raise ValueError(f"no variable is called {name}; there are {', '.join(values)}")
    return values[name]


def _whole(text: str) -> str:
    if left := re.search(r"\$[\w{]\S*", text):
        raise ValueError(f"{left.group()} is left of {text}")
    return text
