"""`pingstream`, with an as-of clock that a test moves: `python -m tests.clocked FILE worker …` reads today from FILE."""

from __future__ import annotations

import sys
from pathlib import Path

from deploy.cli.main import main
from streams.clock import AsOfClock


def run() -> None:
    """Runs the command of the arguments behind the file, which holds a day number."""
    file = Path(sys.argv.pop(1))
    day = int(file.read_text())

    def today(_: AsOfClock) -> int:
        nonlocal day
        text = file.read_text()  # empty while it is written anew
        day = int(text) if text else day
        return day

    AsOfClock.day = today  # type: ignore[method-assign]
    main()


if __name__ == "__main__":
    run()
