"""Runs one program that must not outlive its owner: `python leash.py PROGRAM ARGUMENT…`.

The owner keeps the other end of our standard input. When it closes, because the owner asks for it or because it is
gone, however it died, the program is killed. A pipe is the one thing that every system closes for a process that was
killed; Linux's "signal me when my parent dies" knows neither macOS nor owners with threads (it follows the thread that
started the program, which may end long before the process does).

SIGTERM is passed on to the program. The exit code is the program's own, 128 + n when signal n ended it.
This file is run as a script, without site-packages: standard library only.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from types import FrameType


def main(command: list[str]) -> int:
    """Runs `command` to its end and gives its exit code."""
    program: subprocess.Popen[bytes] | None = None

    def pass_on(_number: int, _frame: FrameType | None) -> None:
        # None for the instant before the program is there: the owner waits, and then closes the pipe.
        if program is not None:
            program.terminate()

    signal.signal(signal.SIGTERM, pass_on)
    # Everything that the owner handed down (log file, lock) is handed on, but for the pipe.
    program = subprocess.Popen(command, stdin=subprocess.DEVNULL, close_fds=False)

    def watch_owner() -> None:
        while os.read(0, 1024):
            pass
        program.kill()

    threading.Thread(target=watch_owner, daemon=True).start()
    code = program.wait()
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
