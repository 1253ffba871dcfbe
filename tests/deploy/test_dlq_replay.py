"""`pingstream dlq replay`: what it sends, what it refuses, that it sends nothing twice, and what a worker makes of it."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from deploy import replaying
from deploy.kafka.broker import LocalBroker
from deploy.letters import opened
from deploy.message import Message
from deploy.replaying import Choice, Done, carry_out, plan
from schemas.settings import Settings
from sinks.dead_letters import DeadLetter, DeadLetters
from sinks.message_limits import MessageLimits
from sinks.topics import BILLING_EVENTS, SOURCES, USAGE_PINGS, ensure_topics
from tests.running import Site, assert_equals_oracle, environment, table

pytestmark = [pytest.mark.broker, pytest.mark.timeout(240)]

TODAY = dt.datetime.now(dt.UTC).date()
NOON = dt.datetime.combine(TODAY - dt.timedelta(1), dt.time(12), dt.UTC)
NOON_MS = int(NOON.timestamp() * 1000)
SMALL, LARGE = 20_000, 200_000
"""MAX_MESSAGE_BYTES of the first worker and of the second."""


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalBroker]:
    with LocalBroker(tmp_path_factory.mktemp("kafka"), port=0) as node:
        yield node


@pytest.fixture
def broker(shared: LocalBroker) -> Iterator[LocalBroker]:
    """A broker without topics: their names are fixed."""
    yield shared
    asyncio.run(_delete_topics(shared.bootstrap))


async def _delete_topics(bootstrap: str) -> None:
    """All but Kafka's own. What groups have committed of a topic goes with it."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        async with asyncio.timeout(30):
            while topics := [name for name in await admin.list_topics() if not name.startswith("__")]:
                await admin.delete_topics(topics)
                await asyncio.sleep(0.05)
    finally:
        await admin.close()


def replay(site: Site, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "deploy.cli.main", "dlq", "replay", *arguments, "--kafka", site.broker.bootstrap],
        cwd=site.folder, env=environment(), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def ping(number: int, **fields: Any) -> Message:
    users = [number, number + 1]
    day = str(NOON.date())
    document = {
        "uuid": f"u{number}", "hostname": "h", "recorded_at": NOON.isoformat(),
        "activity": [{"date": day, "stage": "create", "feature": "wiki", "users": users}],
    }  # fmt: skip
    return Message(USAGE_PINGS, f"u{number}".encode(), json.dumps(document | fields).encode(), NOON_MS)


def event(number: int, **fields: Any) -> Message:
    document = {
        "event_id": f"e{number}", "type": "subscription_created", "occurred_at": NOON.isoformat(), "account_id": "a1",
        "subscription": {
            "subscription_id": "s1", "deployment": "self_managed", "plan": "premium", "seats": number, "mrr": "10.00",
            "currency": "USD",
        },
    }  # fmt: skip
    return Message(BILLING_EVENTS, b"a1", json.dumps(document | fields).encode(), NOON_MS)


@pytest.mark.slow
def test_what_was_too_large_counts_once_there_is_room_and_what_was_late_stays_late(
    tmp_path: Path, broker: LocalBroker
) -> None:
    site = Site(tmp_path, broker, {"max_message_bytes": str(LARGE)})
    padding = {"padding": "x" * 50_000}
    late = str(TODAY - dt.timedelta(60))
    messages = [
        ping(1),
        ping(2, **padding, licensee={"Name": "Kim"}),
        ping(3, **padding)._replace(key=b"somebody else"),
        ping(4, activity=[{"date": late, "stage": "s", "feature": "f", "users": [1]}]),
        ping(5, users_by=7),
        event(1),
        event(2, name="y" * 50_000),
        event(3, type="unheard_of"),
    ]
    site.send(messages)
    site.drain(as_of=str(TODAY), max_message_bytes=str(SMALL))

    said = replay(site, "--reason", "too_large", "--dry-run")
    assert said.returncode == 0, said.stderr
    assert said.stdout.startswith("would put back 1 too_large into billing-events and 2 too_large into usage-pings (")
    assert len(site.read()) == 5

    said = replay(site, "--reason", "too_large")
    assert (said.returncode, said.stdout) == (0, "put back 1 into billing-events and 2 into usage-pings\n"), said.stderr
    again = replay(site, "--reason", "too_large")
    assert (again.returncode, again.stdout) == (0, "put back no letters\n")
    assert "3 letters were put back before" in again.stderr
    pings = site.read()
    assert [dict(r.headers)["pingstream-attempt"] for r in pings if r.headers] == [b"1", b"1"]
    for one in (record for record in pings if record.headers):
        (original,) = (r for r in pings if not r.headers and r.key == one.key)
        assert one.partition == original.partition and one.offset > original.offset
        assert one.timestamp > original.timestamp
        assert one.value == original.value.replace(b'{"Name": "Kim"}', b"null")

    rest = replay(site, "--limit-attempts", "1")
    assert (rest.returncode, rest.stdout) == (0, "put back 1 into billing-events and 2 into usage-pings\n"), rest.stderr
    site.drain(as_of=str(TODAY))
    refused = replay(site, "--limit-attempts", "1")
    assert refused.returncode == 1
    assert "3 letters were refused: put back 1 times already" in refused.stderr
    assert refused.stdout == "put back no letters\n"

    pings, events = site.read(), site.read(BILLING_EVENTS)
    for record in (*pings, *events):
        if not record.headers and len(record.value) > SMALL:
            record.value += b" " * LARGE  # too large for the first worker is too large for the oracle
    with site.tables() as client:
        wanted = assert_equals_oracle(client, [*pings, *events], TODAY, max_message_bytes=LARGE)
        users = {
            row["scope_id"]: row["mau"]
            for row in table(client, "usage_kpi")
            if row["as_of"] == TODAY and row["level"] == "total"
        }
        assert users == {"u1@h": 2, "u2@h": 2, "u3@h": 2}
    assert wanted.outcomes == {
        (USAGE_PINGS, "applied"): 5, (USAGE_PINGS, "dead"): 4,
        (BILLING_EVENTS, "applied"): 2, (BILLING_EVENTS, "dead"): 3,
    }  # fmt: skip
    letters = json.loads(site.run("dlq", "list", "--format", "json"))
    assert sum(bool(letter["replayed_to"]) for letter in letters) == 6
    assert sorted(letter["attempt"] for letter in letters) == [0] * 6 + [1] * 3


def test_letters_are_chosen_by_topic_reason_time_and_place(tmp_path: Path, broker: LocalBroker) -> None:
    site = Site(tmp_path, broker)
    noon = int(dt.datetime(2026, 3, 20, 12, tzinfo=dt.UTC).timestamp() * 1000)
    letters = [
        letter(USAGE_PINGS, 0, 1, noon, "invalid"),
        letter(USAGE_PINGS, 0, 2, noon + 1000, "late"),
        letter(USAGE_PINGS, 1, 1, noon + 2000, "late"),
        letter(BILLING_EVENTS, 0, 1, noon + 86_400_000, "conflict", attempt=2),
    ]
    asyncio.run(write(site, letters))

    def chosen(*arguments: str) -> str:
        said = replay(site, "--dry-run", *arguments)
        assert said.stdout.endswith("; nothing was done\n"), said.stderr
        return said.stdout.removeprefix("would put back ").split(" (")[0].split(";")[0]

    everything = "1 conflict into billing-events and 1 invalid, 2 late into usage-pings"
    assert chosen() == everything
    assert chosen("--topic", "usage-pings") == "1 invalid, 2 late into usage-pings"
    assert (
        chosen("--reason", "late", "--reason", "conflict")
        == "1 conflict into billing-events and 2 late into usage-pings"
    )
    assert chosen("--since", "2026-03-21") == "1 conflict into billing-events"
    assert chosen("--until", "2026-03-20") == "1 invalid, 2 late into usage-pings"
    assert (
        chosen("--since", "2026-03-20T12:00:01Z", "--until", "2026-03-20T13:00:02+01:00") == "1 late into usage-pings"
    )
    assert chosen("--topic", "usage-pings", "--partition", "0") == "1 invalid, 1 late into usage-pings"
    assert chosen("--topic", "usage-pings", "--partition", "0", "--offset", "1") == "1 invalid into usage-pings"
    assert chosen("--limit-attempts", "2") == "1 invalid, 2 late into usage-pings"
    assert replay(site, "--limit-attempts", "2", "--dry-run").returncode == 1
    for wrong in (
        ["--partition", "1"],
        ["--topic", "usage-pings", "--offset", "1"],
        ["--since", "2026-03-20T12:00:00"],
    ):
        said = replay(site, *wrong)
        assert said.returncode == 2 and not said.stdout
    assert chosen() == everything, "a dry run has done something"


def test_an_interrupted_replay_is_gone_on_with_and_sends_nothing_twice(
    tmp_path: Path, broker: LocalBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = Site(tmp_path, broker)
    asyncio.run(write(site, [letter(USAGE_PINGS, n % 4, 10 + n, NOON_MS + n, "invalid") for n in range(20)]))
    monkeypatch.setattr(replaying, "CHUNK_LETTERS", 4)
    notes, put_back = replaying._write_notes, replaying._put_back
    calls = 0

    class Killed(BaseException):
        pass

    async def killed_before_the_notes(*arguments: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 4:  # two of each chunk: the second one's messages are there, and no notes about it
            raise Killed
        await notes(*arguments)

    async def killed_before_the_messages(*arguments: Any) -> Any:
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(replaying, "_write_notes", killed_before_the_notes)
        asyncio.run(carried_out(site))
    assert len(site.read()) == 8
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(replaying, "_put_back", killed_before_the_messages)
        asyncio.run(carried_out(site))
    assert replaying._put_back is put_back
    assert len(site.read()) == 8

    done = asyncio.run(carried_out(site))
    assert done.sent == {USAGE_PINGS: 12}
    records = site.read()
    assert sorted(record.value for record in records) == sorted(b"letter %d" % (10 + n) for n in range(20))
    assert asyncio.run(carried_out(site)) == Done()
    assert len(site.read()) == 20


def test_a_letter_that_the_broker_refuses_holds_up_no_other(tmp_path: Path, broker: LocalBroker) -> None:
    site = Site(tmp_path, broker)
    letters = [letter(USAGE_PINGS, 0, n, NOON_MS, "too_large") for n in range(6)]
    letters[2] = letters[2]._replace(value=random.Random(1).randbytes(100_000))
    asyncio.run(write(site, letters))
    asyncio.run(limit_topic(site, 20_000))
    said = replay(site)
    assert said.returncode == 1
    assert said.stdout == "put back 5 into usage-pings\n"
    assert "1 letter was refused by the broker as too large" in said.stderr and "offset 2 of usage-pings" in said.stderr
    assert "Traceback" not in said.stderr
    assert len(site.read()) == 5
    asyncio.run(limit_topic(site, 200_000))
    assert replay(site).stdout == "put back 1 into usage-pings\n"
    assert len(site.read()) == 6


def letter(topic: str, partition: int, offset: int, timestamp: int, reason: str, attempt: int = 0) -> DeadLetter:
    return DeadLetter(topic, partition, offset, timestamp, b"k", b"letter %d" % offset, reason, "why", attempt)


async def write(site: Site, letters: list[DeadLetter]) -> None:
    settings = Settings(_env_file=None, kafka=site.broker.bootstrap)  # type: ignore[call-arg]
    await ensure_topics(settings)
    async with AIOKafkaProducer(bootstrap_servers=site.broker.bootstrap, acks="all") as producer:
        await DeadLetters(producer, MessageLimits(settings)).send(letters)


async def carried_out(site: Site) -> Done:
    settings = Settings(_env_file=None, kafka=site.broker.bootstrap)  # type: ignore[call-arg]
    async with opened(settings, lambda sentence: None) as mail:
        return await carry_out(settings, mail, await plan(mail, Choice(SOURCES), 3), lambda number: None)


async def limit_topic(site: Site, limit: int) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=site.broker.bootstrap)
    await admin.start()
    try:
        await admin.alter_configs(
            [ConfigResource(ConfigResourceType.TOPIC, USAGE_PINGS, configs={"max.message.bytes": str(limit)})]
        )
    finally:
        await admin.close()
