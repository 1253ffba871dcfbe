"""Runs one command to its end and says what it took: `launcher.py SECONDS LOG COMMAND…`, a line of JSON on standard output.

A process of its own, and a small one: Linux counts the memory of whoever starts a program into that program's peak.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time


def main() -> None:
    seconds, log, *command = sys.argv[1:]
    with open(log, "wb") as out:
        begun = time.monotonic()
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        for number in (signal.SIGALRM, signal.SIGTERM):
            signal.signal(number, lambda *_: child.kill())
        signal.alarm(int(seconds))
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
