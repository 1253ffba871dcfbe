"""A program that runs beside us and must not outlive us, however we end."""

from __future__ import annotations

import os
import subprocess
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path

from deploy import leash


class Leashed:
    """A process on the leash that the local Kafka is on (see `deploy.leash`), its output in a file.

    It gets no Ctrl-C from the terminal: its owner decides the order of an end.

    Args:
        command: program and arguments.
        log: file that its output is appended to.
        folder: its working directory.
        environment: all of it.
    """

    def __init__(self, command: Sequence[str], log: Path, folder: Path, environment: Mapping[str, str]) -> None:
        self.log_file = log
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                leash.on_leash(command),
                cwd=folder,
                env=dict(environment),
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._process.poll()

    def log(self) -> str:
        """All that it has said."""
        return self.log_file.read_text(errors="replace")

    def log_end(self, lines: int = 15) -> str:
        """The last lines that it has said."""
        return "\n".join(deque(self.log().splitlines(), lines)) or "(nothing)"

    def stop(self, grace: float) -> None:
        """Ends it in order (SIGTERM), or with SIGKILL when it takes longer than `grace` seconds."""
        leash.stop(self._process, grace)

    def kill(self) -> None:
        """Ends it at once with SIGKILL. Does nothing when it has ended."""
        leash.kill(self._process)


def plain_environment(prefix: str) -> dict[str, str]:
    """Our environment without the variables whose names begin with `prefix`."""
    return {name: value for name, value in os.environ.items() if not name.upper().startswith(prefix)}
