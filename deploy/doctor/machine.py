"""The machine and the settings: disk, the pseudonym key, settings that surprise."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from deploy.cli.options import unknown_settings
from deploy.doctor.finding import Finding, ok, problem, warning
from deploy.pseudonym_key import FILE
from schemas.settings import Settings

GIB = 1024**3
LITTLE, TOO_LITTLE = 10 * GIB, 1 * GIB
PART = "machine"


def check_machine(settings: Settings) -> Iterator[Finding]:
    """Looks at the data folder and at the settings themselves; nothing is written."""
    yield from _folder(settings.data_dir)
    yield from _key(settings)
    for name in unknown_settings():
        yield warning(
            PART, "settings", f"{name} is no setting", "look for a typing error; `pingstream worker --help` lists all"
        )
    if settings.as_of is not None:
        yield warning(
            PART, "settings", f"AS_OF is set: figures stand for {settings.as_of} and do not move with the days",
            "leave it out for live figures",
        )  # fmt: skip
    if settings.has_web and not settings.shows_metrics:
        yield warning(
            PART, "settings", f"metrics are not shown on {settings.web_host}: they need a token there",
            "set WEB_TOKEN and give it to Prometheus, or set WEB_HOST to 127.0.0.1, or to off",
        )  # fmt: skip


def _folder(folder: Path) -> Iterator[Finding]:
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    if not os.access(there, os.W_OK | os.X_OK):
        yield problem(PART, "data folder", f"{there} cannot be written", "allow it, or set DATA_DIR to another folder")
        return
    free = shutil.disk_usage(there).free
    found = f"{free / GIB:,.1f} GiB free for {folder}"
    if free < TOO_LITTLE:
        yield problem(PART, "disk", found, "make room before a worker starts")
    elif free < LITTLE:
        yield warning(PART, "disk", found, "make room, or set DATA_DIR to a larger disk")
    else:
        yield ok(PART, "disk", found)


def _key(settings: Settings) -> Iterator[Finding]:
    file = settings.data_dir / FILE
    if settings.pseudonym_key is not None:
        yield ok(PART, "pseudonym key", "given by the settings")
    elif not file.exists():
        yield ok(PART, "pseudonym key", f"none yet: the first worker makes one and keeps it in {file}")
    elif file.stat().st_mode & 0o077:
        yield warning(PART, "pseudonym key", f"others on this machine can read {file}", f"chmod 600 {file}")
    elif settings.embedded_path is None:
        yield warning(
            PART, "pseudonym key", f"kept in {file}: a worker elsewhere would make another one, and users count twice",
            "set PSEUDONYM_KEY to the same for all workers on this ClickHouse",
        )  # fmt: skip
    else:
        yield ok(PART, "pseudonym key", f"kept in {file}")
