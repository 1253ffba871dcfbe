"""What all dashboards share: name and links, variables, annotations, layout, and how they are written down."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from grafana_foundation_sdk.builders import dashboard as sdk
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import (
    AnnotationQuery,
    AnnotationTarget,
    Dashboard,
    DashboardCursorSync,
    DashboardLinkType,
    DataSourceRef,
    VariableModel,
    VariableOption,
    VariableRefresh,
    VariableSort,
)

from deploy.grafana.panels import AnyPanel
from deploy.grafana.sources import CLICKHOUSE, PROMETHEUS, ExpressionOfAnnotation, RowsOfAnnotation

TAG: Final = "pingstream"

NAMES: Final = ("Pipeline", "Usage", "Expansion", "Account")
"""All dashboards, in the order of their links."""

LAST_YEAR: Final = ("now-1y/d", "now-1d/d")
"""Whole days up to yesterday: nobody has told of today."""

LAST_HOURS: Final = ("now-6h", "now")

UTC: Final = "utc"
"""Days are days in UTC, so axes are in UTC too."""


@dataclass(frozen=True)
class Section:
    """Panels under a title, in rows of 24 columns."""

    title: str
    panels: Sequence[AnyPanel]


def build(
    name: str,
    sentence: str,
    sections: Sequence[Section],
    *,
    variables: Sequence[Builder[VariableModel]] = (),
    annotations: Sequence[AnnotationQuery] = (),
    period: tuple[str, str] = LAST_YEAR,
    refresh: str = "",
) -> Dashboard:
    """A dashboard with the uid `pingstream-<name>`, and links to the others.

    Args:
        name: one of `NAMES`.
        sentence: whom it is for and what it answers.
        refresh: how often it asks again by itself; '' for never.
    """
    builder = (
        sdk.Dashboard(f"Pingstream: {name}")
        .uid(f"{TAG}-{name.lower()}")
        .description(sentence)
        .tags([TAG])
        .timezone(UTC)
        .time(*period)
        .refresh(refresh)
        .editable()
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .links([_link(name, other) for other in NAMES if other != name])
        .variables(list(variables))
        .annotations([_Built(annotation) for annotation in annotations])
    )
    for section in sections:
        builder = builder.with_row(sdk.Row(section.title))
        for panel in section.panels:
            builder = builder.with_panel(panel)
    made = builder.build()
    for number, placed in enumerate(made.panels or [], start=1):
        placed.id_val = number  # so that a link to a panel stays good
    return made


def _link(name: str, other: str) -> sdk.DashboardLink:
    """To another dashboard, with the time range where both are about days: a year is nothing for *Pipeline*."""
    return (
        sdk.DashboardLink(other)
        .type(DashboardLinkType.LINK)
        .url(f"/d/{TAG}-{other.lower()}")
        .icon("dashboard")
        .keep_time("Pipeline" not in (name, other))
    )


def text(made: Dashboard) -> str:
    """A dashboard as the file that Grafana reads; the same dashboard gives the same text."""
    return json.dumps(made, cls=JSONEncoder, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def one_of(name: str, label: str, values: Sequence[str], sentence: str) -> sdk.CustomVariable:
    """A variable with values that are known; the first is chosen until somebody chooses."""
    return (
        sdk.CustomVariable(name)
        .label(label)
        .description(sentence)
        .values(",".join(values))
        .current(VariableOption(text=values[0], value=values[0]))
        .options([VariableOption(text=v, value=v, selected=v == values[0]) for v in values])
        .multi(False)
        .include_all(False)
    )


def any_of(name: str, label: str, sql: str, sentence: str) -> sdk.QueryVariable:
    """A variable with values from ClickHouse; all of them until somebody chooses."""
    return (
        _asked(name, label, sql, sentence)
        .multi(True)
        .include_all(True)
        .current(VariableOption(text=["All"], value=["$__all"]))
        .sort(VariableSort.ALPHABETICAL_ASC)
    )


def one_asked(name: str, label: str, sql: str, sentence: str) -> sdk.QueryVariable:
    """A variable with a value from ClickHouse, the first until somebody chooses; others can be typed."""
    return _asked(name, label, sql, sentence).multi(False).include_all(False).allow_custom_value(True)


def _asked(name: str, label: str, sql: str, sentence: str) -> sdk.QueryVariable:
    return (
        sdk.QueryVariable(name)
        .label(label)
        .description(sentence)
        .datasource(CLICKHOUSE)
        .query(sql)
        .refresh(VariableRefresh.ON_DASHBOARD_LOAD)
    )


def workers() -> sdk.QueryVariable:
    """The workers that Prometheus knows, all of them until somebody chooses."""
    return (
        sdk.QueryVariable("instance")
        .label("Worker")
        .description("Panels about single workers show these; figures of all workers are not touched by it.")
        .datasource(PROMETHEUS)
        .query({"qryType": 1, "query": "label_values(pingstream_ready, instance)", "refId": "variable"})
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .multi(True)
        .include_all(True)
        .all_value(".+")
        .current(VariableOption(text=["All"], value=["$__all"]))
        .sort(VariableSort.ALPHABETICAL_ASC)
    )


class _FromPrometheus(AnnotationQuery):
    """An annotation whose words come from labels: the SDK has no fields for them."""

    title_format = ""
    text_format = ""

    def to_json(self) -> dict[str, object]:
        return super().to_json() | {"titleFormat": self.title_format, "textFormat": self.text_format}


def deployments() -> AnnotationQuery:
    """When a version of the program began to run that did not run in the hour before: no restart, and no scrape that failed."""
    annotation = _FromPrometheus(
        name="Deployments", datasource=PROMETHEUS, enable=True, icon_color="blue",
        target=ExpressionOfAnnotation(
            "count by (version) (pingstream_build_info)"
            " unless count by (version) (last_over_time(pingstream_build_info[1h] offset $__interval))"
        ),
    )  # fmt: skip
    annotation.title_format = "Pingstream {{version}}"
    annotation.text_format = "A worker of this version began to run."
    return annotation


def gaps() -> AnnotationQuery:
    """Messages that Kafka had deleted before they were read: figures lack them.

    Nothing tells when they were sent, so the mark goes from the newest dead letter before them to the oldest behind them.
    """
    return from_rows(
        "Gaps",
        "red",
        """
        SELECT
            greatest(toDateTime(before, 'UTC'), $__fromTime) AS time,
            if(behind = 0, $__toTime, least(toDateTime(behind, 'UTC'), $__toTime)) AS timeEnd,
            concat(
                topic, ', partition ', toString(partition), ': ', toString(last_offset - first_offset + 1),
                ' messages from offset ', toString(first_offset),
                ' on were deleted before they were read; they were received in this period'
            ) AS text,
            'gap' AS tags
        FROM
        (
            SELECT
                lost.topic AS topic, lost.partition AS partition, first_offset, last_offset,
                maxIf(letter.received_at, letter.offset < first_offset) AS before,
                minIf(letter.received_at, letter.offset > last_offset) AS behind
            FROM (SELECT topic, partition, first_offset, last_offset FROM gap FINAL) AS lost
            LEFT JOIN dead_letter AS letter ON letter.topic = lost.topic AND letter.partition = lost.partition
            GROUP BY topic, partition, first_offset, last_offset
        )
        WHERE before <= $__toTime AND (behind = 0 OR behind >= $__fromTime)
        ORDER BY time
        """,
    )


def from_rows(name: str, colour: str, sql: str) -> AnnotationQuery:
    """Marks from ClickHouse: columns `time`, `timeEnd` (a period), `text`, `tags`."""
    return _annotation(name, colour, CLICKHOUSE, RowsOfAnnotation(sql))


def _annotation(name: str, colour: str, source: DataSourceRef, target: AnnotationTarget) -> AnnotationQuery:
    return AnnotationQuery(name=name, datasource=source, enable=True, icon_color=colour, target=target)


class _Built(Builder[AnnotationQuery]):
    """An annotation that is built already, as the SDK takes only builders."""

    def __init__(self, annotation: AnnotationQuery) -> None:
        self._annotation = annotation

    def build(self) -> AnnotationQuery:
        return self._annotation
