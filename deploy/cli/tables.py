"""Rows on standard output: a table for people, JSON or CSV for programs."""

from __future__ import annotations

import csv
import io
import json
import re
import sys
from collections.abc import Iterable
from typing import Any, Literal

import click
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from deploy.cli.question import Answer

Format = Literal["table", "json", "csv"]
FORMATS = ("table", "json", "csv")

_NUMBER = re.compile(r"(Nullable\(|LowCardinality\()*(U?Int|Float|BFloat|Decimal)\d*")
_WIDE = 1_000_000  # columns of text that a pipe has: nothing is folded or cut there


def write(answer: Answer, output_format: Format) -> None:
    """Writes an answer. NULL is `null` in JSON, empty in CSV and `NULL` in a table."""
    match output_format:
        case "json":
            _write_json(answer)
        case "csv":
            _write_csv(answer)
        case "table":
            _write_table(answer)


def _write_json(answer: Answer) -> None:
    names = _distinct(answer.names)
    objects = (json.dumps(dict(zip(names, row, strict=True)), ensure_ascii=False) for row in answer.rows)
    text = ",\n ".join(objects)
    _out(f"[{text}]\n")


def _write_csv(answer: Answer) -> None:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(answer.names)
    writer.writerows(["" if value is None else _text(value) for value in row] for row in answer.rows)
    _out(out.getvalue())


def _write_table(answer: Answer) -> None:
    terminal = sys.stdout.isatty()
    console = Console(file=sys.stdout, highlight=False, width=None if terminal else _WIDE, no_color=not terminal)
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for name, type_name in zip(answer.names, answer.types, strict=True):
        right = _NUMBER.match(type_name) is not None
        table.add_column(Text(_visible(name)), justify="right" if right else "left", overflow="fold")
    for row in answer.rows:
        table.add_row(*(Text("NULL" if value is None else _visible(_text(value))) for value in row))
    console.print(table)


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)


def _visible(text: str) -> str:
    """Line breaks and whatever else would steer the terminal, written out."""
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)


def _distinct(names: Iterable[str]) -> list[str]:
    """Names of an object's members: the second `a` becomes `a_2`."""
    taken: list[str] = []
    for name in names:
        member, number = name, 1
        while member in taken:
            number += 1
            member = f"{name}_{number}"
        taken.append(member)
    return taken


def _out(text: str) -> None:
    # UTF-8 whatever the terminal's locale: it is data
    stream = click.get_binary_stream("stdout")
    stream.write(text.encode(errors="replace"))
    stream.flush()
