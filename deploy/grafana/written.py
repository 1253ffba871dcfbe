"""The dashboards as files."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from deploy.grafana.account import account
from deploy.grafana.expansion import expansion
from deploy.grafana.frame import text
from deploy.grafana.pipeline import pipeline
from deploy.grafana.usage import usage

FOLDER: Final = Path(__file__).parent / "dashboards"
"""Where they stand, and what Grafana is told to read."""


def dashboards() -> dict[str, str]:
    """The text of each file by its name."""
    made = {"pipeline": pipeline(), "usage": usage(), "expansion": expansion(), "account": account()}
    return {f"{name}.json": text(dashboard) for name, dashboard in made.items()}
