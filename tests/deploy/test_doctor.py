"""`pingstream doctor`: what it finds on a broker, an engine and a machine in several states."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from pydantic import SecretStr

from deploy.doctor.clickhouse import _looks
from deploy.doctor.kafka import complaints
from deploy.doctor.machine import check_machine
from deploy.kafka.broker import LocalBroker
from schemas.settings import Settings
from sinks.clickhouse.connection import connect
from sinks.clickhouse.schema import current, migrate
from sinks.topics import BILLING_EVENTS, USAGE_PINGS, changelog_topic, ensure_topics, internal_topic, topic_config
from tests.running import environment

pytestmark = pytest.mark.timeout(180)

SETTINGS = Settings()


def doctor(folder: Path, *arguments: str) -> tuple[int, list[dict[str, Any]], str]:
    """Exit code, findings, standard error."""
    done = subprocess.run(
        [sys.executable, "-m", "deploy.cli.main", "doctor", "--format", "json", "--data-dir", "data", *arguments],
        cwd=folder, env=environment(), capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    return done.returncode, json.loads(done.stdout), done.stderr.decode()


def states(findings: list[dict[str, Any]], part: str, check: str) -> list[str]:
    return [one["state"] for one in findings if (one["part"], one["check"]) == (part, check)]


@pytest.fixture(scope="module")
def own_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalBroker]:
    with LocalBroker(tmp_path_factory.mktemp("kafka"), port=0) as broker:
        yield broker


def test_nothing_there_yet(tmp_path: Path) -> None:
    code, findings, err = doctor(tmp_path, "--kafka", "127.0.0.1:1")
    assert code == 1
    assert states(findings, "kafka", "broker") == ["problem"]
    (broker,) = (one for one in findings if one["check"] == "broker")
    assert "pingstream broker" in broker["advice"]
    assert states(findings, "clickhouse", "connection") == ["ok"]
    assert "1 problem" in err
    assert not (tmp_path / "data").exists()


def test_from_an_empty_cluster_to_one_whose_topics_are_wrong(own_broker: LocalBroker, tmp_path: Path) -> None:
    settings = Settings(kafka=own_broker.bootstrap, data_dir=tmp_path / "data")
    arguments = ("--kafka", own_broker.bootstrap)
    code, findings, _ = doctor(tmp_path, *arguments)
    assert code == 0, findings
    assert states(findings, "kafka", "topics") == ["ok", "ok"]
    assert all("not there yet" in one["found"] for one in findings if one["check"] == "topics")

    asyncio.run(ensure_topics(settings))
    client = connect(settings.clickhouse_dsn)
    migrate(client, settings.database)
    client.close()
    code, findings, err = doctor(tmp_path, *arguments)
    assert code == 0, findings
    assert {one["state"] for one in findings} == {"ok"}
    assert states(findings, "kafka", USAGE_PINGS) == ["ok"]
    assert {one["found"] for one in findings if one["check"] == "schema"} == {f"{current()} in pingstream"}
    client = connect(settings.clickhouse_dsn)
    (alone,) = (
        one
        for one in _looks(client, Settings(clickhouse=SecretStr("http://127.0.0.1:1"), clickhouse_cluster="all"))
        if one.check == "replicas"
    )
    assert alone.state == "problem" and "pingstream was made without replicas" in alone.found
    client.close()
    assert "0 problems, 0 warnings" in err

    async def spoil() -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=own_broker.bootstrap)
        await admin.start()
        try:
            changelog = NewTopic(changelog_topic(BILLING_EVENTS), 3, 1, topic_configs={"cleanup.policy": "delete"})
            await admin.create_topics([changelog])
            await admin.create_partitions({USAGE_PINGS: _more(6)})
            rekeyed = NewTopic(internal_topic(USAGE_PINGS), 4, 1, topic_configs={"retention.ms": "1000"})
            await admin.create_topics([rekeyed])
        finally:
            await admin.close()
        async with AIOKafkaProducer(bootstrap_servers=own_broker.bootstrap, acks="all") as producer:
            ahead = int(time.time() * 1000) + 3_600_000
            await producer.send_and_wait(BILLING_EVENTS, b"{}", partition=0, timestamp_ms=ahead)

    asyncio.run(spoil())
    client = connect(settings.clickhouse_dsn)
    client.command(f"INSERT INTO pingstream.schema_migration (number, name) VALUES ({current() + 1}, 'newer')")
    client.close()
    code, findings, _ = doctor(tmp_path, *arguments)
    assert code == 1
    assert states(findings, "kafka", changelog_topic(BILLING_EVENTS)) == ["problem"]
    assert sorted(states(findings, "kafka", "partitions")) == ["problem", "problem"]
    assert states(findings, "kafka", internal_topic(USAGE_PINGS)) == ["warning"]
    assert states(findings, "kafka", "clocks") == ["warning"]
    assert states(findings, "clickhouse", "schema") == ["problem"]
    assert "billing-events: 1 messages are still to be read" in {one["found"] for one in findings}
    assert all(one["advice"] for one in findings if one["state"] != "ok")


def _more(partitions: int) -> Any:
    from aiokafka.admin import NewPartitions

    return NewPartitions(partitions)


def test_a_sound_topic_is_not_complained_about() -> None:
    assert list(complaints(SETTINGS, USAGE_PINGS, USAGE_PINGS, topic_config(SETTINGS))) == []
    changelog = changelog_topic(USAGE_PINGS)
    assert list(complaints(SETTINGS, USAGE_PINGS, changelog, {"cleanup.policy": "compact"})) == []


@pytest.mark.parametrize(
    ("name", "value", "state"),
    [
        ("max.message.bytes", "1000", "warning"),
        ("retention.ms", "604800000", "warning"),
        ("cleanup.policy", "compact,delete", "problem"),
        ("message.timestamp.type", "LogAppendTime", "warning"),
        ("message.timestamp.after.max.ms", "3600000", "warning"),
        ("message.timestamp.before.max.ms", "0", "warning"),
    ],
)
def test_each_wrong_setting_of_a_topic(name: str, value: str, state: str) -> None:
    (found,) = complaints(SETTINGS, USAGE_PINGS, USAGE_PINGS, topic_config(SETTINGS) | {name: value})
    assert (found.state, found.check) == (state, USAGE_PINGS)
    assert "set " in found.advice


def test_the_machine_and_the_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pseudonym.key").write_text("k" * 32)
    (tmp_path / "pseudonym.key").chmod(0o644)
    monkeypatch.setenv("PINGSTREAM_KAFAK", "127.0.0.1:9092")
    odd = Settings(data_dir=tmp_path, as_of="2026-01-01", web_host="0.0.0.0", clickhouse="http://127.0.0.1:8123")  # type: ignore[arg-type]
    found = [one for one in check_machine(odd) if one.state != "ok"]
    assert [one.check for one in found] == ["pseudonym key", "settings", "settings", "settings"]
    off = odd.model_copy(update={"web_host": "off"})
    assert [one.check for one in check_machine(off) if one.state != "ok"] == ["pseudonym key", "settings", "settings"]
    assert "PINGSTREAM_KAFAK" in found[1].found
    (tmp_path / "pseudonym.key").chmod(0o600)
    assert [one.check for one in check_machine(odd) if "another" in one.found] == ["pseudonym key"]
