"""TLS, client certificates and every login, with a real Kafka: who gets in, and what those are told who do not.

One test, as it needs one broker that nobody else can use.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest
from faust.transport.drivers.aiokafka import credentials_to_aiokafka_auth

from deploy.doctor.kafka import check_kafka
from deploy.fleet import Fleet, FleetSpec
from deploy.kafka.broker import LocalBroker, Secure, _free_port
from deploy.letters import opened
from deploy.producing import produce
from schemas.settings import PREFIX, Settings
from sinks.kafka_client import BrokerRefused, client_config, wait_for_broker
from sinks.topics import ensure_topics
from streams.app import credentials
from tests.certificates import Authority
from tests.running import KEY, Site, WorkerProcess, environment

pytestmark = [pytest.mark.broker, pytest.mark.timeout(300)]

MECHANISMS: Final = ("SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN")
USER, PASSWORD, WRONG = "pingstream", "the-password-nobody-sees", "another-password-nobody-sees"
LAST_DAY = dt.date(2026, 3, 20)


class Cluster:
    """A broker with all kinds of listeners, and the settings of clients for each."""

    def __init__(self, folder: Path) -> None:
        self.authority = Authority(folder / "certificates")
        self.stranger = Authority(folder / "stranger")
        self.ports = {protocol: _free_port() for protocol in ("SASL_SSL", "SSL", "SASL_PLAINTEXT")}
        plain = f'org.apache.kafka.common.security.plain.PlainLoginModule required user_{USER}="{PASSWORD}";'
        scram = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
        properties: dict[str, str | int] = {
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(self.authority.issue("broker")),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(self.authority.ca_file),
            "listener.name.ssl.ssl.client.auth": "required",
            "listener.name.sasl_ssl.sasl.enabled.mechanisms": ",".join(MECHANISMS),
            "listener.name.sasl_ssl.plain.sasl.jaas.config": plain,
            "listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config": scram,
            "listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config": scram,
            "listener.name.sasl_plaintext.sasl.enabled.mechanisms": "PLAIN",
            "listener.name.sasl_plaintext.plain.sasl.jaas.config": plain,
        }
        users = [f"{mechanism}=[name={USER},password={PASSWORD}]" for mechanism in MECHANISMS[:2]]
        self.broker = LocalBroker(folder / "kafka", 0, secure=Secure(self.ports, properties, users))

    def flags(self, protocol: str, **more: str) -> dict[str, str]:
        """Settings of a client that may come in by this listener."""
        port = self.ports.get(protocol, self.broker.port)
        flags = {"kafka": f"127.0.0.1:{port}", "kafka_security_protocol": protocol}
        if protocol.startswith("SASL"):
            flags |= {"kafka_security_username": USER, "kafka_security_password": PASSWORD}
            flags |= {"kafka_security_mechanism": "PLAIN" if protocol == "SASL_PLAINTEXT" else "SCRAM-SHA-512"}
        if protocol.endswith("SSL"):
            flags |= {"kafka_security_ca_file": str(self.authority.ca_file)}
        if protocol == "SSL":
            flags |= {"kafka_security_cert_file": str(self.authority.issue("client"))}
        return flags | more


def settings(flags: dict[str, str], **more: Any) -> Settings:
    return Settings(_env_file=None, **flags, **more)  # type: ignore[arg-type]


def test_tls_certificates_and_logins(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path)
    with cluster.broker:
        doors = [
            *(cluster.flags("SASL_SSL", kafka_security_mechanism=mechanism) for mechanism in MECHANISMS),
            cluster.flags("SASL_PLAINTEXT"),
            cluster.flags("SSL"),
        ]
        for flags in doors:
            asyncio.run(every_client_gets_in(settings(flags, data_dir=tmp_path / "none")))
            same_for_faust(settings(flags))
        a_worker_drains(cluster, tmp_path)
        for flags, words in refusals(cluster):
            with pytest.raises(BrokerRefused) as caught:
                asyncio.run(wait_for_broker(settings(flags), patience=20))
            for word in words:
                assert word in str(caught.value), (flags, str(caught.value))
            assert PASSWORD not in str(caught.value) and WRONG not in str(caught.value)
        commands_end_with_a_sentence(cluster, tmp_path)


async def every_client_gets_in(checked: Settings) -> None:
    """The probe, the admin of topics, a producer, the doctor's consumer, the reader of dead letters."""
    await wait_for_broker(checked, patience=20)
    await ensure_topics(checked)
    messages = Fleet(FleetSpec(last_day=LAST_DAY, days=1, seed=1, installations=1, groups=0, users=2)).messages()
    assert sum((await produce(checked, [next(iter(messages))])).values()) == 1
    findings = [finding async for finding in check_kafka(checked)]
    assert not [finding for finding in findings if finding.state == "problem"], findings
    assert PASSWORD not in str(findings)
    async with opened(checked, print) as mail:
        assert mail.partitions["usage-pings.dlq"]


def same_for_faust(checked: Settings) -> None:
    """Faust's consumer and producer connect by what all others connect by."""
    ours = {name: value for name, value in client_config(checked).items() if name != "bootstrap_servers"}
    faust = dict(credentials_to_aiokafka_auth(credentials(checked)))
    assert (faust.pop("ssl_context", None) is None) == (ours.pop("ssl_context", None) is None)
    assert faust == ours


def a_worker_drains(cluster: Cluster, folder: Path) -> None:
    """Over TLS with a login; the password stands in a file, and neither in its log nor in the list of processes."""
    secret = folder / "password"
    secret.write_text(f"{PASSWORD}\n")
    site = Site(folder, cluster.broker)
    spec = FleetSpec(last_day=LAST_DAY, days=3, seed=3, installations=3, groups=1, users=3)
    sent = asyncio.run(produce(settings(cluster.flags("SASL_SSL")), Fleet(spec).messages()))
    flags = cluster.flags(
        "SASL_SSL", kafka_security_password=f"@{secret}", as_of=LAST_DAY.isoformat(), log_format="json"
    )
    with site.worker("--drain", **flags) as worker:
        listed = Path(f"/proc/{worker.pid}/cmdline")
        assert not listed.exists() or PASSWORD.encode() not in listed.read_bytes()
        assert worker.wait(120) == 0, worker.log()[-4000:]
        log = worker.log()
    assert PASSWORD not in log and KEY not in log
    its_log_tells_what_happened(log)
    with site.tables() as client:
        rows = client.query("SELECT count() FROM pingstream.usage_ping").result_rows
    # Each door has let the same ping in before; sent again, it is one.
    assert rows[0][0] >= sum(sent.values()) // 2


def its_log_tells_what_happened(log: str) -> None:
    """One line an event: with which settings it started, what it took over and recovered, why it ended and what was done."""
    lines = [json.loads(line) for line in log.splitlines()]
    told = {line["event"]: line for line in lines}
    assert {line["level"] for line in lines} == {"info"}, "nothing is said of what is as it should be"
    assert len(lines) <= 8
    starts = told["worker starts"]
    assert starts["settings"]["kafka_security_protocol"] == "SASL_SSL"
    assert starts["settings"].keys().isdisjoint({"kafka_security_password", "pseudonym_key"})
    assert told["worker started"]["partitions"] == {"usage-pings": 4, "billing-events": 4}
    assert told["partitions taken over"]["partitions"] == [0, 1, 2, 3]
    assert told["partitions taken over"].keys() >= {"topic", "recovered_records", "recovery_seconds"}
    ended = lines[-1]
    assert (ended["event"], ended["reason"]) == ("worker has ended", "drained")
    assert ended["messages"] > 0 and ended["rows"] > 0


def refusals(cluster: Cluster) -> list[tuple[dict[str, str], list[str]]]:
    """Settings that do not fit, and what the sentence has to say."""
    broker = f"127.0.0.1:{cluster.broker.port}"
    tls = f"127.0.0.1:{cluster.ports['SASL_SSL']}"
    return [
        (cluster.flags("SASL_SSL", kafka_security_password=WRONG), ["SECURITY_PASSWORD", "'pingstream'", "SCRAM-SHA-512"]),
        (cluster.flags("SASL_SSL", kafka_security_ca_file=str(cluster.stranger.ca_file)), ["SECURITY_CA_FILE"]),
        (cluster.flags("SASL_PLAINTEXT", kafka_security_mechanism="SCRAM-SHA-256"), ["SECURITY_MECHANISM"]),
        (cluster.flags("PLAINTEXT", kafka=tls), ["speaks SASL_SSL", "SECURITY_PROTOCOL=SASL_SSL"]),
        (cluster.flags("SASL_PLAINTEXT", kafka=tls), ["speaks SASL_SSL"]),
        (cluster.flags("SASL_SSL", kafka=broker), ["speaks PLAINTEXT", "SECURITY_PROTOCOL=PLAINTEXT"]),
        (cluster.flags("SASL_PLAINTEXT", kafka=broker), ["speaks PLAINTEXT"]),
        (cluster.flags("PLAINTEXT", kafka=f"127.0.0.1:{cluster.ports['SASL_PLAINTEXT']}"), ["speaks SASL_PLAINTEXT"]),
        (without(cluster.flags("SSL"), "kafka_security_cert_file"), ["SECURITY_CERT_FILE"]),
        (cluster.flags("SSL", kafka_security_cert_file=str(cluster.stranger.issue("client"))), ["SECURITY_CERT_FILE"]),
        (cluster.flags("SSL", kafka_security_cert_file=str(cluster.authority.ca_file)), ["our own certificate", "KEY_FILE"]),
        (cluster.flags("SSL", kafka_security_ca_file="/nowhere.pem"), ["CA certificates in /nowhere.pem"]),
    ]  # fmt: skip


def without(flags: dict[str, str], name: str) -> dict[str, str]:
    return {key: value for key, value in flags.items() if key != name}


def commands_end_with_a_sentence(cluster: Cluster, folder: Path) -> None:
    """A worker with 2, as a restart does not help; the doctor with 1; neither with the password."""
    variables = {
        PREFIX + name.upper(): value for name, value in cluster.flags("SASL_SSL", kafka_security_password=WRONG).items()
    }
    with WorkerProcess(["worker", "--data-dir=w"], folder, folder / "refused.log", variables=variables) as worker:
        assert worker.wait(60) == 2, worker.log()
        assert "PINGSTREAM_KAFKA_SECURITY_PASSWORD" in worker.log().splitlines()[-1]
        assert WRONG not in worker.log() and "Traceback" not in worker.log()
    doctor = subprocess.run(
        [sys.executable, "-m", "deploy.cli.main", "doctor", "--format=json", "--data-dir=none"],
        cwd=folder, env=environment() | variables, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert doctor.returncode == 1
    (problem,) = [finding for finding in json.loads(doctor.stdout) if finding["state"] == "problem"]
    assert "PINGSTREAM_KAFKA_SECURITY_PASSWORD" in problem["advice"]
    assert WRONG not in doctor.stdout + doctor.stderr
