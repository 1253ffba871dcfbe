"""How every part of Pingstream that speaks to Kafka by aiokafka connects: addresses, TLS, SASL, and the wait for a broker."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable
from typing import Any, Final

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import (
    AuthenticationFailedError,
    AuthenticationMethodNotSupported,
    IllegalSaslStateError,
    KafkaConnectionError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
)
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, stop_after_delay, wait_exponential

from schemas.settings import Settings

FIRST_PAUSE_SECONDS: Final = 0.25
LONGEST_PAUSE_SECONDS: Final = 4.0
PROBE_TIMEOUT_MS: Final = 5_000

REFUSALS: Final = (
    AuthenticationFailedError,
    AuthenticationMethodNotSupported,
    IllegalSaslStateError,  # the listener speaks no SASL
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
    ssl.SSLCertVerificationError,
)
"""What no waiting mends: the broker is there, and says no (or is not who it should be)."""


class BrokerUnavailable(Exception):
    """No broker answers. The text is one sentence that says where and what to do."""


class BrokerRefused(BrokerUnavailable):
    """The broker answers and refuses us: wrong password, mechanism or certificate. Waiting does not help."""


def client_config(settings: Settings) -> dict[str, Any]:
    """Keyword arguments for any of aiokafka's clients.

    Holds the password in clear: never log it.

    Raises:
        BrokerRefused: the file of CA certificates cannot be read.
    """
    config: dict[str, Any] = {
        "bootstrap_servers": settings.kafka.split(","),
        "security_protocol": settings.kafka_security_protocol,
    }
    if settings.kafka_security_protocol in ("SSL", "SASL_SSL"):
        config["ssl_context"] = _ssl_context(settings)
    if settings.kafka_security_protocol.startswith("SASL"):
        config["sasl_mechanism"] = settings.kafka_security_mechanism
        config["sasl_plain_username"] = settings.kafka_security_username
        config["sasl_plain_password"] = settings.kafka_security_password.get_secret_value()
    return config


def _ssl_context(settings: Settings) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=settings.kafka_security_ca_file)
    except (OSError, ssl.SSLError) as exc:
        raise BrokerRefused(
            f"the CA certificates in {settings.kafka_security_ca_file} cannot be used ({exc}); "
            "set PINGSTREAM_KAFKA_SECURITY_CA_FILE to a readable PEM file"
        ) from None


async def wait_for_broker(
    settings: Settings, *, patience: float = 60.0, say: Callable[[str], None] = lambda sentence: None
) -> None:
    """Returns when a broker answers, after pauses that grow from 0.25 to 4 seconds.

    Args:
        settings: where the broker is.
        patience: how long to wait, in seconds.
        say: is told once what is being waited for, if there is anything to wait for.

    Raises:
        BrokerUnavailable: none answered in time.
        BrokerRefused: one answered and refused us.
    """
    config = client_config(settings)
    said = False

    def before_sleep(state: RetryCallState) -> None:
        nonlocal said
        if not said:
            say(
                f"waiting for Kafka on {settings.kafka}, {patience:.0f} s at most (`pingstream broker` starts one here)"
            )
            said = True

    with _Complaints() as complaints:
        try:
            async for attempt in AsyncRetrying(
                retry=retry_if_exception_type(KafkaConnectionError),
                wait=wait_exponential(FIRST_PAUSE_SECONDS, max=LONGEST_PAUSE_SECONDS),
                stop=stop_after_delay(patience),
                before_sleep=before_sleep,
                reraise=True,
            ):
                with attempt:
                    await _probe(config, complaints)
        except KafkaConnectionError:
            raise BrokerUnavailable(
                f"no Kafka broker answered on {settings.kafka} ({settings.kafka_security_protocol}) within {patience:.0f} s: "
                f"{complaints.why()}; start one with `pingstream broker`, or set PINGSTREAM_KAFKA (--kafka) to yours"
            ) from None


async def _probe(config: dict[str, Any], complaints: _Complaints) -> None:
    client = AIOKafkaClient(**config, request_timeout_ms=PROBE_TIMEOUT_MS, client_id="pingstream")
    try:
        await client.bootstrap()
    except KafkaConnectionError:
        if isinstance(complaints.last, REFUSALS):
            raise BrokerRefused(
                f"Kafka on {','.join(config['bootstrap_servers'])} refuses us: {complaints.why()}; "
                "check the PINGSTREAM_KAFKA_SECURITY… settings"
            ) from None
        raise
    else:
        if not client.cluster.brokers():
            raise KafkaConnectionError("the cluster has no brokers yet")
    finally:
        # aiokafka's close() can wait for ever on a connection that the other side dropped during the handshake.
        await asyncio.wait_for(client.close(), PROBE_TIMEOUT_MS / 1000)


class _Complaints(logging.Handler):
    """Keeps what aiokafka logs about a failed connection, which is the only place where it tells why.

    While it is in place aiokafka logs nowhere else: a line for each attempt helps nobody.
    """

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.last: BaseException | None = None
        self._logger = logging.getLogger("aiokafka")

    def emit(self, record: logging.LogRecord) -> None:
        arguments = record.args if isinstance(record.args, tuple) else ()
        self.last = next((argument for argument in arguments if isinstance(argument, BaseException)), self.last)

    def why(self) -> str:
        """The last complaint in words."""
        return str(self.last) or type(self.last).__name__ if self.last else "no answer"

    def __enter__(self) -> _Complaints:
        self._propagate = self._logger.propagate
        self._logger.propagate = False
        self._logger.addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._logger.removeHandler(self)
        self._logger.propagate = self._propagate
