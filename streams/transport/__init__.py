"""A Faust transport that hands an agent whole batches and loses nothing.

Registered by entry point under the scheme `pingstream`: `faust.App(broker="pingstream://127.0.0.1:9092")`.

An agent gets one event for each fetched batch of one source partition: `event.message.value` is the list of its records,
contiguous with the batch before; `event.message.offset` is the last one's. So does a table's store for each fetched batch of a
changelog; recovery, which counts in offsets, is Faust's own.
"""

from __future__ import annotations

from typing import ClassVar

from faust.transport.drivers import aiokafka as driver

from streams.transport.consumer import BatchConsumer

__all__ = ["Transport"]


class Transport(driver.Transport):  # type: ignore[misc]
    """Faust's aiokafka transport with the consumer exchanged."""

    Consumer: ClassVar[type] = BatchConsumer
    default_port = 9092
    driver_version = "pingstream"
