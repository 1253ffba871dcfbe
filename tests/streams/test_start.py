"""A start that cannot go on: one sentence with what to change, and nothing left behind."""

from __future__ import annotations

from pathlib import Path

from tests.running import new_site


def test_topics_that_cannot_be_made_end_the_start_with_what_to_change(tmp_path: Path) -> None:
    with new_site(tmp_path) as site, site.worker(replication="3") as worker:
        assert worker.wait(60) == 2
        *before, last = worker.log().splitlines()
    assert last.startswith("pingstream: the topic usage-pings cannot be made: ")
    assert last.endswith("; set PINGSTREAM_REPLICATION (now 3) to at most the number of brokers")
    assert all("[info" in line for line in before if line), before
