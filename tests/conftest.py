"""What many tests share."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from deploy.kafka.broker import LocalBroker

# A kernel is loaded when it is first called, and machines are shared: how long an example takes says nothing.
settings.register_profile("pingstream", deadline=None)
settings.load_profile("pingstream")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One more than there are processors: half of the time a test waits for a broker or a worker to start."""
    return 1 + (os.cpu_count() or 1)


@pytest.fixture(scope="session")
def broker() -> Iterator[LocalBroker]:
    """A real Kafka for the whole run, shared: take topic and group names of your own, and never stop it.

    Its data goes at the end (pytest's own folders are kept for three runs).
    """
    with tempfile.TemporaryDirectory(prefix="pingstream-kafka-") as folder, LocalBroker(Path(folder), port=0) as node:
        yield node
