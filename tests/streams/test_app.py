"""What the app tells of Faust's recovery."""

from __future__ import annotations

from pathlib import Path

from faust.types import TP

from schemas.settings import Settings
from sinks.topics import BILLING_EVENTS, USAGE_PINGS
from streams.app import Lane, StreamsApp


async def test_what_is_left_of_a_recovery_is_told_by_topic(tmp_path: Path) -> None:
    lanes = [
        Lane(USAGE_PINGS, "usage-pings.rekeyed", 2, "usage"),
        Lane(BILLING_EVENTS, "billing-events.rekeyed", 2, "billing"),
    ]
    streams = StreamsApp(Settings(_env_file=None, data_dir=tmp_path), lanes)  # type: ignore[call-arg]
    usage, billing = streams.sources
    assert [source.recovery_remaining for source in streams.sources] == [0, 0]
    assert not usage.owns
    recovery = streams.app.tables.recovery
    first, second = (TP("pingstream-usage-changelog", partition) for partition in range(2))
    empty = TP("pingstream-billing-changelog", 0)
    recovery.active_tps.update({first, second})
    assert usage.owns and not billing.owns
    # As Faust counts: the last offset of a changelog, and the last one that is read; -1 for none.
    recovery.active_highwaters.update({first: 999, second: 49, empty: -1})
    recovery.active_offsets.update({first: -1, second: 19, empty: -1})
    assert [source.recovery_remaining for source in streams.sources] == [1030, 0]
    recovery.active_offsets[first], recovery.active_offsets[second] = 999, 49
    assert [source.recovery_remaining for source in streams.sources] == [0, 0]
