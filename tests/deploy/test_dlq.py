"""`pingstream dlq list` and `show`, against a real broker and letters as the worker writes them."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Sequence

import pytest
from aiokafka import AIOKafkaProducer

from deploy.kafka.broker import LocalBroker
from schemas.settings import Settings
from sinks.dead_letters import DeadLetter, DeadLetters
from sinks.message_limits import MessageLimits
from sinks.topics import USAGE_PINGS, dead_letter_topic, ensure_topics
from streams.ledger.redaction import redact

pytestmark = [pytest.mark.broker, pytest.mark.timeout(120)]

REASON = "unsupported_currency"
"""No letter about a ping has it, so on a broker that others use too it picks out those of this module."""

PARTITION = 901
RECEIVED = 1_700_000_000_123
SECRETS = b'{"uuid": "u-1", "licensee": {"Name": "Ada"}, "n": 1.50, "big": 18446744073709551616000, "x": "\xc2\x9b2J"}'


def letter(
    offset: int, value: bytes | None, *, timestamp: int = RECEIVED, reason: str = REASON, attempt: int = 0
) -> DeadLetter:
    sentence = f"Expected `str` of length >= 1 - at `$.activity[{offset}].stage`"
    kept, redacted = redact(value) if value is not None else (None, [])
    return DeadLetter(
        USAGE_PINGS, PARTITION, offset, timestamp, b"u-1", kept, reason, sentence, attempt, tuple(redacted)
    )


async def write(bootstrap: str, letters: Sequence[DeadLetter]) -> None:
    await ensure_topics(Settings(kafka=bootstrap))
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all") as producer:
        await DeadLetters(producer, MessageLimits(Settings(kafka=bootstrap))).send(letters)
        # Somebody else's record in the topic is no letter and hides none.
        await producer.send_and_wait(dead_letter_topic(USAGE_PINGS), b"hello", headers=[("pingstream-reason", b"odd")])


@pytest.fixture(scope="module")
def kafka(broker: LocalBroker) -> str:
    """A broker with letters in it, two of them about one message, as after a crash."""
    letters = [
        letter(3, b"cut off {", timestamp=RECEIVED + 2000),
        letter(1, SECRETS, timestamp=RECEIVED),
        letter(2, None, timestamp=RECEIVED + 1000),
        letter(1, SECRETS, timestamp=RECEIVED, attempt=1),
        letter(4, b"\xff\x00\x1b[31m\n\\", timestamp=RECEIVED + 3000),
        letter(5, b"[" * 5000, timestamp=RECEIVED + 4000),
    ]
    asyncio.run(write(broker.bootstrap, letters))
    return broker.bootstrap


def dlq(kafka: str, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PINGSTREAM_")}
    return subprocess.run(
        [sys.executable, "-m", "deploy.cli.main", "dlq", *arguments, "--kafka", kafka],
        env=environment, capture_output=True, timeout=60, check=False,
    )  # fmt: skip


def test_list_gives_each_letter_once_in_the_order_of_receipt_and_no_payload(kafka: str) -> None:
    done = dlq(kafka, "list", "--reason", REASON, "--format", "json")
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    assert [row["offset"] for row in rows] == [1, 2, 3, 4, 5]
    redacted = SECRETS.replace(b'{"Name": "Ada"}', b"null")
    assert rows[0] == {
        "topic": "usage-pings",
        "partition": PARTITION,
        "offset": 1,
        "reason": REASON,
        "received_at": "2023-11-14 22:13:20.123",
        "bytes": len(redacted),
        "attempt": 1,
        "replayed_to": "",
        "error": "Expected `str` of length >= 1 - at `$.activity[1].stage`",
    }
    assert b"no letters" in done.stderr, "the stranger is not mentioned"

    table = dlq(kafka, "list", "--reason", REASON).stdout.decode()
    assert table.splitlines()[0].split() == list(rows[0])
    assert len(table.strip().splitlines()) == 2 + 5


def test_list_can_be_narrowed(kafka: str) -> None:
    newest = dlq(kafka, "list", "--reason", REASON, "--limit", "2", "--format", "csv")
    assert [line.split(",")[2] for line in newest.stdout.decode().splitlines()] == ["offset", "4", "5"]
    assert b"newest 2 of 5" in newest.stderr

    other = dlq(kafka, "list", "--topic", "billing-events", "--reason", REASON, "--format", "json")
    assert json.loads(other.stdout) == []
    assert b"no letters of that kind" in other.stderr

    assert dlq(kafka, "list", "--reason", "bad").returncode == 2


def test_show_gives_headers_and_indented_json_with_numbers_as_they_were(kafka: str) -> None:
    done = dlq(kafka, "show", "usage-pings", str(PARTITION), "1")
    assert done.returncode == 0, done.stderr
    head, _, body = done.stdout.decode().partition("\n\n")
    lines = head.splitlines()
    assert f"pingstream-reason: {REASON}" in lines
    assert "pingstream-offset: 1" in lines
    assert "pingstream-attempt: 1" in lines, "an older copy is shown"
    assert "pingstream-redacted: licensee" in lines
    assert "key: u-1" in lines
    assert '\n  "licensee": null,\n' in body
    assert '"n": 1.50' in body and '"big": 18446744073709551616000' in body
    assert "\x9b" not in body and "\\x9b2J" in body, "a message must not steer the terminal"


def test_show_escapes_what_is_no_text_and_raw_leaves_it_alone(kafka: str) -> None:
    shown = dlq(kafka, "show", "usage-pings", str(PARTITION), "4").stdout
    assert shown.endswith(b"\n\n\\xff\\x00\\x1b[31m\n\\\n")
    raw = dlq(kafka, "show", "usage-pings", str(PARTITION), "4", "--raw").stdout
    assert raw == b"\xff\x00\x1b[31m\n\\"
    assert dlq(kafka, "show", "usage-pings", str(PARTITION), "3").stdout.endswith(b"\n\ncut off {\n")
    assert b"[" * 5000 in dlq(kafka, "show", "usage-pings", str(PARTITION), "5").stdout
    assert b"message: (none)" in dlq(kafka, "show", "usage-pings", str(PARTITION), "2").stdout
    assert dlq(kafka, "show", "usage-pings", str(PARTITION), "2", "--raw").stdout == b""


def test_what_is_not_there_is_said(kafka: str) -> None:
    done = dlq(kafka, "show", "usage-pings", str(PARTITION), "99")
    assert done.returncode == 2
    assert done.stdout == b""
    assert b"no letter about partition 901, offset 99 of usage-pings" in done.stderr


def test_without_a_broker_it_says_what_to_do() -> None:
    done = dlq("127.0.0.1:1", "list")
    assert done.returncode == 1
    assert b"no Kafka broker answered on 127.0.0.1:1" in done.stderr
    assert b"pingstream broker" in done.stderr
    assert b"Traceback" not in done.stderr
