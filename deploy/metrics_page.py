"""The table of metrics in `docs/operations.md`: `make metrics` writes it from their definitions, a test compares it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from sinks.prometheus import Definition, Metrics

PAGE: Final = Path(__file__).parents[1] / "docs" / "operations.md"
BEGIN: Final = "<!-- metrics: written by `make metrics` -->"
END: Final = "<!-- metrics end -->"


def page() -> str:
    """The page with the table of today's metrics."""
    before, rest = PAGE.read_text().split(BEGIN)
    _, after = rest.split(END)
    lines = ["| metric | type | unit | meaning |", "| --- | --- | --- | --- |", *map(_line, Metrics("").definitions)]
    return f"{before}{BEGIN}\n{chr(10).join(lines)}\n{END}{after}"


def _line(metric: Definition) -> str:
    labels = f"{{{','.join(metric.labels)}}}" if metric.labels else ""
    return f"| `{metric.name}{labels}` | {metric.kind} | {metric.unit} | {metric.sentence} |"


if __name__ == "__main__":
    PAGE.write_text(page())
