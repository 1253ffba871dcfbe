"""Every setting as a flag of every command, generated from the model."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from dotenv import dotenv_values
from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from deploy.cli.errors import WrongUse
from schemas.settings import PREFIX, Settings


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _help(field: FieldInfo) -> str:
    text = field.description or ""
    default = field.default
    if default in (None, PydanticUndefined, "") or "[default" in text or str(default).startswith("*"):
        return text
    shown = ",".join(default) if isinstance(default, list) else default
    return f"{text} [default: {shown}]"


def load_settings(flags: dict[str, str | None]) -> Settings:
    """Flags over environment over `.env` over files.

    Raises:
        WrongUse: a setting that cannot be; the sentence names it, what was found and what it should be,
            never the value of a secret.
    """
    given = {name: _of_file(name, value) for name, value in flags.items() if value is not None}
    try:
        return Settings(**given)  # type: ignore[arg-type]
    except ValidationError as exc:
        raise WrongUse("\n".join(_sentence(error, given) for error in exc.errors())) from None


def _of_file(name: str, value: str) -> str:
    """The value of a flag; of a secret's that begins with @ the content of the file that it names: flags can be seen by every
    user of the machine, in the list of its processes."""
    if not (_is_secret(name) and value.startswith("@")):
        return value
    return secret_of_file(_flag(name), value.removeprefix("@"))


def secret_of_file(flag: str, path: str) -> str:
    """Content of a file, without the white space around it.

    Raises:
        WrongUse: it cannot be read.
    """
    try:
        return Path(path).read_text().strip()
    except (OSError, UnicodeDecodeError) as exc:
        raise WrongUse(f"{flag}: the file {path} cannot be read: {exc}") from None


def _is_secret(name: str) -> bool:
    return "SecretStr" in str(Settings.model_fields[name].annotation)


def _sentence(error: Any, flags: dict[str, str]) -> str:
    name = str(error["loc"][0]) if error["loc"] else ""
    message = str(error["msg"]).removeprefix("Value error, ")
    if not name:
        return f"settings: {message}"
    where = _flag(name) if name in flags else PREFIX + name.upper()
    secret = name not in Settings.model_fields or _is_secret(name)
    found = "" if secret else f" (found {str(error['input'])[:80]!r})"
    return f"{where}: {message}{found}"


def unknown_settings() -> list[str]:
    """Names in the environment and in `.env` that look like settings and are none: a typing error, most likely."""
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    seen = {*os.environ, *dotenv_values(".env")}
    return sorted(name for name in seen if name.upper().startswith(PREFIX) and name.upper() not in known)


def with_settings(function: Callable[..., Any]) -> Callable[..., Any]:
    """Adds a flag for every setting and passes the checked `settings` as the first argument."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        flags = {name: kwargs.pop(name) for name in Settings.model_fields}
        for name in unknown_settings():
            click.echo(f"pingstream: {name} is no setting; `pingstream worker --help` lists them", err=True)
        return function(load_settings(flags), *args, **kwargs)

    for name, field in reversed(Settings.model_fields.items()):
        metavar = "VALUE|@FILE" if _is_secret(name) else "VALUE"
        call = click.option(_flag(name), name, default=None, metavar=metavar, help=_help(field))(call)
    return call
