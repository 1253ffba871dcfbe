"""A small disk of a case's own: a tmpfs, where this machine lets us mount one."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class NoDisk(Exception):
    """No disk can be mounted here."""


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[None]:
    """The folder on a disk of so many megabytes, which is gone afterwards. Raises NoDisk."""
    folder.mkdir(parents=True, exist_ok=True)
    if mount("-t", "tmpfs", "-o", f"size={megabytes}m", "none", str(folder)).returncode:
        raise NoDisk("no disk can be mounted here; try `unshare -rm make faults`")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def mount(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    """Runs `mount`, which may be refused."""
    return subprocess.run(["mount", *arguments], capture_output=True, check=False)


def fill(disk: Path) -> Path:
    """Writes a file until there is no room; gives it."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (65536, 1):
            try:
                while file.write(b"\0" * size):
                    pass
            except OSError:
                continue
    return filler
