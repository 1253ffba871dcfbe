"""The settings of every command: one model, checked at start.

Each field is the environment variable `PINGSTREAM_<NAME>`, a line of the same name in `.env`, a flag (`--kafka`,
`--data-dir` …), and a file `pingstream_<name>` in the folder of secrets. The flag wins over the environment, the
environment over `.env`, `.env` over the file.
"""

from __future__ import annotations

import datetime as dt
import re
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import quote, urlsplit, urlunsplit

from pydantic import BeforeValidator, Field, SecretStr, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SecretsSettingsSource,
    SettingsConfigDict,
)

PREFIX = "PINGSTREAM_"

SECRETS_DIR = Path("/run/secrets")
"""Where containers get theirs."""

OFF = "off"

_HOST_PORT = re.compile(r"^(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):(\d{1,5})$")
_LOOPBACK = re.compile(r"^(localhost|::1|127(\.\d{1,3}){3})$")
_IDENTIFIER = re.compile(r"^[A-Za-z_][A-Za-z0-9_]{0,63}$")
_CLUSTER = re.compile(r"^[A-Za-z_][A-Za-z0-9_-]{0,63}$")


def _split(value: object) -> object:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


class _Files(SecretsSettingsSource):
    """Settings from files, in the folder that flags, environment and `.env` name."""

    def __call__(self) -> dict[str, Any]:
        self.secrets_dir = Path(self.current_state.get("secrets_dir", SECRETS_DIR))
        return super().__call__() if self.secrets_dir.is_dir() else {}


class Settings(BaseSettings):
    """Everything that can be set. The description of a field is the help text of its flag."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_file=".env", extra="ignore", env_ignore_empty=True)

    kafka: str = Field("127.0.0.1:9092", description="Kafka's bootstrap servers, host:port, separated by commas.")
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="How to speak to Kafka."
    )
    kafka_security_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        "SCRAM-SHA-512", description="SASL mechanism, with a SASL protocol."
    )
    kafka_security_username: str = Field("", description="SASL user name.")
    kafka_security_password: SecretStr = Field(SecretStr(""), description="SASL password.")
    kafka_security_ca_file: Path | None = Field(
        None, description="CA certificates (PEM) that Kafka's is signed by [default: the system's]"
    )
    kafka_security_cert_file: Path | None = Field(
        None, description="Our own certificate (PEM), for brokers that ask clients for one."
    )
    kafka_security_key_file: Path | None = Field(
        None, description="Its key (PEM, without a password) [default: in the same file]"
    )

    clickhouse: SecretStr | None = Field(
        None,
        description="ClickHouse's DSN: chdb://<path> (embedded), http://… or https://… [default: chdb://<data dir>/clickhouse]",
    )
    clickhouse_ca_file: Path | None = Field(
        None, description="CA certificates (PEM) that ClickHouse's is signed by, with https [default: the system's]"
    )
    clickhouse_replicated: bool = Field(
        False, description="Make the database one that ClickHouse keeps alike on all replicas of a shard."
    )
    clickhouse_cluster: str = Field(
        "", description="Make a replicated database on all servers of this ClickHouse cluster, which has one shard."
    )
    database: str = Field("pingstream", description="ClickHouse database.")
    data_dir: Path = Field(Path("pingstream-data"), description="Folder for everything that is kept on this machine.")
    secrets_dir: Path = Field(
        SECRETS_DIR,
        description="Folder with settings as files, pingstream_pseudonym_key for one; a missing folder has none.",
    )

    as_of: dt.date | None = Field(
        None, description="The day the figures stand for, YYYY-MM-DD, instead of today (UTC)."
    )
    pseudonym_key: SecretStr | None = Field(
        None,
        description="Secret that user ids are pseudonymised with, 16 characters or more [default: made once, kept in the data dir]",
    )
    saas_hostnames: Annotated[list[str], NoDecode, BeforeValidator(_split)] = Field(
        ["gitlab.com"], description="Host names that are GitLab.com, separated by commas."
    )
    reporting_currency: str = Field("USD", description="ISO 4217 code of the currency that money is reported in.")

    web_host: str = Field(
        "127.0.0.1",
        min_length=1,
        description="Address that /metrics, /healthz and /readyz listen on; off: nothing listens.",
    )
    web_port: int = Field(
        8088,
        ge=0,
        le=65535,
        description="Their port; 0 takes a free one. Without the setting a taken 8088 gives way to a free one.",
    )
    web_token: SecretStr | None = Field(
        None,
        description="Bearer token that /metrics asks for, 16 characters or more. Without one it answers on loopback only.",
    )
    flush_seconds: float = Field(
        0.25, gt=0, le=60, description="How long facts may gather before they are written, in seconds."
    )
    retention: int = Field(
        -1, ge=-1, description="retention.ms of the topics that Pingstream makes; -1 keeps everything."
    )
    partitions: int = Field(4, ge=1, le=1024, description="Partitions of the topics that Pingstream makes.")
    replication: int = Field(1, ge=1, le=16, description="Replication factor of the topics that Pingstream makes.")
    max_message_bytes: int = Field(
        8 * 1024 * 1024,
        ge=1024,
        le=512 * 1024 * 1024,
        description="Largest message that is read and that topics take, in bytes.",
    )
    log_format: Literal["text", "json"] = Field("text", description="Log lines for people (text) or machines (json).")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags, environment, `.env`, files: the first that has a setting wins."""
        return init_settings, env_settings, dotenv_settings, _Files(settings_cls)

    @field_validator("kafka")
    @classmethod
    def _servers(cls, value: str) -> str:
        servers = [part.strip() for part in value.split(",") if part.strip()]
        if not servers:
            raise ValueError("needs at least one host:port, as in 127.0.0.1:9092")
        for server in servers:
            match = _HOST_PORT.match(server)
            if match is None or not 0 < int(match.group(2)) <= 65535:
                raise ValueError(f"{server!r} is not host:port, as in 127.0.0.1:9092")
        return ",".join(servers)

    @field_validator("clickhouse")
    @classmethod
    def _dsn(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not value.get_secret_value().startswith(("chdb://", "http://", "https://")):
            raise ValueError("must begin with chdb://, http:// or https://, as in http://127.0.0.1:8123")
        return value

    @field_validator("database")
    @classmethod
    def _identifier(cls, value: str) -> str:
        if not _IDENTIFIER.match(value):
            raise ValueError("must be a plain name: letters, digits and _, not beginning with a digit")
        return value

    @field_validator("clickhouse_cluster")
    @classmethod
    def _cluster(cls, value: str) -> str:
        if value and not _CLUSTER.match(value):
            raise ValueError("must be the name of a cluster: letters, digits, _ and -, not beginning with a digit")
        return value

    @field_validator("pseudonym_key", "web_token")
    @classmethod
    def _key(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and len(value.get_secret_value()) < 16:
            raise ValueError("needs at least 16 characters")
        return value

    @field_validator("reporting_currency")
    @classmethod
    def _currency(cls, value: str) -> str:
        if not re.fullmatch(r"[A-Z]{3}", value):
            raise ValueError("must be three capital letters, as in USD")
        return value

    @model_validator(mode="after")
    def _sasl(self) -> Settings:
        if self.kafka_security_protocol.startswith("SASL") and not self.kafka_security_username:
            raise ValueError(
                f"kafka_security_protocol={self.kafka_security_protocol} needs kafka_security_username and kafka_security_password"
            )
        if self.kafka_security_username and not self.kafka_security_protocol.startswith("SASL"):
            raise ValueError(
                f"kafka_security_username is given, but kafka_security_protocol={self.kafka_security_protocol} has no login: set it "
                "to SASL_SSL (or SASL_PLAINTEXT)"
            )
        tls = {
            "ca": self.kafka_security_ca_file,
            "cert": self.kafka_security_cert_file,
            "key": self.kafka_security_key_file,
        }
        given = [f"kafka_security_{name}_file" for name, file in tls.items() if file is not None]
        if given and not self.kafka_security_protocol.endswith("SSL"):
            raise ValueError(
                f"{given[0]} is given, but kafka_security_protocol={self.kafka_security_protocol} has no TLS: set it to SSL or "
                "SASL_SSL"
            )
        if self.kafka_security_key_file is not None and self.kafka_security_cert_file is None:
            raise ValueError("kafka_security_key_file needs kafka_security_cert_file")
        return self

    @model_validator(mode="after")
    def _clickhouse_tls(self) -> Settings:
        if self.clickhouse_ca_file is not None and not self.clickhouse_dsn.startswith("https://"):
            raise ValueError("clickhouse_ca_file is given, but clickhouse does not begin with https://")
        return self

    @model_validator(mode="after")
    def _replicas(self) -> Settings:
        if self.replicated and self.embedded_path is not None:
            name = "clickhouse_cluster" if self.clickhouse_cluster else "clickhouse_replicated"
            raise ValueError(
                f"{name} is given, but embedded ClickHouse has no replicas: set clickhouse to a server's http://…"
            )
        return self

    @property
    def replicated(self) -> bool:
        """Whether a database that is made is a replicated one."""
        return self.clickhouse_replicated or bool(self.clickhouse_cluster)

    @property
    def clickhouse_dsn(self) -> str:
        """The DSN with its default, and the CA certificates, filled in. May hold a password: never log it."""
        if self.clickhouse is None:
            return f"chdb://{self.data_dir.absolute() / 'clickhouse'}"
        dsn = self.clickhouse.get_secret_value()
        if self.clickhouse_ca_file is None:
            return dsn
        parts = urlsplit(dsn)
        ca = f"ca_cert={quote(str(self.clickhouse_ca_file.absolute()))}"
        return urlunsplit(parts._replace(query=f"{parts.query}&{ca}" if parts.query else ca))

    @property
    def has_web(self) -> bool:
        """Whether a worker listens at all."""
        return self.web_host != OFF

    @property
    def shows_metrics(self) -> bool:
        """Whether `/metrics` answers: to anybody on loopback, elsewhere only to who has the token."""
        return self.web_token is not None or _LOOPBACK.match(self.web_host) is not None

    def public(self) -> dict[str, object]:
        """Every setting that is no secret and not its default, for the log. Of the DSN: everything but who logs in and how."""
        shown: dict[str, object] = {}
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            if value == field.get_default() or "SecretStr" in str(field.annotation):
                continue
            shown[name] = value if isinstance(value, (int, float, str, list)) else str(value)
        if self.clickhouse is not None:
            parts = urlsplit(self.clickhouse.get_secret_value())
            shown["clickhouse"] = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
        return shown

    @property
    def embedded_path(self) -> Path | None:
        """Folder of the embedded engine, None when ClickHouse is a server."""
        dsn = self.clickhouse_dsn
        return Path(dsn.removeprefix("chdb://")).absolute() if dsn.startswith("chdb://") else None
