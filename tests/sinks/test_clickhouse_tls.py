"""ClickHouse over TLS, by our own door behind it: who is trusted, and what those are told who are not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from deploy.clickhouse.door import Door
from schemas.settings import Settings
from sinks.clickhouse.connection import NotTrusted, WrongPassword, connect
from tests.certificates import Authority

PASSWORD, WRONG = "the-password-nobody-sees", "another-password-nobody-sees"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls") / "certificates")


@pytest.fixture(scope="module")
def door(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    path = tmp_path_factory.mktemp("engine") / "clickhouse"
    with Door(path, password=PASSWORD, tls=authority.server_context()) as door:
        yield door


def dsn(door: Door, ca_file: Path | None, password: str = PASSWORD, scheme: str = "https") -> str:
    """As the settings make it."""
    clickhouse = f"{scheme}://default:{password}@{urlsplit(door.address).netloc}"
    return Settings(_env_file=None, clickhouse=clickhouse, clickhouse_ca_file=ca_file).clickhouse_dsn  # type: ignore[arg-type]


def test_its_certificate_is_checked_against_the_authority_that_is_named(door: Door, authority: Authority) -> None:
    client = connect(dsn(door, authority.ca_file))
    assert client.query("SELECT 1").result_rows == [(1,)]
    client.close()


def test_the_data_is_not_sent_in_clear(door: Door, authority: Authority) -> None:
    """clickhouse-connect 1.12 reads https in a DSN as http on any port but 443 and 8443."""
    client = connect(dsn(door, authority.ca_file))
    assert client.url.startswith("https://")
    client.close()


def test_who_is_not_trusted_is_told_what_to_change(door: Door, tmp_path: Path) -> None:
    stranger = Authority(tmp_path / "stranger")
    nowhere, key, plain_port = tmp_path / "nowhere.pem", tmp_path / "key.pem", dsn(door, None, scheme="http")
    key.write_text("no certificate")
    cases = (
        (dsn(door, None), NotTrusted, "CLICKHOUSE_CA_FILE"),
        (dsn(door, stranger.ca_file), NotTrusted, "CLICKHOUSE_CA_FILE"),
        (dsn(door, nowhere), NotTrusted, "cannot be read"),
        (dsn(door, key), NotTrusted, "cannot be read"),
        (plain_port, NotTrusted, "https://"),
    )
    for address, kind, word in cases:
        with pytest.raises(kind, match=word) as caught:
            connect(address)
        assert PASSWORD not in str(caught.value), str(caught.value)


def test_a_wrong_password_is_one(door: Door, authority: Authority) -> None:
    with pytest.raises(WrongPassword) as caught:
        connect(dsn(door, authority.ca_file, WRONG))
    assert WRONG not in str(caught.value)


def test_https_to_a_server_without_it(door: Door) -> None:
    with Door(door.path, password=PASSWORD) as plain, pytest.raises(NotTrusted, match="http://") as caught:
        connect(dsn(plain, None))
    assert PASSWORD not in str(caught.value)
