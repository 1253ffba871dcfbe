"""That something is nowhere: not in a topic that we write, not in a table, a file or a log."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
import zstandard

from sinks.topics import internal_topic
from streams.ledger.state import BASE, HEADER
from tests.running import CHANGELOG, Site

DLQ = "usage-pings.dlq"


def assert_nowhere(site: Site, secrets: Iterable[str | bytes]) -> None:
    """None of these is in a topic that we write, in a table, in a file of ClickHouse's, or in a log.

    Dead letters hold user ids as they were sent, so a test that has both looks for other things.
    """
    wanted = [secret.encode() if isinstance(secret, str) else secret for secret in secrets]

    def check(where: str, data: bytes) -> None:
        for secret in wanted:
            assert secret not in data, f"{secret.decode()} in {where}"

    for topic in (CHANGELOG, DLQ, internal_topic("usage-pings")):
        for record in site.read(topic):
            check(topic, repr(record).encode())
            check(topic, record.value or b"")
            if topic == CHANGELOG and record.value[1] == BASE:
                packed = msgspec.msgpack.decode(record.value[HEADER.size :])[-1]
                check(topic, zstandard.ZstdDecompressor().decompress(packed))
    with site.tables() as client:
        names = [
            row[0] for row in client.query("SELECT name FROM system.tables WHERE database = 'pingstream'").result_rows
        ]
        assert len(names) > 5
        for name in names:
            check(f"table {name}", repr(client.query(f"SELECT * FROM pingstream.{name}").result_rows).encode())
    for path in [*site.data_dir.rglob("*"), *site.folder.glob("*.log")]:
        if path.is_file():
            check(str(path), path.read_bytes())
