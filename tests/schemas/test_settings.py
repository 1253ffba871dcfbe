"""Settings from environment, `.env` and flags; errors that say what to change and never a secret."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from deploy.cli.errors import WrongUse
from deploy.cli.options import load_settings, unknown_settings


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PINGSTREAM_KAFKA", raising=False)
    monkeypatch.delenv("PINGSTREAM_CLICKHOUSE", raising=False)


def test_flag_over_environment_over_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text("PINGSTREAM_PARTITIONS=3\nPINGSTREAM_DATABASE=of_file\nPINGSTREAM_FLUSH_SECONDS=2\n")
    monkeypatch.setenv("PINGSTREAM_DATABASE", "of_environment")
    monkeypatch.setenv("PINGSTREAM_FLUSH_SECONDS", "3")
    settings = load_settings({"flush_seconds": "4"})
    assert (settings.partitions, settings.database, settings.flush_seconds) == (3, "of_environment", 4.0)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"kafka": "localhost"}, ["--kafka", "host:port", "'localhost'"]),
        ({"clickhouse": "tcp://x"}, ["--clickhouse", "chdb://"]),
        ({"as_of": "yesterday"}, ["--as-of", "'yesterday'"]),
        ({"web_port": "70000"}, ["--web-port", "65535"]),
        ({"web_host": ""}, ["--web-host", "at least 1"]),
        ({"database": "drop table"}, ["--database", "plain name"]),
        ({"pseudonym_key": "short-secret"}, ["--pseudonym-key", "16 characters"]),
        ({"kafka_security_protocol": "SASL_SSL"}, ["kafka_security_username"]),
        ({"kafka_security_username": "me"}, ["kafka_security_protocol", "SASL_SSL"]),
        ({"kafka_security_ca_file": "ca.pem"}, ["kafka_security_protocol", "SSL"]),
        ({"kafka_security_protocol": "SSL", "kafka_security_key_file": "key.pem"}, ["kafka_security_cert_file"]),
        ({"clickhouse_ca_file": "ca.pem"}, ["clickhouse_ca_file", "https://"]),
        ({"clickhouse_cluster": "a b"}, ["--clickhouse-cluster", "name of a cluster"]),
        ({"clickhouse_cluster": "c"}, ["clickhouse_cluster", "embedded ClickHouse has no replicas", "http://"]),
        ({"clickhouse_replicated": "true"}, ["clickhouse_replicated", "embedded ClickHouse has no replicas"]),
        ({"web_token": "short-secret"}, ["--web-token", "16 characters"]),
        ({"pseudonym_key": "@nowhere"}, ["--pseudonym-key", "nowhere cannot be read"]),
    ],
)
def test_a_wrong_setting_names_itself_and_what_it_should_be(flags: dict[str, str | None], words: list[str]) -> None:
    with pytest.raises(WrongUse) as caught:
        load_settings(flags)
    for word in words:
        assert word in str(caught.value)
    assert "short-secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("flags", "listens", "shows"),
    [
        ({}, True, True),
        ({"web_host": "localhost"}, True, True),
        ({"web_host": "0.0.0.0"}, True, False),
        ({"web_host": "0.0.0.0", "web_token": "a-token-of-16-and-more"}, True, True),
        ({"web_host": "off"}, False, False),
    ],
)
def test_the_web_end_is_off_only_when_it_is_told_so(flags: dict[str, str | None], listens: bool, shows: bool) -> None:
    settings = load_settings(flags)
    assert (settings.has_web, settings.shows_metrics) == (listens, shows)


def test_a_secret_is_not_shown() -> None:
    settings = load_settings({"clickhouse": "http://me:geheim@127.0.0.1:8123", "pseudonym_key": "geheim-geheim-geheim"})
    assert "geheim" not in repr(settings) + str(settings.model_dump())


def test_what_may_be_logged_has_no_secret_and_says_where_it_connects() -> None:
    secrets = {
        "clickhouse": "https://me:geheim@clickhouse:8443/?password=geheim",
        "pseudonym_key": "geheim-geheim-geheim",
        "web_token": "geheim-geheim-geheim",
        "kafka_security_password": "geheim",
    }
    shown = load_settings(secrets | {"kafka": "kafka:9092", "as_of": "2026-11-20", "partitions": "4"}).public()
    assert shown == {"kafka": "kafka:9092", "as_of": "2026-11-20", "clickhouse": "https://clickhouse:8443/"}


def test_the_flag_of_a_secret_may_name_a_file(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("geheim-geheim-geheim\n")
    settings = load_settings({"pseudonym_key": f"@{tmp_path / 'key'}", "database": "at_home"})
    assert settings.pseudonym_key is not None and settings.pseudonym_key.get_secret_value() == "geheim-geheim-geheim"
    with pytest.raises(WrongUse, match="plain name"):
        load_settings({"database": f"@{tmp_path / 'key'}"})  # no secret: as it is


def test_certificates_of_clickhouse_go_with_its_dsn() -> None:
    settings = load_settings({"clickhouse": "https://a:b@c:1/?x=y", "clickhouse_ca_file": "/etc/my ca.pem"})
    assert settings.clickhouse_dsn == "https://a:b@c:1/?x=y&ca_cert=/etc/my%20ca.pem"


def test_a_mistyped_name_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PINGSTREAM_KAFKAS", "x")
    assert unknown_settings() == ["PINGSTREAM_KAFKAS"]


def test_the_program_ends_with_2_and_one_sentence() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "deploy.cli.main", "migrate", "--clickhouse", "tcp://x"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "--clickhouse" in done.stderr and "Traceback" not in done.stderr
