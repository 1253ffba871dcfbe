"""Asking ClickHouse from the command line: the way in, one question, and its refusal as a sentence."""

from __future__ import annotations

import json
import re
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError

from deploy.cli.errors import Failure, WrongUse
from schemas.settings import Settings
from sinks.clickhouse.connection import ConnectionFailed, EngineInUse, connect

_PATIENCE = 10.0  # seconds for an engine whose owner is just starting or ending

_PASSING = (159, 202, 209, 210, 241, 243, 252, 279, 999)
"""Codes of what passes: time and memory that ran out, too many queries or parts, a full disk, lost connections, Keeper."""

# How values come: decimals exact and as text, integers of any size as they are, days and times in UTC's plain form.
_VALUES: dict[str, str] = {
    "output_format_json_quote_decimals": "1",
    "output_format_decimal_trailing_zeros": "1",
    "output_format_json_quote_64bit_integers": "0",
    "output_format_json_quote_denormals": "0",
    "date_time_output_format": "simple",
}


@dataclass(frozen=True)
class Answer:
    """Rows with their columns' names and ClickHouse types; values as JSON has them."""

    names: list[str]
    types: list[str]
    rows: list[list[Any]]


@contextmanager
def asking(settings: Settings) -> Iterator[Client]:
    """A client whose current database is the setting's, where there is one. ClickHouse's errors become sentences.

    Raises:
        WrongUse: the engine is in use and lets nobody in, or ClickHouse refuses a statement.
        Failure: ClickHouse cannot be reached, or has no room for a statement now.
    """
    _end_by_ctrl_c()
    try:
        client = connect(settings.clickhouse_dsn, wait=_PATIENCE)
    except EngineInUse as exc:
        raise WrongUse(str(exc)) from None
    except ConnectionFailed as exc:
        raise Failure(str(exc)) from None
    try:
        if client.command(f"EXISTS DATABASE {settings.database}"):
            client.database = settings.database
        yield client
    except ClickHouseError as exc:
        failed = Failure if _worth_again(exc) else WrongUse
        raise failed(refusal(exc)) from None
    finally:
        client.close()


def ask(client: Client, query: str) -> Answer:
    """Runs a query that answers with rows and has no FORMAT clause of its own."""
    raw = client.raw_query(f"{query}\nFORMAT JSONCompactEachRowWithNamesAndTypes", settings=_settable(client))
    # ClickHouse's strings are bytes; what is no text in them must not make the rest unreadable.
    lines = raw.decode(errors="replace").split("\n")
    names, types, *rows = (json.loads(line) for line in lines if line)
    return Answer(names, types, rows)


def refusal(error: ClickHouseError) -> str:
    """ClickHouse's own words in one sentence, with the code to look up."""
    text = str(error)
    code = getattr(error, "code", None)
    match = re.search(r"DB::Exception: (.*)", text, re.DOTALL)
    if match is None:
        return f"ClickHouse did not answer: {' '.join(text.split())}"
    message = match.group(1)
    for tail in (r"\(for url .*", r"\(version [^)]*\)", r"\([A-Z][A-Z0-9_]+\)\s*$", r"Expected one of: .*"):
        message = re.sub(tail, "", message, flags=re.DOTALL).strip()
    name = getattr(error, "name", None)
    return f"ClickHouse: {' '.join(message.split()).rstrip('.')} (code {code}{f', {name}' if name else ''})"


def _worth_again(error: ClickHouseError) -> bool:
    """Whether the same statement may be taken another time."""
    return getattr(error, "code", None) in (None, *_PASSING)


def _end_by_ctrl_c() -> None:
    """Ctrl-C ends the process at once: while the embedded engine works, Python does not come to handle it.

    Nothing is lost by that. The kernel lets go of the engine's lock, and a door that is asked ends the query.
    """
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def _settable(client: Client) -> dict[str, str]:
    """Those of our settings that this server has and lets its user change."""
    known = client.server_settings
    return {name: value for name, value in _VALUES.items() if name in known and not known[name].readonly}
