"""The pseudonym key: from the settings, or made once and kept in the data folder."""

from __future__ import annotations

import os
import secrets
import tempfile
from pathlib import Path

import structlog

from deploy.cli.errors import WrongUse
from schemas.settings import Settings

log = structlog.get_logger("pingstream.settings")

FILE = "pseudonym.key"


def pseudonym_key(settings: Settings) -> bytes:
    """The key that user ids are pseudonymised with. Says so when it makes one.

    Raises:
        WrongUse: the kept key cannot be read.
    """
    if settings.pseudonym_key is not None:
        return settings.pseudonym_key.get_secret_value().encode()
    file = settings.data_dir / FILE
    if not file.exists():
        _make(file)
        log.info(
            "made a pseudonym key; keep it, other workers need the same (PINGSTREAM_PSEUDONYM_KEY)", file=str(file)
        )
    try:
        key = file.read_bytes().strip()
    except OSError as exc:
        raise WrongUse(f"the pseudonym key in {file} cannot be read: {exc}") from None
    if len(key) < 16:
        raise WrongUse(f"the pseudonym key in {file} is cut off; put the whole key back, or users count twice")
    return key


def _make(file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=FILE + ".", dir=file.parent)
    try:
        with os.fdopen(handle, "w") as out:
            out.write(secrets.token_hex(32))
        os.link(name, file)  # fails where another process was first: its key stands
    except FileExistsError:
        pass
    finally:
        Path(name).unlink(missing_ok=True)
