"""Secrets of a compose project: made once, each where only the services that need it see it.

`python -m deploy.compose.secrets FOLDER` fills the folders `pingstream`, `prometheus`, `clickhouse` and `grafana` in FOLDER. What is
there stays, so a key or a password of one's own can be put there before.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import sys
from pathlib import Path
from string import Template
from urllib.parse import quote, unquote, urlsplit

CLICKHOUSE = "clickhouse:8123"
"""Where workers find ClickHouse in the project's network."""

_USERS = Path(__file__).with_name("clickhouse-users.xml")
_BYTES = 24


def make(folder: Path) -> None:
    """Makes what is missing.

    `pingstream/` has settings of the program as files, `prometheus/` the token of its metrics, `grafana/` the passwords of its administrator and of its
    ClickHouse user, `clickhouse/` the users of ClickHouse with the hashes of their passwords.

    Args:
        folder: has the four folders, or gets them.

    Raises:
        OSError: it cannot be written.
    """
    once(folder / "pingstream" / "pingstream_pseudonym_key", secrets.token_urlsafe(_BYTES))
    token = once(folder / "pingstream" / "pingstream_web_token", secrets.token_urlsafe(_BYTES))
    write(folder / "prometheus" / "web_token", token)
    password = quote(secrets.token_urlsafe(_BYTES), safe="")
    dsn = once(folder / "pingstream" / "pingstream_clickhouse", f"http://pingstream:{password}@{CLICKHOUSE}")
    once(folder / "grafana" / "admin_password", secrets.token_urlsafe(_BYTES))
    reader = once(folder / "grafana" / "clickhouse_password", secrets.token_urlsafe(_BYTES))
    users = Template(_USERS.read_text()).substitute(
        pingstream=_sha256(unquote(urlsplit(dsn).password or "")), grafana=_sha256(reader)
    )
    write(folder / "clickhouse" / "pingstream.xml", users)


def once(file: Path, text: str) -> str:
    """What the file holds; `text`, written there, when there is none."""
    if not file.exists():
        write(file, text)
    return file.read_text().strip()


def write(file: Path, text: str) -> None:
    """Writes as a whole or not at all. Every user of the services that mount the folder may read it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_name(f".{file.name}.draft")
    draft.write_text(text + "\n")
    draft.chmod(0o444)
    os.replace(draft, file)


def _sha256(password: str) -> str:
    return hashlib.sha256(password.encode()).hexdigest()


if __name__ == "__main__":
    make(Path(sys.argv[1]))
