"""Runs one command to its end and says what it took: `launcher.py SECONDS LOG COMMAND…`, a line of JSON on standard output.

A process of its own, and a small one: Linux counts the memory of whoever starts a program into that program's peak. The command
is killed after SECONDS, and when standard input ends: with whoever started this.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time


def _kill_at_end_of_input(child: subprocess.Popen[bytes]) -> None:
    sys.stdin.read()
    child.kill()


def main() -> None:
    seconds, log, *command = sys.argv[1:]
    with open(log, "wb") as out:
        begun = time.monotonic()
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        signal.signal(signal.SIGALRM, lambda *_: child.kill())
        signal.alarm(int(seconds))
        threading.Thread(target=_kill_at_end_of_input, args=(child,), daemon=True).start()
        _, status, usage = os.wait4(child.pid, 0)
        ended = time.monotonic()
    unit = 1 if sys.platform == "darwin" else 1024
    print(
        json.dumps(
            {
                "code": os.waitstatus_to_exitcode(status),
                "begun": begun,
                "wall": ended - begun,
                "cpu": usage.ru_utime + usage.ru_stime,
                "memory": usage.ru_maxrss * unit,
            }
        )
    )


if __name__ == "__main__":
    main()
