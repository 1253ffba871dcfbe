"""What cannot be read ends in `usage-pings.dlq` with the reason and the original bytes, and costs no good message its place."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.structs import TopicPartition

from deploy.fleet.noise import BREAKAGES
from deploy.kafka.broker import LocalBroker
from deploy.message import Message
from sinks.topics import USAGE_PINGS, dead_letter_topic
from tests.running import ROOT, Site, assert_equals_oracle, new_site, table
from tests.streams.nowhere import assert_nowhere

DAY = dt.date(2026, 3, 20)
EXAMPLE = ROOT.parent / "shared" / "data" / "service-ping-example.json"
DLQ = dead_letter_topic(USAGE_PINGS)
MIB = 1024 * 1024
SECRETS = ("Kim Secret", "kim.secret@example.com", "Secret Works", "the-secret-key")


def document(number: int) -> dict[str, Any]:
    """A good ping of an installation of its own."""
    return {
        "uuid": f"installation-{number}",
        "hostname": "gitlab.example",
        "recorded_at": f"{DAY}T10:00:00Z",
        "activity": [{"date": str(DAY), "stage": "create", "feature": "wiki", "users": [number, number + 1]}],
    }


def message(number: int, value: bytes) -> Message:
    moment = dt.datetime.combine(DAY, dt.time(10), dt.UTC)
    return Message(USAGE_PINGS, f"installation-{number}".encode(), value, int(moment.timestamp() * 1000))


def dumped(value: object) -> bytes:
    return json.dumps(value).encode()


def special_cases() -> dict[str, tuple[str, bytes]]:
    """What is wrong and what it dies of; '' where it must be applied."""
    good = document(1000)
    padding = "x" * (9 * MIB)
    keys = ",".join(f'"{number % 4096:x}":0' for number in range(1_000_000)).encode()
    licence = {"licensee": {"Name": SECRETS[0], "Email": SECRETS[1], "Company": SECRETS[2]}, "license_key": SECRETS[3]}
    return {
        "too large": ("too_large", dumped({**good, "padding": padding})),
        "a million keys that nobody reads": ("", dumped(good)[:-1] + b',"unknown":{' + keys + b"}}"),
        "a thousand digits that nobody reads": ("", dumped({**document(1001), "unknown": 10**999})),
        "a user of five thousand digits": ("invalid", dumped(document(1002)).replace(b"[1002,", b"[1" + b"0" * 5000 + b",")),
        "half a pair in a text that nobody reads": ("", dumped({**document(1003), "unknown": "\ud800"})),
        "a day that is none": ("invalid", dumped(document(1004)).replace(str(DAY).encode(), b"2026-13-01")),
        "a byte order mark": ("not_json", b"\xef\xbb\xbf" + dumped(document(1005))),
        "a licence in what is wrong": ("invalid", dumped({**document(1006), **licence, "uuid": 17})),
        "zero bytes": ("not_json", b"\0" * 100),
    }  # fmt: skip


@pytest.fixture(scope="module")
def roomy_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalBroker]:
    """A broker that takes more than a worker reads."""
    with LocalBroker(tmp_path_factory.mktemp("kafka"), port=0, max_message_bytes=32 * MIB) as broker:
        yield broker


@pytest.mark.slow
def test_each_bad_message_has_its_letter_and_each_good_one_counts(tmp_path: Path, roomy_broker: LocalBroker) -> None:
    site = Site(tmp_path, roomy_broker)
    cases = {name: (reason, make(document(200 + i))) for i, (name, (reason, make)) in enumerate(BREAKAGES.items())}
    cases |= special_cases()
    messages = [message(0, dumped(document(0)))]
    for number, (_, value) in enumerate(cases.values(), 1):
        messages += [message(number, value), message(number, dumped(document(number)))]
    Site(tmp_path, roomy_broker, {"max_message_bytes": str(16 * MIB)}).send(messages)
    site.drain(as_of=str(DAY))
    records = site.read()
    by_value = {record.value: record for record in records}

    with site.tables() as client:
        wanted = assert_equals_oracle(client, records, DAY)
        letters = {(row["partition"], row["offset"]): row for row in table(client, "dead_letter")}
        scopes = {row["scope_id"] for row in table(client, "usage_kpi")}
    assert scopes >= {f"installation-{number}@gitlab.example" for number in range(len(cases) + 1)}

    in_topic = site.read(DLQ)
    assert Counter(dict(letter.headers)["pingstream-offset"] for letter in in_topic).total() == len(wanted.dead_letter)
    found = {
        (int(h["pingstream-partition"]), int(h["pingstream-offset"])): (h, r)
        for r in in_topic
        for h in [dict(r.headers)]
    }
    for name, (reason, value) in cases.items():
        original = by_value[value]
        place = original.partition, original.offset
        if not reason:
            assert place not in letters, name
            continue
        headers, letter = found[place]
        assert headers["pingstream-reason"].decode() == letters[place]["reason"] == reason, name
        assert headers["pingstream-topic"] == USAGE_PINGS.encode()
        assert headers["pingstream-timestamp"] == str(original.timestamp).encode()
        assert headers["pingstream-attempt"] == b"0"
        sentence = headers["pingstream-error"].decode()
        assert sentence == letters[place]["error"] and len(sentence) > 10, name
        assert letter.key == original.key and letter.timestamp == original.timestamp
        if "licence" in name:
            left = json.loads(letter.value)
            assert left == {**json.loads(value), "licensee": None, "license_key": None}
            assert headers["pingstream-redacted"].decode() == "license_key,licensee"
        else:
            assert letter.value == (value or None) or letter.value == value, name
            assert "pingstream-redacted" not in headers
    assert_nowhere(site, SECRETS)


@pytest.mark.long
def test_what_grows_on_its_way_or_has_nothing_in_it(tmp_path: Path) -> None:
    """A letter is larger than its message by the headers, and a ping under a wrong key grows as well: 7 bytes of JSON a
    user become 8 of a pseudonym. Both come from messages that only just fit into their topic."""
    just_fits = random.Random(1).randbytes(2 * MIB).translate(None, delete=b'[]{}"')[: MIB - 90]
    large = document(3)
    large["activity"][0]["users"] = list(range(100_000, 100_000 + 148_000))
    value = json.dumps(large, separators=(",", ":")).encode()
    assert 0.98 * MIB < len(value) < MIB - 100
    good = message(1, dumped(document(1)))
    with new_site(tmp_path, max_message_bytes=str(MIB)) as site:
        site.drain(as_of=str(DAY))
        with site.tables() as client:
            assert_equals_oracle(client, [], DAY)

        site.send([good])
        site.send_raw(
            [
                (0, None, None, good.timestamp_ms),
                (0, b"deleted", None, good.timestamp_ms),
                (0, None, just_fits, good.timestamp_ms),
                *((partition, None, value, good.timestamp_ms) for partition in range(4)),
            ]
        )
        site.send([message(2, dumped(document(2)))])
        site.drain(as_of=str(DAY))
        with site.tables() as client:
            wanted = assert_equals_oracle(client, site.read(), DAY, max_message_bytes=MIB)
        assert [row["mau"] for row in wanted.kpi_mau if row["basis"] == "exact"][-1] == 148_004
        assert wanted.outcomes == {(USAGE_PINGS, "applied"): 3, (USAGE_PINGS, "duplicate"): 3, (USAGE_PINGS, "dead"): 3}
        letters = site.read(DLQ)
        assert len(letters) == 3 and just_fits in [letter.value for letter in letters]


@pytest.mark.skipif(not EXAMPLE.is_file(), reason="GitLab's example is not at hand")
def test_gitlabs_own_example_is_taken_as_it_is_and_its_licensee_is_nowhere(tmp_path: Path) -> None:
    licensee = json.loads(EXAMPLE.read_bytes())["licensee"]
    with new_site(tmp_path) as site:
        site.run("send", str(EXAMPLE))
        log = site.drain()
        with site.tables() as client:
            (row,) = table(client, "usage_ping")
        assert (row["version"], row["edition"], row["seats"]) == ("12.10.0-pre", "EEU", 999)
        assert (row["counters"], row["failed_counters"], row["plan"]) == (3, 0, "ultimate")
        assert row["uuid"] == "0000000-0000-0000-0000-000000000000" and row["hostname"] == "example.com"
        assert row["recorded_at"] == dt.datetime(2020, 4, 17, 7, 43, 54, 162000, dt.UTC) == row["received_at"]
        (sent,) = site.read()
        assert sent.value == EXAMPLE.read_bytes().strip()
        assert_nowhere(site, list(licensee.values()))
        assert not any(value in log for value in licensee.values())


@pytest.mark.slow
def test_messages_that_were_deleted_before_they_were_read_are_a_gap_that_can_be_seen(tmp_path: Path) -> None:
    with new_site(tmp_path, partitions="1") as site:
        for first in (0, 5, 9):
            site.send([message(number, dumped(document(number))) for number in range(first, first + 4)])
            if first == 5:
                asyncio.run(_delete_before(site.broker.bootstrap, 7))
            log = site.drain(as_of=str(DAY))
            assert ("deleted from the topic before they were read" in log) == (first == 5)
        with site.tables() as client:
            assert table(client, "gap") == [{"topic": USAGE_PINGS, "partition": 0, "first_offset": 4, "last_offset": 6}]
            assert [row["gaps"] for row in table(client, "kpi_freshness")] == [1]
            assert len(table(client, "usage_ping")) == 4 + 1 + 4


async def _delete_before(bootstrap: str, offset: int) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.delete_records({TopicPartition(USAGE_PINGS, 0): RecordsToDelete(before_offset=offset)})
    finally:
        await admin.close()
