"""What makes the start and the end of a command cheap: of a worker's, half of the processor time went to things that it does not
need."""

from __future__ import annotations

import gc
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from typing import NoReturn


class _Without(MetaPathFinder):
    """Hides modules, where they are installed, that others import only to do more with them."""

    def __init__(self, *names: str) -> None:
        self._names = names

    def find_spec(self, fullname: str, path: object, target: object = None) -> None:
        """Refuses these modules and leaves the rest to others."""
        if fullname in self._names:
            raise ModuleNotFoundError(f"a worker does without {fullname}", name=fullname)


@contextmanager
def loading(command: str) -> Iterator[None]:
    """Around the import of a command. A worker enables the search for cycles of garbage itself, once all of it is loaded."""
    gc.disable()  # what is loaded stays, and looking through it again and again takes a tenth of a second
    # numpy's BLAS starts a thread for each core, and nothing is multiplied here.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    if command == "worker":
        # pyarrow imports pandas with the first array it makes, which takes half a second, in which no partition goes on, and
        # tens of megabytes; structlog imports rich, for tracebacks in colours.
        sys.meta_path.insert(0, _Without("pandas", "rich"))
        _import_aiohttp()
    yield
    if command != "worker":
        gc.freeze()
        gc.enable()


def leave(code: int) -> NoReturn:
    """Ends the process, once everything is closed: to take the interpreter and all that it has loaded apart takes a quarter of a
    second."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _import_aiohttp() -> None:
    """Imports it without the machine's certificates, which it parses twice while it is imported, for clients alone. We serve."""
    places = "SSL_CERT_FILE", "SSL_CERT_DIR"
    before = {name: os.environ.get(name) for name in places}
    os.environ.update(dict.fromkeys(places, os.devnull))
    try:
        import aiohttp  # noqa: F401
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
