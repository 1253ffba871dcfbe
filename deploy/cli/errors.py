"""What ends a command with a sentence instead of a traceback."""

from __future__ import annotations


class Failure(Exception):
    """Something failed that a restart may mend: exit code 1. The text is one sentence that says what to do."""

    exit_code = 1


class WrongUse(Failure):
    """Wrong use or wrong settings, not worth a restart: exit code 2."""

    exit_code = 2
