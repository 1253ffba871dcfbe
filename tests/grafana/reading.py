"""The dashboards' queries, asked of real data sources as Grafana asks them."""

from __future__ import annotations

import datetime as dt
import json
import re
import urllib.parse
import urllib.request
from collections import defaultdict
from dataclasses import dataclass, field, replace
from typing import Any

from clickhouse_connect.driver.client import Client

from deploy.grafana.written import FOLDER
from tests.grafana.expansion import Moment, expression, sql

Json = dict[str, Any]


@dataclass
class Table:
    """Columns of equal length."""

    columns: dict[str, list[Any]] = field(default_factory=dict)
    types: dict[str, str] = field(default_factory=dict)

    @property
    def rows(self) -> list[tuple[Any, ...]]:
        return list(zip(*self.columns.values(), strict=True))


@dataclass
class Lines:
    """Series over time: name to (seconds since 1970, number or None), ascending."""

    lines: dict[str, list[tuple[float, float | None]]] = field(default_factory=dict)


Answer = Table | Lines


@dataclass(frozen=True)
class Sources:
    """Where queries go.

    Attributes:
        client: ClickHouse with the views; the data source's database is its own.
        prometheus: Prometheus' address; '' where there is none.
    """

    client: Client
    prometheus: str = ""
    _selected: dict[str, Table] = field(default_factory=dict, repr=False)

    def ask(self, target: Json, moment: Moment, named: str = "") -> Answer:
        """The answer to a target of a panel or of an annotation.

        Args:
            named: the panel's display name for series, as `${__field.labels.stage}`.
        """
        if "rawSql" in target:
            table = self.select(sql(target["rawSql"], moment))
            return _as_lines(table, named) if target.get("format") == 0 else table
        asked = expression(target["expr"], moment)
        if target.get("instant"):
            found = self._prometheus("query", query=asked, time=moment.end)
            return _as_table(found)
        found = self._prometheus("query_range", query=asked, start=moment.start, end=moment.end, step=moment.step)
        legend = target.get("legendFormat", "")
        return Lines(
            {
                _legend(legend, series["metric"]): [
                    (float(at), None if value == "NaN" else float(value)) for at, value in series["values"]
                ]
                for series in found
            }
        )

    def select(self, statement: str) -> Table:
        """What ClickHouse answers; the same statement is asked once."""
        if statement not in self._selected:
            self._selected[statement] = self._ask(statement)
        return self._selected[statement]

    def _ask(self, statement: str) -> Table:
        result = self.client.query(statement)
        return Table(
            dict(zip(result.column_names, map(list, result.result_columns), strict=False)),
            {name: kind.name for name, kind in zip(result.column_names, result.column_types, strict=True)},
        )

    def labels(self, metric: str, label: str) -> list[str]:
        """The values of a label, as Grafana's label_values."""
        return sorted({series[label] for series in self._prometheus("series", **{"match[]": metric})})

    def _prometheus(self, path: str, /, **parameters: Any) -> Any:
        url = f"{self.prometheus}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=20) as answer:
            data = json.load(answer)["data"]
        return data["result"] if isinstance(data, dict) else data


def dashboard(name: str) -> Json:
    """A dashboard as it is written."""
    found: Json = json.loads((FOLDER / f"{name}.json").read_text())
    return found


def panels(board: Json) -> list[Json]:
    """Panels that ask, in the order of reading."""
    return [panel for panel in board["panels"] if panel["type"] != "row"]


def variables(board: Json) -> list[Json]:
    return list(board["templating"]["list"])


def chosen(board: Json, sources: Sources, moment: Moment) -> Moment:
    """The moment with each variable at its default, asked of the sources where it is a query."""
    for variable in variables(board):
        moment = replace(moment, values={**moment.values, variable["name"]: _default(variable, sources, moment)})
    return moment


def options(board: Json) -> dict[str, list[str]]:
    """The values of each variable that has a fixed list."""
    return {
        variable["name"]: [option["value"] for option in variable["options"]]
        for variable in variables(board)
        if variable["type"] == "custom"
    }


def _default(variable: Json, sources: Sources, moment: Moment) -> list[str]:
    if variable["type"] == "custom":
        return [variable["current"]["value"]]
    query = variable["query"]
    if isinstance(query, dict):
        found = re.fullmatch(r"label_values\((\w+), (\w+)\)", query["query"])
        assert found
        assert sources.labels(*found.groups())
        return [variable["allValue"]]
    (values,) = sources.select(sql(query, moment)).columns.values()
    assert values, f"{variable['name']} has nothing to choose from"
    return values if variable["multi"] else values[:1]


def _as_lines(table: Table, named: str) -> Lines:
    """As the data source makes wide frames of long ones: columns of text tell series apart."""
    assert not table.columns or next(iter(table.columns)) == "time"
    texts = [name for name, kind in table.types.items() if "String" in kind]
    numbers = [name for name in table.columns if name != "time" and name not in texts]
    lines: dict[str, list[tuple[float, float | None]]] = defaultdict(list)
    last = None
    for row in table.rows:
        cells = dict(zip(table.columns, row, strict=True))
        assert last is None or last <= cells["time"], "a time series ascends"
        last = cells["time"]
        for number in numbers:
            label = re.fullmatch(r"\$\{__field\.labels\.(\w+)\}", named)
            name = str(cells[label.group(1)]) if label else number
            value = cells[number]
            lines[name].append((last.replace(tzinfo=dt.UTC).timestamp(), None if value is None else float(value)))
    for name, points in lines.items():
        assert len({at for at, _ in points}) == len(points), f"{name} has two points at one time"
    return Lines(dict(lines))


def _as_table(found: list[Json]) -> Table:
    names = list(dict.fromkeys(label for series in found for label in series["metric"]))
    columns: dict[str, list[Any]] = {name: [series["metric"].get(name, "") for series in found] for name in names}
    return Table(columns | {"Value": [float(series["value"][1]) for series in found]} if found else {})


def _legend(legend: str, labels: dict[str, str]) -> str:
    return re.sub(r"\{\{(\w+)\}\}", lambda found: labels.get(found.group(1), ""), legend) or str(labels)
