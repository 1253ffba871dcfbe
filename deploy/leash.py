"""Runs one program that must not outlive its owner: `python leash.py PROGRAM ARGUMENT…`.

The owner keeps the other end of our standard input. When it closes, because the owner asks for it or because it is
gone, however it died, the program is killed. A pipe is the one thing that every system closes for a process that was
killed; Linux's "signal me when my parent dies" knows neither macOS nor owners with threads (it follows the thread that
started the program, which may end long before the process does).

SIGTERM is passed on to the program. The exit code is the program's own, 128 + n when signal n ended it.
This file is run as a script, without site-packages: standard library only. Owners import it for `on_leash`, `stop` and `kill`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from types import FrameType

KILL_SECONDS = 10.0


def on_leash(command: Sequence[str]) -> list[str]:
    """The command that runs `command` on a leash. Start it with a pipe as standard input."""
    return [sys.executable, "-I", "-S", __file__, *command]


def stop(process: subprocess.Popen[bytes], grace: float) -> None:
    """Ends what is on the leash in order (SIGTERM), or with SIGKILL when it takes longer than `grace` seconds."""
    try:
        process.terminate()
        process.wait(grace)
    except subprocess.TimeoutExpired:
        pass
    finally:
        kill(process)


def kill(process: subprocess.Popen[bytes]) -> None:
    """Ends what is on the leash at once, with SIGKILL. Does nothing when it has ended."""
    assert process.stdin is not None
    process.stdin.close()  # the leash kills it, waits for its end, and ends itself
    try:
        process.wait(KILL_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


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
