"""`pingstream emit` and `pingstream send` against a broker of their own: what arrives is what was meant, byte for byte."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from pydantic import SecretStr

from deploy.cli.errors import Failure
from deploy.fleet import Fleet, FleetSpec
from deploy.kafka.broker import LocalBroker
from deploy.license_sync import NoLicenseSync, seats_synced
from deploy.message import Message
from deploy.payloads import NotJson, Payload, misplaced, payloads, to_message
from deploy.producing import produce
from schemas.billing import SeatSync, read_billing_event
from schemas.dead_letters import Reason, Unreadable
from schemas.settings import Settings
from sinks.kafka_client import BrokerRefused, BrokerUnavailable, wait_for_broker
from sinks.topics import TopicError, TopicSpec, dead_letter_topic, ensure_topics

LAST_DAY = dt.date(2026, 11, 20)
NOW_MS = 1_790_000_000_000
DATA = Path(__file__).parents[3] / "shared" / "data"
EXAMPLE = DATA / "service-ping-example.json"


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalBroker]:
    """A broker of this module's own: it is read from end to end, and stopped once."""
    with LocalBroker(tmp_path_factory.mktemp("kafka"), port=0, heap_mb=256) as node:
        yield node


@pytest.fixture
def settings(kafka: LocalBroker, monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name in [name for name in os.environ if name.startswith("PINGSTREAM_")]:
        monkeypatch.delenv(name)
    return Settings(kafka=kafka.bootstrap)


def run(*arguments: str, kafka: str = "127.0.0.1:1", stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PINGSTREAM_")}
    return subprocess.run(
        [sys.executable, "-m", "deploy.cli.main", *arguments],
        env={**environment, "PINGSTREAM_KAFKA": kafka},
        input=stdin,
        capture_output=True,
        timeout=60,
        check=False,
    )


async def ends(settings: Settings, topic: str) -> dict[TopicPartition, int]:
    """The offsets at which the next records of a topic will stand."""
    partitions = await ensure_topics(settings)
    async with AIOKafkaConsumer(bootstrap_servers=settings.kafka) as consumer:
        result = await consumer.end_offsets([TopicPartition(topic, p) for p in range(partitions[topic])])
    return dict(result)


async def read(settings: Settings, begin: dict[TopicPartition, int]) -> list[ConsumerRecord[Any, Any]]:
    """All records from `begin` on, partition by partition."""
    found = []
    async with AIOKafkaConsumer(bootstrap_servers=settings.kafka, enable_auto_commit=False) as consumer:
        for partition, offset in begin.items():
            consumer.assign([partition])
            end = (await consumer.end_offsets([partition]))[partition]
            consumer.seek(partition, offset)
            while offset < end:
                record = await asyncio.wait_for(consumer.getone(), 20)
                found.append(record)
                offset = record.offset + 1
    return found


# --- topics -----------------------------------------------------------------------------------------------------------


async def test_topics_are_made_as_the_contract_says_by_whoever_comes_first(settings: Settings) -> None:
    # The first test of this module: the broker is still empty.
    settings = settings.model_copy(update={"partitions": 3, "retention": -1, "max_message_bytes": 2_000_000})
    extra = TopicSpec("internal", partitions=2, config={"cleanup.policy": "compact"})

    results = await asyncio.gather(*(ensure_topics(settings, [extra]) for _ in range(4)))

    sources = ("usage-pings", "billing-events")
    names = [name for source in sources for name in (source, dead_letter_topic(source))]
    assert results == [{**dict.fromkeys(names, 3), "internal": 2}] * 4
    other = settings.model_copy(update={"partitions": 7})
    assert (await ensure_topics(other))["usage-pings"] == 3, "what exists is left as it is"

    for name in [*names, "internal"]:
        config = await config_of(settings, name)
        assert config["retention.ms"] == "-1"
        assert config["max.message.bytes"] == "2000000"
        assert config["message.timestamp.after.max.ms"] == str(2 * 86_400_000)
        assert int(config["message.timestamp.before.max.ms"]) == 2**63 - 1
        assert config["cleanup.policy"] == ("compact" if name == "internal" else "delete")


async def config_of(settings: Settings, topic: str) -> dict[str, str]:
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka)
    await admin.start()
    try:
        (response,) = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
    finally:
        await admin.close()
    return {entry[0]: entry[1] for entry in response.resources[0][4]}


async def test_partition_counts_that_must_agree_and_do_not(settings: Settings) -> None:
    extra = [TopicSpec("five", partitions=5), TopicSpec("six", partitions=6), TopicSpec("five-more", partitions=5)]
    counts = await ensure_topics(settings, extra, same_partitions=("five", "five-more"))
    assert counts["five"] == 5
    with pytest.raises(TopicError, match="five has 5, six has 6"):
        await ensure_topics(settings, extra, same_partitions=("five", "six"))


async def test_more_replicas_than_brokers(settings: Settings) -> None:
    with pytest.raises(TopicError, match="PINGSTREAM_REPLICATION"):
        await ensure_topics(settings.model_copy(update={"replication": 2}), [TopicSpec("too-many-replicas")])


# --- waiting ----------------------------------------------------------------------------------------------------------


async def test_no_broker_is_said_once_and_given_up_in_time(settings: Settings) -> None:
    said: list[str] = []
    begun = time.monotonic()
    with pytest.raises(BrokerUnavailable, match=r"127\.0\.0\.1:1 .*pingstream broker.*PINGSTREAM_KAFKA"):
        await wait_for_broker(settings.model_copy(update={"kafka": "127.0.0.1:1"}), patience=1, say=said.append)
    assert 1 <= time.monotonic() - begun < 10
    assert len(said) == 1


async def test_a_broker_that_refuses_is_not_waited_for(settings: Settings) -> None:
    said: list[str] = []
    changes = {
        "kafka_security_protocol": "SASL_PLAINTEXT",
        "kafka_security_username": "somebody",
        "kafka_security_password": SecretStr("geheimnis"),
    }
    with pytest.raises(BrokerRefused, match="PINGSTREAM_KAFKA_SECURITY") as refused:
        await wait_for_broker(settings.model_copy(update=changes), patience=30, say=said.append)
    assert said == []
    assert "geheimnis" not in str(refused.value)


async def test_a_broker_that_comes_late_gets_its_messages(kafka: LocalBroker, settings: Settings) -> None:
    begin = await ends(settings, "usage-pings")
    kafka.kill()
    said: list[str] = []
    starter = threading.Timer(1.0, kafka.start)
    starter.start()
    try:
        totals = await produce(settings, [Message("usage-pings", b"k", b"late broker", NOW_MS)], say=said.append)
    finally:
        starter.join()
    assert totals == {"usage-pings": 1}
    assert len(said) == 1
    assert [record.value for record in await read(settings, begin)] == [b"late broker"]


# --- emit -------------------------------------------------------------------------------------------------------------

SMALL = {"seed": 5, "installations": 8, "groups": 1, "users": 5, "days": 12, "accounts": 4, "billing_days": 200}
SHARES = {
    "duplicates": 0.2, "reordered": 0.3, "late": 0.1, "late_billing": 0.2, "future": 0.1, "broken": 0.3, "wrong_keys": 0.3,
    "conflicts": 0.2,
}  # fmt: skip


def flags(**options: object) -> list[str]:
    return [part for name, value in options.items() for part in (f"--{name.replace('_', '-')}", str(value))]


async def test_emit_sends_the_fleet_as_it_is(settings: Settings) -> None:
    begin = {topic: await ends(settings, topic) for topic in ("usage-pings", "billing-events")}
    done = run("emit", *flags(**SMALL, **SHARES, last_day=LAST_DAY), kafka=settings.kafka)
    assert (done.returncode, done.stdout) == (0, b""), done.stderr

    whole = list(Fleet(FleetSpec(last_day=LAST_DAY, **SMALL, **SHARES)).messages())  # type: ignore[arg-type]
    for topic, partitions in begin.items():
        fleet = [message for message in whole if message.topic == topic]
        records = await read(settings, partitions)
        assert Counter((r.key, r.value, r.timestamp) for r in records) == Counter(
            (m.key, m.value, m.timestamp_ms) for m in fleet
        )
        for key in {m.key for m in fleet if m.key is not None}:
            assert [r.value for r in records if r.key == key] == [m.value for m in fleet if m.key == key], "their order"
            assert len({r.partition for r in records if r.key == key}) == 1
        assert len({r.partition for r in records if r.key is None}) > 1
        assert re.search(rf"\b{len(fleet):,} messages to {topic}", done.stderr.decode())


def test_emit_makes_accounts_unless_told_not_to(tmp_path: Path) -> None:
    some = {"installations": 5, "groups": 4, "users": 3, "days": 2, "last_day": LAST_DAY}
    for options, accounts in (({}, 6), ({"accounts": 2}, 2), ({"accounts": 0}, 0)):
        out = tmp_path / f"{accounts}.jsonl"
        done = run("emit", *flags(**some, **options, out=out))
        assert done.returncode == 0, done.stderr
        documents = [json.loads(line) for line in out.read_bytes().splitlines()]
        assert any("uuid" in document for document in documents)
        found = {document["account_id"] for document in documents if "account" in document}
        assert len(found) == accounts
        assert f"{accounts} accounts".encode() in done.stderr


def test_emit_knows_the_reporting_currency(tmp_path: Path) -> None:
    out = tmp_path / "euros.jsonl"
    done = run("emit", *flags(installations=0, accounts=40, last_day=LAST_DAY, reporting_currency="EUR", out=out))
    assert done.returncode == 0, done.stderr
    blocks = [json.loads(line).get("subscription") for line in out.read_bytes().splitlines()]
    rated = {(block["currency"], "fx_rate" in block) for block in blocks if block and "currency" in block}
    assert {("EUR", False), ("USD", True)} <= rated


async def test_emit_received_now(settings: Settings) -> None:
    begin = await ends(settings, "usage-pings")
    before = time.time_ns() // 1_000_000
    done = run("emit", *flags(installations=1, days=2, users=3, received="now", rate=50), kafka=settings.kafka)
    assert done.returncode == 0, done.stderr
    assert all(before <= record.timestamp <= time.time_ns() // 1_000_000 for record in await read(settings, begin))


async def test_a_rate_is_kept(settings: Settings) -> None:
    begun = time.monotonic()
    done: list[int] = []
    await produce(settings, [Message("usage-pings", b"k", b"{}", NOW_MS)] * 60, rate=50, sent=done.append)
    assert 1.1 < time.monotonic() - begun < 5
    assert sum(done) == 60


def test_emit_writes_a_file_without_a_broker(tmp_path: Path) -> None:
    out = tmp_path / "pings.jsonl"
    shares = {**SHARES, "broken": 1}
    done = run("emit", *flags(**SMALL, **shares, last_day=LAST_DAY, out=out))
    assert (done.returncode, done.stdout) == (0, b"")
    lines = out.read_bytes().split(b"\n")[:-1]
    fleet = [m.value for m in Fleet(FleetSpec(last_day=LAST_DAY, **SMALL, **shares)).messages()]  # type: ignore[arg-type]
    left_out = [value for value in fleet if value not in set(lines)]
    assert lines == [value for value in fleet if value not in left_out]
    assert 0 < len(left_out) < len(fleet) / 2
    assert all(not is_json(value) for value in left_out)
    assert f"{len(left_out)} broken ones".encode() in done.stderr

    to_stdout = run("emit", *flags(**SMALL, **shares, last_day=LAST_DAY, out="-"))
    assert to_stdout.stdout == out.read_bytes()


def is_json(value: bytes) -> bool:
    try:
        json.loads(value)
    except ValueError:
        return False
    return b"NaN" not in value and b"Infinity" not in value


@pytest.mark.parametrize(
    "wrong",
    [
        ["--broken", "1.5"],
        ["--users", "0"],
        ["--accounts", "-1"],
        ["--billing-days", "1000000"],
        ["--last-day", "yesterday"],
        ["--days", "1000000"],
    ],
)
def test_wrong_use_of_emit(wrong: list[str]) -> None:
    done = run("emit", *wrong)
    assert done.returncode == 2
    assert b"Traceback" not in done.stderr


# --- send -------------------------------------------------------------------------------------------------------------

PING = b'{"uuid": "u-1", "hostname": "h", "recorded_at": "2026-03-01T12:00:00.250+01:00", "x": 1.50}'
GROUP = b'{"uuid":"com","hostname":"gitlab.com","namespace_id":"9970","recorded_at":"2026-03-01T12:00:00Z"}'
EVENT = b'{"event_id":"e","type":"trial_started","account_id":"A-1","occurred_at":"2020-01-01T00:00:00Z"}'
MARCH_MS = int(dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC).timestamp() * 1000)


async def test_send_sends_what_files_hold_byte_for_byte(settings: Settings, tmp_path: Path) -> None:
    begin = {**await ends(settings, "usage-pings"), **await ends(settings, "billing-events")}
    pretty = json.dumps(json.loads(GROUP), indent=4).encode()
    (tmp_path / "one.json").write_bytes(b"\n " + pretty + b"\n\n")
    (tmp_path / "lines.jsonl").write_bytes(PING + b"\r\n\n" + EVENT + b'\n"no object"\n')
    (tmp_path / "list.json").write_bytes(b"[ " + PING + b" ,\n" + EVENT + b"]\n")
    files = [str(tmp_path / name) for name in ("one.json", "lines.jsonl", "list.json")]

    done = run("send", *files, "-", kafka=settings.kafka, stdin=PING)

    assert done.returncode == 0, done.stderr
    assert done.stdout.decode().splitlines() == [
        f"{files[0]}: 1 sent to usage-pings",
        f"{files[1]}: 2 sent to usage-pings, 1 sent to billing-events",
        f"{files[2]}: 1 sent to usage-pings, 1 sent to billing-events",
        "<stdin>: 1 sent to usage-pings",
    ]
    records = await read(settings, begin)
    found = Counter((r.topic, r.key, r.value) for r in records)
    assert found == {
        ("usage-pings", b"com:9970", pretty): 1,
        ("usage-pings", b"u-1", PING): 3,
        ("usage-pings", None, b'"no object"'): 1,
        ("billing-events", b"A-1", EVENT): 2,
    }
    stamps = {r.value: r.timestamp for r in records}
    assert stamps[pretty] == MARCH_MS
    assert stamps[PING] == MARCH_MS - 3_600_000 + 250
    assert stamps[EVENT] == 1_577_836_800_000


async def test_send_nothing_when_one_file_cannot_be_json(settings: Settings, tmp_path: Path) -> None:
    begin = await ends(settings, "usage-pings")
    (tmp_path / "good.json").write_bytes(PING)
    (tmp_path / "bad.jsonl").write_bytes(PING + b"\n" + PING[:-1] + b"\n")
    (tmp_path / "empty.json").write_bytes(b"\n")
    done = run(
        "send", *(str(tmp_path / name) for name in ("good.json", "bad.jsonl", "empty.json")), kafka=settings.kafka
    )
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"bad.jsonl: line 2 is not JSON" in done.stderr
    assert b"empty.json: there is nothing in it" in done.stderr
    assert await read(settings, begin) == []


async def test_send_now_to_a_topic_that_is_named(settings: Settings, tmp_path: Path) -> None:
    begin = await ends(settings, "billing-events")
    (tmp_path / "ping.json").write_bytes(PING)
    before = time.time_ns() // 1_000_000
    arguments = ["--topic", "billing-events", "--received", "now", str(tmp_path / "ping.json")]
    assert run("send", *arguments, kafka=settings.kafka).returncode == 0
    (record,) = await read(settings, begin)
    assert (record.key, record.value) == (None, PING)
    assert before <= record.timestamp <= before + 60_000


async def test_a_document_that_no_topic_takes_is_refused_by_its_place(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "large.jsonl").write_bytes(PING + b'\n{"x":"' + b"x" * 2000 + b'"}\n')
    done = run("send", "--max-message-bytes", "1024", str(tmp_path / "large.jsonl"), kafka=settings.kafka)
    assert done.returncode == 2
    assert b"document 2 has 2,008 bytes" in done.stderr
    assert b"PINGSTREAM_MAX_MESSAGE_BYTES" in done.stderr


@pytest.mark.skipif(not EXAMPLE.is_file(), reason="the shared data files are not beside the checkout")
async def test_gitlabs_own_example_is_sent_as_it_is(settings: Settings) -> None:
    begin = await ends(settings, "usage-pings")
    assert run("send", str(EXAMPLE), kafka=settings.kafka).returncode == 0
    (record,) = await read(settings, begin)
    assert record.value == EXAMPLE.read_bytes().strip()
    assert record.key == b"0000000-0000-0000-0000-000000000000"
    assert dt.datetime.fromtimestamp(record.timestamp / 1000, dt.UTC).isoformat() == "2020-04-17T07:43:54.162000+00:00"


async def test_a_message_too_large_for_the_client_is_a_sentence(settings: Settings) -> None:
    with pytest.raises(Failure, match="larger than the maximum"):
        await produce(
            settings.model_copy(update={"max_message_bytes": 2000}), [Message("usage-pings", None, b"x" * 9000, NOW_MS)]
        )


@pytest.mark.parametrize(
    ("data", "raw"),
    [
        (b"\xef\xbb\xbf" + PING, [PING]),
        (b'{"a":"\xe2\x80\xa8"}\n{"b":1}', [b'{"a":"\xe2\x80\xa8"}', b'{"b":1}']),
        (b'{"a":"\\ud800","n":' + b"9" * 5000 + b"}", [b'{"a":"\\ud800","n":' + b"9" * 5000 + b"}"]),
        (b'[\n[1, [2]],{"a" : 1}\n, null]', [b"[1, [2]]", b'{"a" : 1}', b"null"]),
        (b"[]", []),
        (b"[1]\n[2]", [b"[1]", b"[2]"]),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, [b'{"a":' * 100_000 + b"1" + b"}" * 100_000]),
        (b"{}\n" + b"[" * 100_000 + b"]" * 100_000, [b"{}", b"[" * 100_000 + b"]" * 100_000]),
    ],
    ids=[
        "byte order mark",
        "line separator",
        "odd strings and numbers",
        "list",
        "empty list",
        "lists in lines",
        "deep",
        "deep line",
    ],
)
def test_documents_keep_their_bytes(data: bytes, raw: list[bytes]) -> None:
    assert [payload.raw for payload in payloads(data)] == raw


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"", "nothing in it"),
        (b'{\n  "a": 1,\n  "b"\n}\n', "line 4 is not JSON"),
        (b'{"a":1}\n{"a":\n', "line 2 is not JSON"),
        (b'{"a":1\n', "line 1 is not JSON"),
        (b'{"a":1}\n\n{"a":NaN}\n', "line 3 is not JSON: NaN"),
        (b'{\n"NaN": "NaN",\n"b": -Infinity}', "line 3 is not JSON: -Infinity"),
        (b'{"a":1}\n{"a":"\xff"}\n', "line 2 is not UTF-8"),
        (b'{"a":"tab\t"}', "line 1 is not JSON"),
        (b"uuid,recorded_at\n", "line 1 is not JSON"),
    ],
)
def test_what_cannot_be_json_is_refused_by_its_line(data: bytes, complaint: str) -> None:
    with pytest.raises(NotJson, match=complaint):
        payloads(data)


@pytest.mark.parametrize(
    ("document", "topic", "key"),
    [
        ({"uuid": "u"}, "usage-pings", b"u"),
        ({"uuid": "u", "namespace_id": "7"}, "usage-pings", b"u:7"),
        ({"uuid": "u", "namespace_id": 7}, "usage-pings", b"u"),
        ({"uuid": "u", "namespace_id": None}, "usage-pings", b"u"),
        ({"uuid": 17}, "usage-pings", None),
        ({"uuid": "\ud800"}, "usage-pings", None),
        ({"type": "x"}, "usage-pings", None),
        ({"event_id": "e"}, "billing-events", None),
        ({"type": "x", "account_id": "a"}, "billing-events", b"a"),
        ({"event_id": "e", "account_id": "é"}, "billing-events", "é".encode()),
        ([], "usage-pings", None),
    ],
)
def test_topic_and_key_follow_from_the_content(document: object, topic: str, key: bytes | None) -> None:
    (payload,) = payloads(json.dumps([document]).encode())
    message = to_message(payload, NOW_MS)
    assert (message.topic, message.key, message.timestamp_ms) == (topic, key, NOW_MS)


@pytest.mark.parametrize(
    ("recorded_at", "timestamp_ms"),
    [
        ("2026-03-01T12:00:00Z", MARCH_MS),
        ("2026-03-01t12:00:00.0019999z", MARCH_MS + 1),
        ("2026-03-01 12:00:00+00:00", MARCH_MS),
        ("1970-01-01T00:00:00Z", 0),
        ("1969-12-31T23:59:59Z", NOW_MS),
        ("2026-03-01T12:00:00", NOW_MS),
        ("2026-09-22T14:13:21Z", NOW_MS),
        ("2026-09-22T14:13:20Z", NOW_MS + 86_400_000),
        ("yesterday", NOW_MS),
        (None, NOW_MS),
        (17, NOW_MS),
    ],
)
def test_the_timestamp_is_recorded_at_unless_no_topic_would_take_it(recorded_at: object, timestamp_ms: int) -> None:
    (payload,) = payloads(json.dumps({"uuid": "u", "recorded_at": recorded_at}).encode())
    assert to_message(payload, NOW_MS).timestamp_ms == timestamp_ms
    assert to_message(payload, NOW_MS, received_now=True).timestamp_ms == NOW_MS


# --- GitLab's other payloads ------------------------------------------------------------------------------------------

SYNC: dict[str, Any] = {
    "gitlab_version": "17.5.1", "timestamp": "2026-03-01T12:00:00.5Z", "date": "2026-03-01", "license_key": "geheimnis",
    "max_historical_user_count": 75, "billable_users_count": 70, "hostname": "gitlab.example.com", "instance_id": "i-1",
    "unique_instance_id": "u-1", "add_on_metrics": [{"add_on_type": "duo_enterprise", "purchased_seats": 100}],
}  # fmt: skip


def sync(**changes: object) -> Payload:
    (payload,) = payloads(json.dumps(SYNC | changes).encode())
    return payload


def test_a_licence_sync_becomes_an_event_that_is_read() -> None:
    made = seats_synced(sync(), "A-1", "A-S1")
    found = read_billing_event(made.raw, "USD", 10_000)
    assert (found.type, found.account_id, found.channel) == ("seats_synced", "A-1", "automatic")
    assert found.occurred_at == MARCH_MS * 1000 + 500_000
    assert found.sync == SeatSync("A-S1", 70, 75)
    assert b"geheimnis" not in made.raw and b"license_key" not in made.raw and b"example.com" not in made.raw
    message = to_message(made, NOW_MS)
    assert (message.topic, message.key, message.timestamp_ms) == ("billing-events", b"A-1", MARCH_MS + 500)


def test_a_licence_sync_sent_again_is_the_same_event_and_another_one_is_not() -> None:
    def event_id(payload: Payload, subscription: str = "A-S1") -> str:
        return read_billing_event(seats_synced(payload, "A-1", subscription).raw, "USD", 10_000).event_id

    (shuffled,) = payloads(json.dumps(dict(reversed((SYNC | {"license_key": "another"}).items())), indent=2).encode())
    assert seats_synced(shuffled, "A-1", "A-S1") == seats_synced(sync(), "A-1", "A-S1")
    others = [
        event_id(sync()),
        event_id(sync(), "A-S2"),
        event_id(sync(timestamp="2026-03-02T12:00:00Z")),
        event_id(sync(unique_instance_id="u-2")),
        event_id(sync(instance_id="i-2")),
        event_id(sync(hostname="another.example.com")),
        event_id(sync(unique_instance_id=None, instance_id=None)),
    ]
    assert len(set(others)) == len(others)
    assert event_id(sync(billable_users_count=71)) == event_id(sync()), "a conflict, not a second sync"


def test_a_licence_sync_may_say_itself_whose_it_is() -> None:
    own = {"account_id": "A-9", "subscription_id": "A-S9"}
    found = read_billing_event(seats_synced(sync(**own), "", "").raw, "USD", 10_000)
    assert (found.account_id, found.sync) == ("A-9", SeatSync("A-S9", 70, 75))
    assert seats_synced(sync(**own), "A-1", "A-S1") == seats_synced(sync(), "A-9", "A-S9")


def test_a_licence_sync_that_says_nothing_of_its_account_stands_under_its_installation() -> None:
    found = read_billing_event(seats_synced(sync(), "", "").raw, "USD", 10_000)
    assert (found.account_id, found.sync) == ("i-1", SeatSync("", 70, 75))
    found = read_billing_event(seats_synced(sync(instance_id=None), "", "").raw, "USD", 10_000)
    assert found.account_id == "gitlab.example.com"


def test_a_licence_sync_with_one_count() -> None:
    unknown = read_billing_event(seats_synced(sync(billable_users_count=None), "A-1", "A-S1").raw, "USD", 10_000)
    assert unknown.sync == SeatSync("A-S1", None, 75)


@pytest.mark.parametrize(
    ("payload", "account", "complaint"),
    [
        (sync(instance_id=None, hostname=""), "", "give --account, or add `account_id`"),
        (sync(account_id=7, subscription_id="A-S1"), "", "at `$.account_id`"),
        (sync(subscription_id="x" * 257), "A-1", "at `$.subscription_id`"),
        (sync(subscription_id="A-S1", timestamp=None), "A-1", "at `$.timestamp`"),
        (sync(subscription_id="A-S1", timestamp="2026-03-01"), "A-1", "at `$.timestamp`"),
        (sync(subscription_id="A-S1", billable_users_count=-1), "A-1", "at `$.billable_users_count`"),
        (sync(subscription_id="A-S1", billable_users_count=70.0), "A-1", "at `$.billable_users_count`"),
        (sync(subscription_id="A-S1", max_historical_user_count="75"), "A-1", "at `$.max_historical_user_count`"),
        (Payload(PING, json.loads(PING)), "A-1", "neither `billable_users_count` nor `max_historical_user_count`"),
        (Payload(b"[]", []), "A-1", "no licence sync"),
        (Payload(b"[" * 2_000 + b"]" * 2_000, None), "A-1", "no licence sync"),
    ],
)
def test_what_is_no_licence_sync_is_refused_in_its_own_words(payload: Payload, account: str, complaint: str) -> None:
    with pytest.raises(NoLicenseSync) as caught:
        seats_synced(payload, account, "")
    assert complaint in str(caught.value)
    assert "seat_sync" not in str(caught.value) and "geheimnis" not in str(caught.value)


async def test_send_licence_syncs(settings: Settings, tmp_path: Path) -> None:
    begin = {**await ends(settings, "usage-pings"), **await ends(settings, "billing-events")}
    syncs = [SYNC, SYNC | {"timestamp": "2026-03-02T12:00:00Z", "account_id": "A-2", "subscription_id": "A-S2"}]
    (tmp_path / "syncs.jsonl").write_text("\n".join(map(json.dumps, syncs)))
    arguments = ["send", "--as", "license-sync", "--subscription", "A-S1", str(tmp_path / "syncs.jsonl")]

    (tmp_path / "nobodys.json").write_text(json.dumps(SYNC | {"instance_id": None, "hostname": None}))
    refused = run(*arguments, str(tmp_path / "nobodys.json"), kafka=settings.kafka)
    assert refused.returncode == 2
    assert b"nobodys.json: document 1: it does not say whose it is: give --account" in refused.stderr
    assert b"nothing was sent" in refused.stderr and await read(settings, begin) == []

    done = run(*arguments, "--account", "A-1", kafka=settings.kafka)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode() == f"{tmp_path / 'syncs.jsonl'}: 2 sent to billing-events\n"
    records = await read(settings, begin)
    assert {r.key for r in records} == {b"A-1", b"A-2"}
    assert {read_billing_event(r.value, "USD", 10_000).sync for r in records} == {
        SeatSync("A-S1", 70, 75),
        SeatSync("A-S2", 70, 75),
    }
    assert all(b"geheimnis" not in r.value for r in records)


@pytest.mark.parametrize(
    "wrong",
    [
        ["--account", "A-1"],
        ["--subscription", "A-S1"],
        ["--as", "license-sync", "--topic", "usage-pings"],
        ["--as", "seat-link"],
    ],
)
def test_wrong_use_of_licence_syncs(wrong: list[str], tmp_path: Path) -> None:
    (tmp_path / "sync.json").write_text(json.dumps(SYNC))
    done = run("send", *wrong, str(tmp_path / "sync.json"))
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"Traceback" not in done.stderr


BILLABLE = (
    b'{"event_id":"b-1","event_type":"secrets_read","unit_of_measure":"request","quantity":1,"namespace_id":9870}'
)


def test_what_neither_topic_is_for_is_noted() -> None:
    (billable,) = payloads(BILLABLE)
    assert "billing by usage is not read" in (misplaced(billable) or "")
    assert "--as license-sync" in (misplaced(sync()) or "")
    for document in (PING, GROUP, EVENT, b"[1]", b"7", b"{}"):
        assert all(misplaced(payload) is None for payload in payloads(document))


async def test_a_billable_usage_event_is_sent_as_it_is_and_said_to_be_none_of_ours(
    settings: Settings, tmp_path: Path
) -> None:
    begin = await ends(settings, "billing-events")
    (tmp_path / "events.jsonl").write_bytes(BILLABLE + b"\n" + EVENT + b"\n" + BILLABLE)
    done = run("send", str(tmp_path / "events.jsonl"), kafka=settings.kafka)
    assert done.returncode == 0
    assert done.stderr.count(b"\n") == 1 and b"it becomes a dead letter (2 of 3)" in done.stderr
    assert Counter(r.value for r in await read(settings, begin)) == {BILLABLE: 2, EVENT: 1}


async def test_the_worked_examples_of_the_sources_are_sent_and_read(settings: Settings, tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "billing-sources.md").read_text()
    examples = re.findall(r"^```json\n(.*?)\n```$", page, re.DOTALL | re.MULTILINE)
    begin = await ends(settings, "billing-events")
    (tmp_path / "examples.json").write_text("[" + ",".join(examples) + "]")
    done = run("send", str(tmp_path / "examples.json"), kafka=settings.kafka)
    assert (done.returncode, done.stderr) == (0, b"")
    records = await read(settings, begin)
    assert Counter(r.value.decode() for r in records) == Counter(examples)
    for record in records:
        found = read_billing_event(record.value, "USD", settings.max_message_bytes)
        assert record.key == found.account_id.encode()
        assert record.timestamp == found.occurred_at // 1000


@pytest.mark.skipif(not DATA.is_dir(), reason="the shared data files are not beside the checkout")
def test_gitlabs_own_examples_of_the_two() -> None:
    (example,) = payloads((DATA / "license-sync-example.json").read_bytes())
    found = read_billing_event(seats_synced(example, "A-1", "A-S1").raw, "USD", 10_000)
    assert found.sync == SeatSync("A-S1", 75, 75)
    assert dt.datetime.fromtimestamp(found.occurred_at / 1e6, dt.UTC).isoformat() == "2021-06-14T12:00:09+00:00"
    (example,) = payloads((DATA / "billable-usage-event-example.json").read_bytes())
    assert "billing by usage is not read" in (misplaced(example) or "")
    with pytest.raises(Unreadable, match="billing by usage is not read - at `") as caught:
        read_billing_event(example.raw, "USD", 10_000)
    assert caught.value.reason is Reason.INVALID
