"""Kinds of panels. Each takes a title, a sentence that says what is shown, and its queries; width is of 24 columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from grafana_foundation_sdk.builders import bargauge, statetimeline, table, timeseries
from grafana_foundation_sdk.builders import stat as stat_panel
from grafana_foundation_sdk.builders.common import (
    GraphThresholdsStyleConfig,
    ReduceDataOptions,
    StackingConfig,
    VizLegendOptions,
    VizTooltipOptions,
)
from grafana_foundation_sdk.builders.dashboard import FieldColor, ThresholdsConfig
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.variants import Dataquery
from grafana_foundation_sdk.models.common import (
    BarGaugeDisplayMode,
    BarGaugeNamePlacement,
    BarGaugeValueMode,
    BigValueColorMode,
    BigValueGraphMode,
    GraphDrawStyle,
    GraphThresholdsStyleMode,
    LegendDisplayMode,
    LegendPlacement,
    SortOrder,
    StackingMode,
    TooltipDisplayMode,
    VisibilityMode,
    VizOrientation,
)
from grafana_foundation_sdk.models.dashboard import (
    DataSourceRef,
    DynamicConfigValue,
    FieldColorModeId,
    Panel,
    Threshold,
    ThresholdsMode,
    ValueMap,
    ValueMappingResult,
)

from deploy.grafana.sources import CLICKHOUSE, PROMETHEUS

AnyPanel: TypeAlias = Builder[Panel]
Targets: TypeAlias = Builder[Dataquery] | Sequence[Builder[Dataquery]]
Steps: TypeAlias = Sequence[tuple[str, float | None]]

SHARE: Final = "percentunit"
MONEY: Final = "currencyUSD"
SECONDS: Final = "s"
BYTES: Final = "bytes"
COUNT: Final = "short"
RATE: Final = "cps"

NEUTRAL: Final[Steps] = (("text", None),)
"""Nothing about this number is good or bad."""

STAT_HEIGHT: Final = 4
TREND_HEIGHT: Final = 8

_FILL: Final = 8
_STACKED_FILL: Final = 60
_BAR_FILL: Final = 80
_MANY_SERIES: Final = 20


@dataclass(frozen=True)
class Column:
    """How a column of a table is shown.

    Attributes:
        name: its heading, where it is not the query's name.
        unit: one of the units above; '' for what is no number.
        decimals: digits behind the point.
        link: where a click leads, an URL with Grafana's variables.
    """

    unit: str = ""
    decimals: int | None = None
    name: str = ""
    link: str = ""
    link_title: str = ""


def steps(colours: Steps) -> ThresholdsConfig:
    """Each colour from its number on; the first one's is None."""
    return (
        ThresholdsConfig()
        .mode(ThresholdsMode.ABSOLUTE)
        .steps([Threshold(value=value, color=colour) for colour, value in colours])
    )


def stat(
    title: str,
    sentence: str,
    target: Builder[Dataquery],
    unit: str,
    *,
    decimals: int | None = None,
    colours: Steps = NEUTRAL,
    width: int = 4,
    height: int = STAT_HEIGHT,
    spark: bool = True,
    none: str = "none",
) -> AnyPanel:
    """The newest number, with its course behind it."""
    panel = (
        stat_panel.Panel()
        .title(title)
        .description(sentence)
        .datasource(_source([target]))
        .targets([target])
        .unit(unit)
        .thresholds(steps(colours))
        .color_mode(BigValueColorMode.VALUE)
        .graph_mode(BigValueGraphMode.AREA if spark else BigValueGraphMode.NONE)
        .reduce_options(ReduceDataOptions().calcs(["lastNotNull"]).values(False))
        .no_value(none)
        .span(width)
        .height(height)
    )
    return panel if decimals is None else panel.decimals(decimals)


def trend(
    title: str,
    sentence: str,
    targets: Targets,
    unit: str,
    *,
    by: str = "",
    decimals: int | None = None,
    stacked: bool = False,
    bars: bool = False,
    alarm: float | None = None,
    from_zero: bool = True,
    width: int = 12,
    height: int = TREND_HEIGHT,
) -> AnyPanel:
    """Lines over time, one for each value of the column `by` or for each column of numbers.

    Args:
        stacked: the series add up, and are drawn on top of each other. Never for distinct users or for shares.
        bars: a bar for each point: figures of days or periods that have nothing between them.
        alarm: the number at which an alert fires, drawn as a line.
        from_zero: whether the axis begins at 0.
    """
    asked = [targets] if isinstance(targets, Builder) else list(targets)
    panel = (
        timeseries.Panel()
        .title(title)
        .description(sentence)
        .datasource(_source(asked))
        .targets(asked)
        .unit(unit)
        .color_scheme(FieldColor().mode(FieldColorModeId.PALETTE_CLASSIC))
        .draw_style(GraphDrawStyle.BARS if bars else GraphDrawStyle.LINE)
        .line_width(0 if bars else 1 if stacked else 2)
        .fill_opacity(_BAR_FILL if bars else _STACKED_FILL if stacked else _FILL)
        .show_points(VisibilityMode.NEVER)
        .legend(
            VizLegendOptions()
            .display_mode(LegendDisplayMode.TABLE)
            .placement(LegendPlacement.RIGHT)
            .show_legend(True)
            .calcs(["lastNotNull"])
        )
        .tooltip(VizTooltipOptions().mode(TooltipDisplayMode.MULTI).sort(SortOrder.DESCENDING))
        .span(width)
        .height(height)
    )
    if from_zero:
        panel = panel.axis_soft_min(0)
    if decimals is not None:
        panel = panel.decimals(decimals)
    if by:
        panel = panel.display_name(f"${{__field.labels.{by}}}")
    if stacked:
        panel = panel.stacking(StackingConfig().mode(StackingMode.NORMAL).group("A"))
    if alarm is not None:
        panel = panel.thresholds(steps((("transparent", None), ("red", alarm)))).thresholds_style(
            GraphThresholdsStyleConfig().mode(GraphThresholdsStyleMode.DASHED)
        )
    return panel


def bars(
    title: str,
    sentence: str,
    target: Builder[Dataquery],
    unit: str,
    *,
    decimals: int | None = None,
    width: int = 8,
    height: int = TREND_HEIGHT,
) -> AnyPanel:
    """A bar a row: a column with its name, a column with its number; the longest first, as the query orders them."""
    panel = (
        bargauge.Panel()
        .title(title)
        .description(sentence)
        .datasource(_source([target]))
        .targets([target])
        .unit(unit)
        .min(0)
        .thresholds(steps((("blue", None),)))
        .orientation(VizOrientation.HORIZONTAL)
        .display_mode(BarGaugeDisplayMode.BASIC)
        .value_mode(BarGaugeValueMode.TEXT)
        .name_placement(BarGaugeNamePlacement.LEFT)
        .show_unfilled(False)
        .reduce_options(ReduceDataOptions().calcs(["lastNotNull"]).values(True).limit(_MANY_SERIES))
        .span(width)
        .height(height)
    )
    return panel if decimals is None else panel.decimals(decimals)


def grid(
    title: str,
    sentence: str,
    target: Builder[Dataquery],
    columns: Mapping[str, Column],
    *,
    width: int = 24,
    height: int = TREND_HEIGHT,
) -> AnyPanel:
    """A table, in the order of its query; `columns` says how those that are no plain text are shown."""
    panel = (
        table.Panel()
        .title(title)
        .description(sentence)
        .datasource(_source([target]))
        .targets([target])
        .filterable(True)
        .show_header(True)
        .span(width)
        .height(height)
    )
    for name, column in columns.items():
        panel = panel.override_by_name(name, _properties(column))
    return panel


def timeline(
    title: str, sentence: str, target: Builder[Dataquery], words: Mapping[int, tuple[str, str]], *, width: int = 12
) -> AnyPanel:
    """States over time: a band for each series; `words` has the word and the colour of each number."""
    return (
        statetimeline.Panel()
        .title(title)
        .description(sentence)
        .datasource(_source([target]))
        .targets([target])
        .mappings(
            [
                ValueMap(
                    options={
                        str(number): ValueMappingResult(text=word, color=colour)
                        for number, (word, colour) in words.items()
                    }
                )
            ]
        )
        .show_value(VisibilityMode.AUTO)
        .row_height(0.8)
        .span(width)
        .height(TREND_HEIGHT)
    )


def _properties(column: Column) -> list[DynamicConfigValue]:
    found = []
    if column.name:
        found.append(DynamicConfigValue(id_val="displayName", value=column.name))
    if column.unit:
        found.append(DynamicConfigValue(id_val="unit", value=column.unit))
    if column.decimals is not None:
        found.append(DynamicConfigValue(id_val="decimals", value=column.decimals))
    if column.link:
        found.append(DynamicConfigValue(id_val="links", value=[{"title": column.link_title, "url": column.link}]))
    return found


def _source(targets: Sequence[Builder[Dataquery]]) -> DataSourceRef:
    """All queries of a panel go to one data source."""
    asked = {_uid(target.build()) for target in targets}
    return PROMETHEUS if asked == {PROMETHEUS.uid} else CLICKHOUSE


def _uid(query: Dataquery) -> str | None:
    source = getattr(query, "datasource", CLICKHOUSE)
    return source.uid if isinstance(source, DataSourceRef) else None
