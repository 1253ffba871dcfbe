"""The Helm chart: what it renders is Kubernetes, and is what the program, the settings, the alerts and the page say."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tomllib
from collections.abc import Hashable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from jsonschema import Draft7Validator

from deploy import chart
from deploy.cli.worker import WAIT_SECONDS
from schemas.settings import PREFIX, Settings
from sinks.topics import GROUP, SOURCES
from streams.worker import STOP_SECONDS
from tests.running import ROOT

OLDEST, NEWEST = "1.27", "1.37"
"""Versions of Kubernetes whose schemas are asked."""

OPERATORS = {"ServiceMonitor", "PrometheusRule", "ScaledObject", "TriggerAuthentication"}
"""Kinds that are not Kubernetes' own but of operators, whose schemas are not at hand."""

IN_A_POD = {
    "kafka": "kafka:9092",
    "data_dir": "/var/lib/pingstream",
    "web_host": "0.0.0.0",
    "replication": 3,
    "log_format": "json",
}
"""Defaults that are not the program's."""

OTHER = {
    "kafka": "a.kafka:9093,b.kafka:9093,c.kafka:9094",
    "kafka_security_protocol": "SASL_SSL",
    "kafka_security_mechanism": "SCRAM-SHA-256",
    "kafka_security_username": "worker",
    "clickhouse_replicated": True,
    "clickhouse_cluster": "replicas",
    "database": "usage",
    "data_dir": "/data",
    "secrets_dir": "/secrets",
    "as_of": "2026-11-20",
    "saas_hostnames": ["gitlab.com", "staging.gitlab.com"],
    "reporting_currency": "EUR",
    "web_host": "::",
    "web_port": 9100,
    "flush_seconds": 1.5,
    "retention": 34560000000,
    "partitions": 12,
    "replication": 2,
    "max_message_bytes": 16777216,
    "log_format": "text",
}
"""Every setting, and none as it is by default."""

VALUES: Mapping[str, dict[str, Any]] = {
    "defaults": {},
    "smallest": {
        "replicas": 1,
        "settings": {"kafka": "kafka:9092", "replication": 1},
        "persistence": {"enabled": False},
        "networkPolicy": {"enabled": False},
        "podDisruptionBudget": {"enabled": False},
        "serviceAccount": {"create": False},
        "topologySpread": [],
    },
    "everything": {
        "fullnameOverride": "figures",
        "image": {
            "repository": "registry.example.com/pingstream",
            "digest": f"sha256:{'0' * 64}",
            "pullSecrets": ["registry"],
        },
        "settings": OTHER,
        "secrets": {name: {"value": f"{name} that nobody knows"} for name in chart.groups()["secrets"]}
        | {"clickhouse": {"value": "https://me:secret@clickhouse:8443"}},
        "files": {name: {"existingSecret": "certificates"} for name in chart.groups()["files"]},
        "persistence": {"storageClass": "fast", "annotations": {"a": "b"}, "whenScaled": "Delete"},
        "tmp": {"medium": "Memory"},
        "serviceAccount": {"annotations": {"a": "b"}},
        "networkPolicy": {
            "metrics": {"from": [{"namespaceSelector": {"matchLabels": {"name": "monitoring"}}}]},
            "dns": {"to": [{"namespaceSelector": {"matchLabels": {"name": "kube-system"}}}]},
            "kafka": {"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]},
            "clickhouse": {"to": [{"podSelector": {"matchLabels": {"app": "clickhouse"}}}], "ports": [8443]},
        },
        "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
        "prometheusRule": {"enabled": True, "labels": {"release": "prometheus"}},
        "keda": {"enabled": True, "maxReplicas": 12, "lagThreshold": 2000000},
        "extraArgs": ["--new-pseudonym-key"],
        "extraEnv": [{"name": "TZ", "value": "UTC"}],
        "podAnnotations": {"a": "b"},
        "podLabels": {"team": "figures"},
        "priorityClassName": "high",
        "nodeSelector": {"disk": "fast"},
        "tolerations": [{"key": "dedicated", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
    },
    "the page's example": yaml.safe_load(
        re.search(r"```yaml\n# pingstream.yaml\n(.*?)```", chart.PAGE.read_text(), re.DOTALL)[1]  # type: ignore[index]
    ),
    "existing secrets": {
        "persistence": {"enabled": False},
        "settings": {"kafka_security_protocol": "SASL_PLAINTEXT", "kafka_security_username": "worker"},
        "secrets": {"kafka_security_password": {"existingSecret": "kafka-user", "key": "password"}},
        "keda": {"enabled": True},
    },
}


def helm() -> str | None:
    """The helm that `make helm` has built, else one on the PATH of the same major version, else None."""
    wanted = re.search(r"^HELM_VERSION := (\S+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert wanted is not None
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    built = cache / "pingstream" / f"helm-{wanted[1]}" / "helm"
    if built.exists():
        return str(built)
    found = shutil.which("helm")
    if found is None:
        return None
    version = subprocess.run(
        [found, "version", "--short"], capture_output=True, text=True, timeout=60, check=True
    ).stdout
    return found if version.split(".")[0] == wanted[1].split(".")[0] else None


with_helm = pytest.mark.skipif(helm() is None, reason="helm is not here (make helm)")


def run(command: str, *arguments: str, values: Mapping[str, Any]) -> subprocess.CompletedProcess[str]:
    """Runs helm on the chart, with values on its standard input."""
    program = helm()
    assert program is not None
    line = [program, command, *arguments, str(chart.CHART), "--kube-version", NEWEST, "--values", "-"]
    return subprocess.run(line, input=json.dumps(values), capture_output=True, text=True, timeout=60, check=False)


@cache
def rendered(name: str) -> dict[str, dict[str, Any]]:
    """What a set of values makes, by kind: one object of each."""
    done = run("template", "live", "--namespace", "x", values=VALUES[name])
    assert done.returncode == 0, done.stderr
    objects = [each for each in yaml.safe_load_all(done.stdout) if each is not None]
    found = {each["kind"]: each for each in objects}
    assert len(found) == len(objects)
    return found


def pod(name: str) -> dict[str, Any]:
    spec: dict[str, Any] = rendered(name)["StatefulSet"]["spec"]["template"]["spec"]
    return spec


def container(name: str) -> dict[str, Any]:
    [only] = pod(name)["containers"]
    return dict(only)


# ---- what needs no helm ------------------------------------------------------------------------------------------------


class UniqueKeys(yaml.SafeLoader):
    """Refuses a key that stands twice, of which YAML's loaders take the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [key.value for key, _ in node.value]
        assert len(keys) == len(set(keys)), f"{keys} in line {node.start_mark.line + 1}"
        return super().construct_mapping(node, deep)


def values() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.load((chart.CHART / "values.yaml").read_text(), UniqueKeys)
    return loaded


def test_every_setting_has_its_value() -> None:
    for group, names in chart.groups().items():
        assert sorted(values()[group]) == sorted(names), (
            f"{group} in values.yaml are the program's settings; then `make chart`"
        )
    assert set(OTHER) == set(chart.groups()["settings"])


def test_defaults_are_the_programs_but_for_those_of_a_pod() -> None:
    given = values()["settings"]
    own = {name: "" if (default := Settings.model_fields[name].default) is None else default for name in given}
    own = {name: str(default) if isinstance(default, Path) else default for name, default in own.items()}
    assert {name: value for name, value in given.items() if value != own[name]} == IN_A_POD


def test_what_follows_from_elsewhere_is_up_to_date() -> None:
    assert json.loads(chart.SCHEMA.read_text()) == chart.schema(), "make chart"
    there = {file.name: file.read_text() for file in (chart.CHART / "files" / "prometheus").iterdir()}
    assert there == chart.rules() and "alerts.yml" in there, "make chart"
    assert chart.PAGE.read_text() == chart.page(), "make chart"


def test_the_charts_version_is_the_programs() -> None:
    about = yaml.load((chart.CHART / "Chart.yaml").read_text(), UniqueKeys)
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert (about["version"], about["appVersion"]) == (version, version)


def test_the_schema_knows_every_value() -> None:
    schema = json.loads(chart.SCHEMA.read_text())
    Draft7Validator.check_schema(schema)
    Draft7Validator(schema).validate(values())
    for some in VALUES.values():
        Draft7Validator(schema).validate(some)


REFUSED_BY_SCHEMA: list[dict[str, Any]] = [
    {"replica": 2},
    {"replicas": "2"},
    {"settings": {"kafkas": "kafka:9092"}},
    {"settings": {"kafka": "kafka"}},
    {"settings": {"partitions": 0}},
    {"settings": {"partitions": "4"}},
    {"settings": {"flush_seconds": 61}},
    {"settings": {"log_format": "xml"}},
    {"settings": {"web_port": 0}},
    {"settings": {"web_host": "off"}},
    {"settings": {"data_dir": "data"}},
    {"settings": {"saas_hostnames": "gitlab.com"}},
    {"secrets": {"pseudonym_key": "in the wrong place"}},
    {"secrets": {"clickhouse": {"existingSecret": "Not A Name"}}},
    {"files": {"kafka_security_ca_file": {"secret": "x"}}},
    {"persistence": {"size": "8 GB"}},
    {"probes": {"liveness": {"path": "/readyz"}}},
    {"terminationGracePeriodSeconds": 3},
    {"keda": {"minReplicas": 0}},
    {"networkPolicy": {"clickhouse": {"ports": ["http"]}}},
    {"image": {"tag": 1.0}},
]


@pytest.mark.parametrize("given", REFUSED_BY_SCHEMA, ids=json.dumps)
def test_the_schema_refuses(given: dict[str, Any]) -> None:
    schema = Draft7Validator(json.loads(chart.SCHEMA.read_text()))
    assert len(list(schema.iter_errors(given))) == 1


def test_kubernetes_is_more_patient_than_the_program() -> None:
    probes = values()["probes"]
    assert values()["terminationGracePeriodSeconds"] > 2 * STOP_SECONDS
    assert probes["startup"]["periodSeconds"] * probes["startup"]["failureThreshold"] > 2 * WAIT_SECONDS
    assert probes["liveness"]["periodSeconds"] * probes["liveness"]["failureThreshold"] >= 60


# ---- what helm makes of it ---------------------------------------------------------------------------------------------


@with_helm
def test_lint() -> None:
    for some in VALUES.values():
        done = run("lint", "--strict", values=some)
        assert done.returncode == 0, done.stdout


@with_helm
@pytest.mark.parametrize("name", VALUES)
def test_every_object_is_one_of_kubernetes(name: str) -> None:
    for kind, each in rendered(name).items():
        if kind not in OPERATORS:
            for version in (OLDEST, NEWEST) if name == "everything" else (NEWEST,):
                kubernetes_validate.validate(each, version, strict=True)


@with_helm
def test_which_objects_there_are() -> None:
    always = {"StatefulSet", "Service"}
    usual = always | {"ServiceAccount", "PodDisruptionBudget", "NetworkPolicy"}
    assert set(rendered("defaults")) == usual
    assert set(rendered("smallest")) == always
    assert set(rendered("the page's example")) == usual | {"ServiceMonitor", "PrometheusRule"}
    assert set(rendered("existing secrets")) == usual | {"ScaledObject", "TriggerAuthentication"}
    assert set(rendered("everything")) == usual | OPERATORS | {"Secret"}


@with_helm
@pytest.mark.parametrize("name", VALUES)
def test_the_program_reads_its_settings_from_the_environment(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    made = rendered(name).get("Secret", {}).get("stringData", {})
    for entry in container(name)["env"]:
        value = entry.get("value")
        if value is None:
            reference = entry["valueFrom"]["secretKeyRef"]
            of_ours = reference["name"] == "figures"
            value = made[reference["key"]] if of_ours else f"https://{reference['name']}/{reference['key']}"
        monkeypatch.setenv(entry["name"], value)
    settings = Settings()
    wanted = values()["settings"] | VALUES[name].get("settings", {})
    for setting, value in wanted.items():
        found = getattr(settings, setting)
        assert (found if isinstance(found, list | int | float) else str(found or "")) == value, setting
    assert settings.pseudonym_key is not None and len(settings.pseudonym_key.get_secret_value()) >= 16
    assert settings.embedded_path is None


@with_helm
def test_every_setting_can_be_given() -> None:
    given = [entry["name"] for entry in container("everything")["env"] if entry["name"].startswith(PREFIX)]
    assert sorted(given) == sorted(f"{PREFIX}{name.upper()}" for name in Settings.model_fields)
    secret = rendered("everything")["Secret"]
    for entry in container("everything")["env"]:
        name = entry["name"].removeprefix(PREFIX).lower()
        if name in chart.groups()["secrets"]:
            assert entry["valueFrom"]["secretKeyRef"] == {"name": "figures", "key": name}
            assert secret["stringData"][name] not in json.dumps(rendered("everything")["StatefulSet"])
    assert secret["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}


@with_helm
@pytest.mark.parametrize("name", VALUES)
def test_parts_fit_together(name: str) -> None:
    objects = rendered(name)
    spec, worker = pod(name), container(name)
    labels = objects["StatefulSet"]["spec"]["template"]["metadata"]["labels"].items()
    selectors = [objects["StatefulSet"]["spec"]["selector"]["matchLabels"], objects["Service"]["spec"]["selector"]]
    if "NetworkPolicy" in objects:
        selectors += [
            objects["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"],
            objects["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
        ]
    assert all(selector.items() <= labels and len(selector) == 3 for selector in selectors)
    claims = {claim["metadata"]["name"] for claim in objects["StatefulSet"]["spec"].get("volumeClaimTemplates", [])}
    volumes = {volume["name"] for volume in spec["volumes"]}
    assert claims | volumes == {mount["name"] for mount in worker["volumeMounts"]} and not claims & volumes

    wanted = values()["settings"] | VALUES[name].get("settings", {})
    [port] = worker["ports"]
    assert (port["name"], port["containerPort"]) == ("web", wanted["web_port"])
    paths = {kind: worker[f"{kind}Probe"]["httpGet"] for kind in ("startup", "readiness", "liveness")}
    assert {kind: get["path"] for kind, get in paths.items()} == {
        "startup": "/healthz",
        "readiness": "/readyz",
        "liveness": "/healthz",
    }
    assert {get["port"] for get in paths.values()} == {"web"}
    mounts = [mount["mountPath"] for mount in worker["volumeMounts"] if mount["name"] == "data"]
    assert mounts == [wanted["data_dir"]]
    assert objects["StatefulSet"]["spec"]["serviceName"] == objects["Service"]["metadata"]["name"]
    assert worker["args"][0] == "worker"


@with_helm
@pytest.mark.parametrize("name", VALUES)
def test_pods_are_restricted(name: str) -> None:
    """The Pod Security Standard `restricted`, and more: no token, nothing to write but volumes."""
    spec, worker = pod(name), container(name)
    assert spec["securityContext"]["runAsNonRoot"] and spec["securityContext"]["runAsUser"] == 10001
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert worker["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert spec["automountServiceAccountToken"] is False and spec["enableServiceLinks"] is False
    assert all(mount["readOnly"] for mount in worker["volumeMounts"] if mount["name"] not in {"data", "tmp"})
    assert all(set(volume) <= {"name", "emptyDir", "secret"} for volume in spec["volumes"])


@with_helm
def test_the_pod_suits_the_image() -> None:
    image = (ROOT / "deploy" / "image" / "Dockerfile").read_text().rpartition("\nFROM ")[2]
    said = dict(re.findall(r"([A-Z_]+)=(\S+)", image)) | dict(re.findall(r"^([A-Z]+) (.+)$", image, re.MULTILINE))
    worker, security = container("defaults"), pod("defaults")["securityContext"]
    mounts = {mount["mountPath"] for mount in worker["volumeMounts"]}
    assert (
        said["USER"] == f"{security['runAsUser']}:{security['runAsGroup']}"
        and security["fsGroup"] == security["runAsGroup"]
    )
    assert said["PINGSTREAM_DATA_DIR"] in mounts and str(Path(said["NUMBA_CACHE_DIR"]).parent) in mounts
    assert int(said["EXPOSE"]) == worker["ports"][0]["containerPort"]
    assert json.loads(said["CMD"]) == worker["args"] and "command" not in worker


@with_helm
def test_the_network_policy_lets_through_what_is_needed() -> None:
    def ports(name: str) -> list[list[Any]]:
        return [[port["port"] for port in rule["ports"]] for rule in rendered(name)["NetworkPolicy"]["spec"]["egress"]]

    assert ports("defaults") == [[53, 53], [9092], [8123, 8443]]
    assert ports("everything") == [[53, 53], [9093, 9094], [8443]]
    assert all("to" in rule for rule in rendered("everything")["NetworkPolicy"]["spec"]["egress"])
    [ingress] = rendered("everything")["NetworkPolicy"]["spec"]["ingress"]
    assert ingress["ports"] == [{"port": "web", "protocol": "TCP"}] and "from" in ingress


@with_helm
def test_workers_follow_the_lag_of_both_topics() -> None:
    scaled = rendered("everything")["ScaledObject"]["spec"]
    assert [trigger["metadata"]["topic"] for trigger in scaled["triggers"]] == list(SOURCES)
    for trigger in scaled["triggers"]:
        about = trigger["metadata"]
        assert all(isinstance(value, str) for value in about.values())
        assert (about["consumerGroup"], about["lagThreshold"]) == (GROUP, "2000000")
        assert (about["bootstrapServers"], about["sasl"], about["tls"]) == (OTHER["kafka"], "scram_sha256", "enable")
        assert trigger["authenticationRef"] == {"name": "figures"}
    assert "replicas" not in rendered("everything")["StatefulSet"]["spec"]
    assert scaled["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "figures"}
    login = rendered("everything")["TriggerAuthentication"]["spec"]
    names = {entry["name"] for entry in container("everything")["env"]}
    assert {entry["name"] for entry in login["env"]} <= names
    assert {"parameter": "ca", "name": "certificates", "key": "ca.crt"} in login["secretTargetRef"]
    [password] = rendered("existing secrets")["TriggerAuthentication"]["spec"]["secretTargetRef"]
    assert password == {"parameter": "password", "name": "kafka-user", "key": "password"}


@with_helm
def test_prometheus_gets_the_workers_and_the_rules(tmp_path: Path) -> None:
    objects = rendered("everything")
    monitor = objects["ServiceMonitor"]["spec"]
    assert monitor["selector"]["matchLabels"].items() <= objects["Service"]["metadata"]["labels"].items()
    [endpoint] = monitor["endpoints"]
    assert (
        endpoint["port"] in {port["name"] for port in objects["Service"]["spec"]["ports"]}
        and endpoint["path"] == "/metrics"
    )
    assert endpoint["authorization"]["credentials"] == {"name": "figures", "key": "web_token"}
    assert objects["Service"]["spec"]["publishNotReadyAddresses"]
    spec = objects["PrometheusRule"]["spec"]
    assert spec["groups"] == [group for text in chart.rules().values() for group in yaml.safe_load(text)["groups"]]
    if shutil.which("promtool") is not None:
        (tmp_path / "rules.yml").write_text(yaml.safe_dump(spec))
        line = ["promtool", "check", "rules", str(tmp_path / "rules.yml")]
        done = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


@with_helm
@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"settings": {"partitions": "4"}}, "settings.partitions"),
        ({"secrets": {"pseudonym_key": {"existingSecret": ""}}}, "secrets.pseudonym_key needs"),
        ({"secrets": {"clickhouse": {"existingSecret": ""}}}, "secrets.clickhouse needs"),
        ({"secrets": {"clickhouse": {"value": "chdb:///x"}}}, "secrets.clickhouse needs"),
        (
            {"settings": {"kafka_security_protocol": "SASL_SSL"}},
            "kafka_security_username and secrets.kafka_security_password",
        ),
        ({"serviceMonitor": {"enabled": True}, "secrets": {"web_token": {"existingSecret": ""}}}, "secrets.web_token"),
        ({"keda": {"minReplicas": 5}}, "keda.maxReplicas"),
    ],
    ids=json.dumps,
)
def test_helm_refuses(given: dict[str, Any], words: str) -> None:
    done = run("template", "live", values=given)
    assert done.returncode != 0 and words in done.stderr.replace("/", "."), done.stderr
