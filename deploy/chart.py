"""The Helm chart, and what in it follows from elsewhere: `make chart` writes that, a test compares it.

The settings in `values.schema.json` follow from the model, `files/prometheus` from the alert rules, and the table of values in
`docs/kubernetes.md` from both and from the comments in `values.yaml` that begin with "# --".
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from schemas.settings import OFF, PREFIX, Settings

ROOT = Path(__file__).parents[1]
CHART = ROOT / "deploy" / "helm"
SCHEMA = CHART / "values.schema.json"
RULES = ROOT / "deploy" / "prometheus"
PAGE = ROOT / "docs" / "kubernetes.md"
BEGIN, END = "<!-- values: written by `make chart` -->", "<!-- values end -->"

NARROWER: Mapping[str, Mapping[str, Any]] = {
    "kafka": {"pattern": r"^[^,\s]+:[0-9]+(,[^,\s]+:[0-9]+)*$"},  # the NetworkPolicy takes the ports from it
    "data_dir": {"pattern": "^/"},  # a mount's path
    "web_host": {"not": {"const": OFF}},  # probes ask it
    "web_port": {"minimum": 1},  # a container's port
}
"""What a setting must be in a pod beyond what the program asks of it."""


def groups() -> dict[str, list[str]]:
    """The program's settings by where the chart has them: `secrets`, `files` (paths of files to read), `settings`."""
    found: dict[str, list[str]] = {"settings": [], "secrets": [], "files": []}
    for name, described in Settings.model_json_schema()["properties"].items():
        if any(option.get("format") == "password" for option in [described, *described.get("anyOf", [])]):
            found["secrets"].append(name)
        elif name.endswith("_file"):
            found["files"].append(name)
        else:
            found["settings"].append(name)
    return found


def schema() -> dict[str, Any]:
    """`values.schema.json` with the settings of today's model."""
    written: dict[str, Any] = json.loads(SCHEMA.read_text())
    where = groups()
    model = Settings.model_json_schema()["properties"]
    name = {"$ref": "#/definitions/name"}
    key = {"type": "string", "pattern": "^[-._a-zA-Z0-9]+$"}
    written["properties"]["settings"] = _closed({n: _setting(n, model[n]) for n in where["settings"]})
    written["properties"]["secrets"] = _closed(
        {n: _closed({"value": {"type": "string"}, "existingSecret": name, "key": key}) for n in where["secrets"]}
    )
    written["properties"]["files"] = _closed({n: _closed({"existingSecret": name, "key": key}) for n in where["files"]})
    return written


def _closed(properties: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "properties": dict(properties)}


def _setting(name: str, described: Mapping[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in described.items() if key not in {"title", "default", "description"}}
    options = [option for option in kept.pop("anyOf", []) if option != {"type": "null"}]
    if options:  # an empty value is no value, for what has no default
        kept["anyOf"] = [*options, {"const": ""}]
    return {**kept, **NARROWER.get(name, {})}


def rules() -> dict[str, str]:
    """The rule files that Prometheus loads, by their names."""
    return {
        file.name: file.read_text()
        for file in sorted(RULES.glob("*.yml"))
        if "groups" in yaml.safe_load(file.read_text())
    }


def page() -> str:
    """`docs/kubernetes.md` with the table of today's values."""
    before, rest = PAGE.read_text().split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n{_table()}{END}{after}"


def _table() -> str:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    lines = ["| value | default | meaning |", "| --- | --- | --- |"]
    for path, meaning in _described():
        default: Any = values
        for key in path:
            default = default[key]
        if isinstance(default, list | dict) and len(shown := json.dumps(default, ensure_ascii=False)) > 60:
            shown = "see values.yaml"
        else:
            shown = f"`{json.dumps(default, ensure_ascii=False)}`" if default not in ("", None) else ""
        lines.append(f"| `{'.'.join(path)}` | {shown} | {meaning} |")
    return "\n".join(lines) + "\n"


def _described() -> Iterator[tuple[tuple[str, ...], str]]:
    """Each value with its meaning, in the order of the file: a comment describes all that is below its key.

    Raises:
        ValueError: a value has none.
    """
    meanings = dict(_comments())
    fields = Settings.model_fields
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    stack: list[tuple[tuple[str, ...], Any]] = [((key,), value) for key, value in reversed(values.items())]
    while stack:
        path, value = stack.pop()
        if path in meanings:
            yield path, meanings[path]
        elif path[0] in groups() and len(path) == 2:
            yield path, f"`{PREFIX}{path[1].upper()}`. {fields[path[1]].description}".replace("|", "\\|")
        elif isinstance(value, dict):
            stack += [((*path, key), below) for key, below in reversed(value.items())]
        else:
            raise ValueError(f"{'.'.join(path)} has no comment that begins with '# --'")


def _comments() -> Iterator[tuple[tuple[str, ...], str]]:
    path: list[tuple[int, str]] = []
    waiting: str | None = None
    for line in (CHART / "values.yaml").read_text().splitlines():
        if comment := re.match(r"\s*# -- (.+)", line):
            waiting = comment[1]
        elif key := re.match(r"(\s*)([A-Za-z_]+):", line):
            while path and path[-1][0] >= len(key[1]):
                path.pop()
            path.append((len(key[1]), key[2]))
            if waiting is not None:
                yield tuple(name for _, name in path), waiting
            waiting = None


def main() -> None:
    """Writes all of it."""
    SCHEMA.write_text(json.dumps(schema(), indent=2) + "\n")
    folder = CHART / "files" / "prometheus"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, text in rules().items():
        (folder / name).write_text(text)
    PAGE.write_text(page())


if __name__ == "__main__":
    main()
