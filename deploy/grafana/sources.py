"""The two data sources, and queries to them as Grafana keeps them."""

from __future__ import annotations

from textwrap import dedent
from typing import Final

from grafana_foundation_sdk.builders.prometheus import Dataquery as Asked
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.variants import Dataquery
from grafana_foundation_sdk.models.dashboard import AnnotationTarget, DataSourceRef
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

CLICKHOUSE: Final = DataSourceRef(type_val="grafana-clickhouse-datasource", uid="pingstream-clickhouse")
"""ClickHouse's official data source, by the uid under which `provisioning/datasources` makes it."""

PROMETHEUS: Final = DataSourceRef(type_val="prometheus", uid="pingstream-prometheus")

_SERIES: Final = 0
_TABLE: Final = 1


class Rows(Dataquery):
    """A query of the official ClickHouse data source, written as SQL.

    Args:
        sql: names of tables and views stand without a database: the data source has it.
        series: whether the answer is a time series: a column `time`, ascending, columns of text that tell series apart,
            columns of numbers. Else it is a table.
    """

    def __init__(self, sql: str, *, series: bool) -> None:
        self.sql = dedent(sql).strip()
        self._series = series
        self.ref_id = "A"

    def to_json(self) -> dict[str, object]:
        return {
            "datasource": CLICKHOUSE,
            "editorType": "sql",
            "format": _SERIES if self._series else _TABLE,
            "queryType": "timeseries" if self._series else "table",
            "rawSql": self.sql,
            "refId": self.ref_id,
        }


class RowsOfAnnotation(AnnotationTarget):
    """What an annotation asks ClickHouse for: columns `time`, `timeEnd`, `text` and `tags`."""

    def __init__(self, sql: str) -> None:
        super().__init__()
        self._sql = dedent(sql).strip()

    def to_json(self) -> dict[str, object]:
        return {"editorType": "sql", "rawSql": self._sql, "refId": "annotation"}


class ExpressionOfAnnotation(AnnotationTarget):
    """What an annotation asks Prometheus for: each sample above 0 is a moment."""

    def __init__(self, expression: str) -> None:
        super().__init__()
        self._expression = expression

    def to_json(self) -> dict[str, object]:
        return {"expr": self._expression, "refId": "annotation"}


class Query(Builder[Dataquery]):
    """A query that is built already, as panels of the SDK take only builders."""

    def __init__(self, query: Dataquery) -> None:
        self._query = query

    def build(self) -> Dataquery:
        return self._query


def series(sql: str) -> Query:
    """A time series from ClickHouse, see `Rows`."""
    return Query(Rows(sql, series=True))


def rows(sql: str) -> Query:
    """A table from ClickHouse."""
    return Query(Rows(sql, series=False))


def metric(expression: str, legend: str = "", ref_id: str = "A") -> Asked:
    """A time series from Prometheus; `legend` names each of its series, with `{{label}}`."""
    return Asked().expr(expression).legend_format(legend).range().ref_id(ref_id).datasource(PROMETHEUS)


def metric_now(expression: str) -> Asked:
    """The newest samples from Prometheus, as a table with a column a label."""
    return Asked().expr(expression).instant().format(PromQueryFormat.TABLE).ref_id("A").datasource(PROMETHEUS)
