"""A dashboard as a picture: each panel in its place, drawn from the answers to its queries."""

from __future__ import annotations

import io
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from matplotlib.ticker import FuncFormatter, MaxNLocator
from PIL import Image

from tests.grafana.expansion import Values, words
from tests.grafana.reading import Answer, Json, Lines, Table
from tests.grafana.units import shown

mpl.use("agg")

COLUMN = 0.54
"""Inches of one of the 24 columns."""

LINE = 0.35
"""Inches of a unit of height."""

DPI = 92
CHARACTER = 0.07 / (24 * COLUMN)
"""Width of a character of 7.6 points, as a share of the picture's."""

COLOURS = 200
"""In the file's palette: enough for thin lines on white, and small."""

INK, FAINT, EDGE, GROUND = "#1f2328", "#6b7280", "#d5d9de", "#f3f4f6"
NAMED = {"green": "#2f9e44", "yellow": "#d9a400", "orange": "#e8590c", "red": "#e03131", "blue": "#3b6fd4", "text": INK}
SERIES = (
    "#3b6fd4", "#e8590c", "#2f9e44", "#9c36b5", "#d9a400", "#0c8599", "#d6336c", "#5c940d", "#6741d9", "#868e96", "#a0522d", "#1098ad",
)  # fmt: skip

DAY = 86_400.0

LEGEND = 11
"""Series that a legend names."""

Answers = Mapping[int, Sequence[Answer]]
"""The answers to the queries of each panel, by its id."""

Period = tuple[float, float]
"""Grafana's time range, in seconds since 1970."""

Mark = tuple[float, float, str]
"""An annotation: from and until when, in seconds since 1970, and its colour."""


def draw(board: Json, values: Values, answers: Answers, marks: Sequence[Mark], period: Period, path: Path) -> int:
    """Writes the dashboard as a PNG; gives its size in bytes."""
    height = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in board["panels"]) + 2.6
    figure = Figure(figsize=(24 * COLUMN, height * LINE), facecolor=GROUND)
    figure.text(0.012, 1 - 0.9 / height, board["title"], size=17, weight="bold", color=INK, va="center")
    chosen = "   ".join(f"{v['label']}: {_chosen(v, values)}" for v in board["templating"]["list"])
    figure.text(0.012, 1 - 1.9 / height, f"{chosen}   {_period(board)}", size=9.5, color=FAINT, va="center")
    for panel in board["panels"]:
        place = panel["gridPos"]
        bottom = 1 - (2.6 + place["y"] + place["h"]) / height
        box = (place["x"] / 24, bottom, place["w"] / 24, place["h"] / height)
        if panel["type"] == "row":
            figure.text(
                0.012, bottom + 0.4 * box[3], words(panel["title"], _short(values)), size=12, weight="bold", color=INK
            )
        else:
            _Drawn(figure, panel, box, height, values, marks, period).draw(answers[panel["id"]])
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=DPI, format="png")
    Image.open(buffer).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)
    return path.stat().st_size


def _chosen(variable: Json, values: Values) -> str:
    return "All" if variable.get("includeAll") else " + ".join(values[variable["name"]])


def _short(values: Values) -> Values:
    """For titles: what stands for many is `All`."""
    return {name: chosen if len(chosen) == 1 else ["All"] for name, chosen in values.items()}


def _period(board: Json) -> str:
    return f"Time range: {board['time']['from']} to {board['time']['to']}, UTC"


class _Drawn:
    """One panel: its card, and what is in it."""

    def __init__(
        self,
        figure: Figure,
        panel: Json,
        box: tuple[float, float, float, float],
        height: float,
        values: Values,
        marks: Sequence[Mark],
        period: Period,
    ) -> None:
        self._marks = marks
        self._period = period
        self._figure = figure
        self._panel = panel
        self._unit_high = 1 / height
        self._defaults: Json = panel["fieldConfig"]["defaults"] if panel.get("fieldConfig") else {}
        left, bottom, wide, high = box
        gap_x, gap_y = 0.0025, 0.12 * self._unit_high
        self._left, self._bottom = left + gap_x, bottom + gap_y
        self._wide, self._high = wide - 2 * gap_x, high - 2 * gap_y
        figure.patches.append(
            FancyBboxPatch(
                (self._left, self._bottom), self._wide, self._high, boxstyle="round,pad=0,rounding_size=0.002",
                transform=figure.transFigure, facecolor="white", edgecolor=EDGE, linewidth=0.8, zorder=-1,
            )
        )  # fmt: skip
        title = words(panel["title"], _short(values))
        figure.text(
            self._left + 0.006, self._bottom + self._high - 0.5 * self._unit_high, title,
            size=10 if len(title) * 1.35 * CHARACTER < self._wide else 8.5, weight="bold", color=INK, va="center",
        )  # fmt: skip

    def draw(self, answers: Sequence[Answer]) -> None:
        match self._panel["type"]:
            case "stat":
                self._stat(answers[0])
            case "timeseries":
                self._trend([answer for answer in answers if isinstance(answer, Lines)])
            case "bargauge":
                self._bars(answers[0])
            case "table":
                self._table(answers[0])
            case "state-timeline":
                self._timeline(answers[0])
            case other:
                raise ValueError(f"no picture of a panel of type {other}")

    def _axes(self, left: float, bottom: float, right: float, top: float) -> Axes:
        """Axes inside the card; left and right in shares of its width, bottom and top in units of height."""
        low, high = bottom * self._unit_high, top * self._unit_high
        axes = self._figure.add_axes(
            (
                self._left + left * self._wide,
                self._bottom + low,
                (1 - left - right) * self._wide,
                self._high - low - high,
            )
        )
        axes.spines[["top", "right", "left", "bottom"]].set_visible(False)
        axes.tick_params(length=0, labelsize=8, colors=FAINT)
        return axes

    def _say(self, value: Any) -> str:
        return shown(value, self._defaults.get("unit", ""), self._defaults.get("decimals"))

    # ---- kinds of panels -------------------------------------------------------------------------------------------------

    def _stat(self, answer: Answer) -> None:
        points: list[tuple[float, float | None]] = []
        if isinstance(answer, Lines):
            points = next(iter(answer.lines.values()), [])
            known = [value for _, value in points if value is not None]
            value: Any = known[-1] if known else None
        else:
            value = answer.rows[-1][-1] if answer.rows else None
        text = self._defaults.get("noValue", "") if value is None else self._say(value)
        colour = INK if value is None else self._colour(float(value))
        if self._panel["options"]["graphMode"] == "area" and len(points) > 1:
            axes = self._axes(0, 0, 0, 2.4)
            axes.axis("off")
            line = [(at, value) for at, value in points if value is not None]
            low = min(value for _, value in line)
            axes.fill_between([at for at, _ in line], [v for _, v in line], low, color=colour, alpha=0.12, lw=0)
            axes.plot([at for at, _ in line], [v for _, v in line], color=colour, alpha=0.5, lw=1)
            axes.margins(0)
        self._figure.text(
            self._left + 0.5 * self._wide, self._bottom + 0.44 * self._high, text,
            size=23 if len(text) < 11 else 17, weight="bold", color=colour, ha="center", va="center",
        )  # fmt: skip

    def _colour(self, value: float) -> str:
        steps = self._defaults["thresholds"]["steps"]
        reached = [step["color"] for step in steps if step["value"] is None or value >= step["value"]]
        return NAMED[reached[-1]]

    def _trend(self, answers: Sequence[Lines]) -> None:
        lines = {name: points for answer in answers for name, points in answer.lines.items()}
        custom: Json = self._defaults.get("custom", {})
        order = sorted(lines, key=lambda name: -(_last(lines[name]) or 0))
        entries = [(name, self._say(_last(lines[name]))) for name in order]
        longest = max((len(name) + len(value) for name, value in entries[:LEGEND]), default=0) + 7
        legend = min(max(longest * CHARACTER / self._wide, 0.16), 0.42)
        ticks = 0.06 if self._defaults.get("unit") in ("s", "bytes", "cps") else 0.042
        axes = self._axes(ticks / self._wide, 1.25, legend, 1.5)
        axes.grid(axis="y", color=EDGE, lw=0.6)
        axes.set_axisbelow(True)
        colours = {name: SERIES[number % len(SERIES)] for number, name in enumerate(order)}
        if custom.get("stacking", {}).get("mode") == "normal":
            self._stack(axes, lines, order, colours, custom.get("drawStyle") == "bars")
        else:
            for name in reversed(order):
                points = lines[name]
                axes.plot(
                    [_days(at) for at, _ in points],
                    [_or_nan(value) for _, value in points],
                    color=colours[name],
                    lw=1.4,
                )
        self._alarm(axes, lines)
        for begun, ended, colour in self._marks:
            axes.axvspan(_days(begun), _days(ended), color=NAMED[colour], alpha=0.35, lw=0.8)
        if custom.get("axisSoftMin") == 0 and all(
            (value or 0) >= 0 for points in lines.values() for _, value in points
        ):
            axes.set_ylim(bottom=0)
        axes.yaxis.set_major_locator(MaxNLocator(5))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: self._say(value)))
        self._in_time(axes, DAY * 14 if custom.get("drawStyle") == "bars" else 0.0)
        self._legend(1 - legend + 0.01 / self._wide, [(name, colours[name], value) for name, value in entries])

    def _stack(
        self,
        axes: Axes,
        lines: Mapping[str, list[tuple[float, float | None]]],
        order: Sequence[str],
        colours: Mapping[str, str],
        bars: bool,
    ) -> None:
        moments = sorted({at for points in lines.values() for at, _ in points})
        above, below = dict.fromkeys(moments, 0.0), dict.fromkeys(moments, 0.0)
        apart = min((b - a for a, b in itertools.pairwise(moments)), default=DAY)
        for name in order:
            found = {at: value or 0.0 for at, value in lines[name]}
            tops = [found.get(at, 0.0) for at in moments]
            bases = [(above if top >= 0 else below)[at] for at, top in zip(moments, tops, strict=True)]
            where = [_days(at) for at in moments]
            if bars:
                axes.bar(where, tops, width=0.7 * _days(apart), bottom=bases, color=colours[name])
            else:
                ends = [base + top for base, top in zip(bases, tops, strict=True)]
                axes.fill_between(where, bases, ends, color=colours[name], alpha=0.75, lw=0.4)
            for at, top in zip(moments, tops, strict=True):
                (above if top >= 0 else below)[at] += top
        axes.axhline(0, color=FAINT, lw=0.6)

    def _alarm(self, axes: Axes, lines: Mapping[str, list[tuple[float, float | None]]]) -> None:
        for step in self._defaults.get("thresholds", {}).get("steps", [])[1:]:
            highest = max((value or 0 for points in lines.values() for _, value in points), default=0)
            if highest > 0.6 * step["value"]:
                axes.axhline(step["value"], color=NAMED[step["color"]], lw=1, ls="--")

    def _legend(self, left: float, entries: Sequence[tuple[str, str, str]]) -> None:
        for number, (name, colour, value) in enumerate(entries[:LEGEND]):
            y = self._bottom + self._high - (1.55 + 0.53 * number) * self._unit_high
            room = int((1 - left) * self._wide / CHARACTER) - len(value) - 2
            self._figure.text(self._left + left * self._wide, y, "■", size=7, color=colour, va="center")
            self._figure.text(
                self._left + left * self._wide + 0.008, y, name if len(name) <= room else f"{name[: room - 1]}…",
                size=7.6, color=INK, va="center",
            )  # fmt: skip
            self._figure.text(
                self._left + self._wide - 0.005, y, value, size=7.6, color=INK, ha="right", va="center", weight="bold"
            )
        if len(entries) > LEGEND:
            y = self._bottom + self._high - (1.55 + 0.53 * LEGEND) * self._unit_high
            self._figure.text(
                self._left + left * self._wide,
                y,
                f"and {len(entries) - LEGEND} more",
                size=7.6,
                color=FAINT,
                va="center",
            )

    def _bars(self, answer: Answer) -> None:
        assert isinstance(answer, Table)
        rows = answer.rows
        longest = max((len(str(name)) for name, _ in rows), default=1)
        left = min(0.52, 0.035 + longest * CHARACTER / self._wide)
        axes = self._axes(left, 0.3, 0.16 if self._wide > 0.2 else 0.22, 1.2)
        names = [str(name) for name, _ in rows]
        axes.barh(range(len(rows)), [float(value or 0) for _, value in rows], color=SERIES[0], alpha=0.85, height=0.68)
        axes.set_yticks(range(len(rows)), names, size=min(8.5, 8.5 * 16 / max(len(rows), 16)), color=INK)
        axes.invert_yaxis()
        axes.set_xticks([])
        axes.set_xlim(left=0)
        axes.set_ylim(max(len(rows), 3) - 0.4, -0.6)
        for number, (_, value) in enumerate(rows):
            axes.text(float(value or 0), number, f" {self._say(value)}", va="center", size=8, color=INK)

    def _table(self, answer: Answer) -> None:
        assert isinstance(answer, Table)
        rows = answer.rows
        if not rows:
            self._figure.text(
                self._left + 0.5 * self._wide,
                self._bottom + 0.4 * self._high,
                "No data",
                size=11,
                color=FAINT,
                ha="center",
            )
            return
        fit = int((self._panel["gridPos"]["h"] - 1.9) / 0.62)
        units = {
            override["matcher"]["options"]: {found["id"]: found["value"] for found in override["properties"]}
            for override in self._panel["fieldConfig"]["overrides"]
        }
        cells = [
            [
                shown(value, units.get(name, {}).get("unit", ""), units.get(name, {}).get("decimals"))
                for name, value in zip(answer.columns, row, strict=True)
            ]
            for row in rows[:fit]
        ]
        names = [units.get(name, {}).get("displayName", name) for name in answer.columns]
        widths = [max([len(name), *(len(line[number]) for line in cells)]) + 2 for number, name in enumerate(names)]
        size = min(8.2, 8.2 * self._wide / (sum(widths) * 1.05 * CHARACTER))
        scale = min(self._wide * 0.985 / (sum(widths) * 1.05 * CHARACTER), 1.6) * 1.05 * CHARACTER
        left = self._left + 0.006
        for number, name in enumerate(answer.columns):
            right = any(isinstance(row[number], int | float) or type(row[number]).__name__ == "Decimal" for row in rows)
            links = "links" in units.get(name, {})
            at = left + (widths[number] - 2) * scale if right else left
            for line, text in enumerate([names[number], *(cell[number] for cell in cells)]):
                self._figure.text(
                    at, self._bottom + self._high - (1.35 + 0.62 * line) * self._unit_high, text, size=size, va="center",
                    ha="right" if right else "left", color=FAINT if line == 0 else NAMED["blue"] if links else INK,
                    weight="bold" if line == 0 else "normal",
                )  # fmt: skip
            left += widths[number] * scale
        if len(rows) > fit:
            self._figure.text(
                self._left + self._wide - 0.006, self._bottom + self._high - 0.5 * self._unit_high,
                f"{fit} of {len(rows)} rows", size=8, color=FAINT, ha="right", va="center",
            )  # fmt: skip

    def _timeline(self, answer: Answer) -> None:
        assert isinstance(answer, Lines)
        axes = self._axes(0.2, 1.25, 0.03, 1.5)
        mapping = self._defaults["mappings"][0]["options"]
        for number, points in enumerate(answer.lines.values()):
            ends = [*points[1:], points[-1]]
            for (at, value), (until, _) in zip(points, ends, strict=True):
                state = mapping[str(int(value or 0))]
                axes.barh(
                    number, _days(until - at), left=_days(at), height=0.5, color=NAMED[state["color"]],
                )  # fmt: skip
            axes.text(_days(points[-1][0]), number, f"{state['text']} ", ha="right", va="center", size=9, color="white")
        axes.set_yticks(range(len(answer.lines)), list(answer.lines), size=8.5, color=INK)
        axes.set_ylim(max(len(answer.lines), 2) - 0.5, -0.6)
        self._in_time(axes)

    def _in_time(self, axes: Axes, beyond: float = 0.0) -> None:
        """The axis of Grafana's time range, and some seconds beyond it: bars of 28 days stand on its end."""
        begun, ended = self._period
        axes.set_xlim(_days(begun - beyond), _days(ended + beyond))
        locator = AutoDateLocator(maxticks=7)
        axes.xaxis_date()
        axes.xaxis.set_major_locator(locator)
        axes.xaxis.set_major_formatter(ConciseDateFormatter(locator, show_offset=False))


def _days(at: float) -> float:
    """A moment as matplotlib has it: days since 1970."""
    return at / DAY


def _or_nan(value: float | None) -> float:
    return float("nan") if value is None else value


def _last(points: Sequence[tuple[float, float | None]]) -> float | None:
    return next((value for _, value in reversed(points) if value is not None), None)
