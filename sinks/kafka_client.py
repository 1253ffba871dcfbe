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

# What it logs is raised as well, or mended; without a handler Python would print it next to the sentence of the exception.
logging.getLogger("aiokafka").addHandler(logging.NullHandler())

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

ASK_SECONDS: Final = 3.0

_LOGIN: Final = b"\x00\x11\x00\x00" + b"ping" + b"\xff\xff" + b"\x00\x00"
"""Kafka's SaslHandshake (17), version 0, with the number "ping", no client id, no mechanism."""


class BrokerUnavailable(Exception):
    """No broker answers. The text is one sentence that says where and what to do."""


class BrokerRefused(BrokerUnavailable):
    """The broker answers and refuses us: wrong password, mechanism or certificate. Waiting does not help."""


def client_config(settings: Settings) -> dict[str, Any]:
    """Keyword arguments for any of aiokafka's clients; Faust's are made of them.

    Holds the password in clear: never log it.

    Raises:
        BrokerRefused: a file of certificates cannot be read.
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
        context = ssl.create_default_context(cafile=settings.kafka_security_ca_file)
    except (OSError, ssl.SSLError) as exc:
        raise BrokerRefused(
            f"the CA certificates in {settings.kafka_security_ca_file} cannot be used ({exc}); "
            "set PINGSTREAM_KAFKA_SECURITY_CA_FILE to a readable PEM file"
        ) from None
    if settings.kafka_security_cert_file is not None:
        try:
            # Nobody sits at a terminal to type the password of a key; without one given OpenSSL would ask.
            context.load_cert_chain(settings.kafka_security_cert_file, settings.kafka_security_key_file, password="")
        except (OSError, ssl.SSLError) as exc:
            raise BrokerRefused(
                f"our own certificate in {settings.kafka_security_cert_file} cannot be used with its key ({exc}); set "
                "PINGSTREAM_KAFKA_SECURITY_CERT_FILE and PINGSTREAM_KAFKA_SECURITY_KEY_FILE to readable PEM files that belong "
                "together, the key without a password"
            ) from None
    return context


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
                    await _probe(settings, config, complaints)
        except KafkaConnectionError:
            raise BrokerUnavailable(
                f"no Kafka broker answered on {settings.kafka} ({settings.kafka_security_protocol}) within {patience:.0f} s: "
                f"{complaints.why()}; start one with `pingstream broker`, or set PINGSTREAM_KAFKA (--kafka) to yours"
            ) from None


async def _probe(settings: Settings, config: dict[str, Any], complaints: _Complaints) -> None:
    client = AIOKafkaClient(**config, request_timeout_ms=PROBE_TIMEOUT_MS, client_id="pingstream")
    try:
        await client.bootstrap()
    except KafkaConnectionError:
        refusal = complaints.last if isinstance(complaints.last, REFUSALS) else None
        if refusal is None or isinstance(refusal, IllegalSaslStateError):
            refusal = await _ask(settings) or refusal
        if refusal is not None:
            raise BrokerRefused(
                f"Kafka on {settings.kafka} refuses us ({settings.kafka_security_protocol}): {str(refusal) or repr(refusal)}; "
                f"{_advice(settings, refusal)}"
            ) from None
        raise
    else:
        if not client.cluster.brokers():
            raise KafkaConnectionError("the cluster has no brokers yet")
    finally:
        # aiokafka's close() can wait for ever on a connection that the other side dropped during the handshake.
        await asyncio.wait_for(client.close(), PROBE_TIMEOUT_MS / 1000)


class _OtherProtocol(Exception):
    """A server speaks another security protocol than we do."""

    def __init__(self, server: str, protocol: str) -> None:
        super().__init__(f"{server} speaks {protocol}")
        self.protocol = protocol


def _advice(settings: Settings, refusal: BaseException) -> str:
    """What to change after a refusal."""
    if isinstance(refusal, _OtherProtocol):
        return f"set PINGSTREAM_KAFKA_SECURITY_PROTOCOL={refusal.protocol}, or PINGSTREAM_KAFKA to another port"
    if isinstance(refusal, ssl.SSLCertVerificationError):
        return (
            "set PINGSTREAM_KAFKA_SECURITY_CA_FILE to the CA certificates that the broker's is signed by, and PINGSTREAM_KAFKA to a "
            "name that its certificate has"
        )
    if isinstance(refusal, ssl.SSLError):
        return (
            "it asks clients for a certificate: set PINGSTREAM_KAFKA_SECURITY_CERT_FILE and PINGSTREAM_KAFKA_SECURITY_KEY_FILE to one "
            "that it knows"
        )
    if isinstance(refusal, UnsupportedSaslMechanismError):
        return f"set PINGSTREAM_KAFKA_SECURITY_MECHANISM (now {settings.kafka_security_mechanism}) to one that the broker has"
    if isinstance(refusal, (AuthenticationFailedError, SaslAuthenticationFailed)):
        return (
            f"check PINGSTREAM_KAFKA_SECURITY_USERNAME ({settings.kafka_security_username!r}) and "
            "PINGSTREAM_KAFKA_SECURITY_PASSWORD, and that this user has a password for PINGSTREAM_KAFKA_SECURITY_MECHANISM "
            f"({settings.kafka_security_mechanism})"
        )
    return "check the PINGSTREAM_KAFKA_SECURITY… settings"


async def _ask(settings: Settings) -> Exception | None:
    """Why a broker drops our connections without a word, for ever: its listener speaks another protocol, or asks for a
    certificate. None where that is not it."""
    anybody = ssl.create_default_context()
    anybody.check_hostname, anybody.verify_mode = False, ssl.CERT_NONE  # it is asked what it speaks, and told nothing
    wanted = settings.kafka_security_protocol
    for server in settings.kafka.split(","):
        for context in (None, _ssl_context(settings) if wanted.endswith("SSL") else anybody):
            try:
                found = await _spoken(server, context)
            except ssl.SSLError as exc:
                if context is not anybody and "alert" in str(exc).lower():  # it gives a reason for ending the handshake
                    return exc
            except (OSError, asyncio.IncompleteReadError):
                continue
            else:
                if found is not None and found != wanted:
                    return _OtherProtocol(server, found)
    return None


async def _spoken(server: str, context: ssl.SSLContext | None) -> str | None:
    """The security protocol by which a Kafka listener answers, with TLS when there is a context; None when no Kafka does.

    It is asked how it would begin a login (SaslHandshake), which it answers before one, and without one.

    Raises:
        OSError: it does not answer, ssl.SSLError and TimeoutError among them.
        asyncio.IncompleteReadError: it drops the connection.
    """
    host, _, port = server.rpartition(":")
    async with asyncio.timeout(ASK_SECONDS):
        reader, writer = await asyncio.open_connection(host.strip("[]"), int(port), ssl=context)
        try:
            writer.write(len(_LOGIN).to_bytes(4, "big") + _LOGIN)
            size = int.from_bytes(await reader.readexactly(4), "big")
            answer = await reader.readexactly(size) if size < 4096 else b""
        finally:
            writer.close()
    if answer[:4] != _LOGIN[4:8]:  # no Kafka: it repeats the number of the question
        return None
    login = int.from_bytes(answer[4:6], "big") != IllegalSaslStateError.errno
    return ("SASL_" if login else "") + ("PLAINTEXT" if context is None else "SSL")


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
