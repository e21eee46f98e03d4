"""The components of the gateways against the code, and built on top of production, encrypted too."""

import shutil
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from app.local.layout import WAYS
from app.settings import Settings
from app.settings.exposed import refuse_exposed
from tests.deploy import programs
from tests.deploy.settings_named import unknown
from tests.deploy.test_k8s import (
    K8S,
    NOT_WANTED,
    SETTINGS,
    Document,
    base,
    built,
    container,
    find,
    literals,
    metrics_port,
    pod,
)

COMPONENTS = ["../../components/monitoring\n", *(f"../../components/{way}\n" for way in WAYS)]
each_way = pytest.mark.parametrize("way", WAYS)


@cache
def overlay(directory: Path, encrypted: bool) -> str:
    """A copy of production with all gateways in it, as k8s/README.md says."""
    shutil.copytree(K8S, directory / "k8s")
    mine = directory / "k8s" / "overlays" / "mine"
    shutil.copytree(K8S / "overlays" / "production", mine)
    text = (mine / "kustomization.yaml").read_text()
    more = [*COMPONENTS, *(["../../components/encryption\n"] if encrypted else [])]
    assert f"  - {COMPONENTS[0]}" in text
    (mine / "kustomization.yaml").write_text(
        text.replace(f"  - {COMPONENTS[0]}", "".join(f"  - {one}" for one in more))
    )
    return str(mine)


def given(way: str) -> dict[str, str]:
    """The variables of a gateway's pod, with the variables that all pods have."""
    own = {entry["name"]: entry.get("value", "") for entry in container(deployment(way)).get("env", [])}
    return {**literals(base()), **own}


def deployment(way: str) -> Document:
    return find("Deployment", f"iot-{way}")


def port(way: str) -> int:
    """Where it listens in its pod."""
    default = Settings.model_fields[f"{way}_port"].default
    return int(given(way).get(f"IOT_{way.upper()}_PORT", default))


@each_way
def test_probes_stop_and_ports(way: str) -> None:
    main = container(deployment(way))
    protocol = "UDP" if way == "quic" else "TCP"
    assert main["args"] == [way]
    assert main["ports"] == [
        {"name": "metrics", "containerPort": metrics_port(deployment(way))},
        {"name": way, "containerPort": port(way), "protocol": protocol},
    ]
    paths = {kind: main[kind]["httpGet"] for kind in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert {kind: (get["path"], get["port"]) for kind, get in paths.items()} == {
        "startupProbe": ("/live", "metrics"), "livenessProbe": ("/live", "metrics"),
        "readinessProbe": ("/ready", "metrics"),
    }  # fmt: skip
    (wait,) = main["lifecycle"]["preStop"]["exec"]["command"][1:]
    assert pod(deployment(way))["terminationGracePeriodSeconds"] > float(wait) + 2 * SETTINGS.shutdown_timeout


@each_way
def test_services_and_who_may_reach_them(way: str) -> None:
    labels = deployment(way)["spec"]["template"]["metadata"]["labels"]
    assert deployment(way)["spec"]["selector"]["matchLabels"] == labels
    assert find("PodDisruptionBudget", f"iot-{way}")["spec"]["selector"]["matchLabels"] == labels
    protocol = "UDP" if way == "quic" else "TCP"
    service, metrics = find("Service", f"iot-{way}"), find("Service", f"iot-{way}-metrics")
    assert service["spec"]["selector"] == metrics["spec"]["selector"] == labels
    assert service["spec"]["ports"] == [{"name": way, "port": port(way), "protocol": protocol, "targetPort": way}]
    served = metrics_port(deployment(way))
    assert metrics["spec"]["ports"] == [{"name": "metrics", "port": served, "targetPort": "metrics"}]
    assert metrics["metadata"]["labels"]["app.kubernetes.io/component"] == way, "the name of Prometheus' job"
    scraped = find("ServiceMonitor", "iot-stream")["spec"]["selector"]["matchLabels"]
    assert scraped.items() <= metrics["metadata"]["labels"].items()
    assert not scraped.items() <= service["metadata"]["labels"].items(), "each pod is scraped once"
    policy = find("NetworkPolicy", f"iot-{way}")["spec"]
    (rule,) = policy["ingress"]
    assert (policy["podSelector"]["matchLabels"], policy["policyTypes"]) == (labels, ["Ingress"])
    assert rule["ports"] == [{"port": port(way), "protocol": protocol}]
    assert ("from" in rule) == (service["spec"].get("type") != "LoadBalancer")
    if way == "quic":
        assert service["spec"]["sessionAffinity"] == "ClientIP", "the packets of a connection reach one pod"


@each_way
def test_nothing_is_open_in_plain_text(way: str) -> None:
    """The program itself would refuse to start: exit code 2."""
    variables = given(way)
    assert unknown(variables) == set()
    files = {
        name: value for name, value in variables.items() if name.startswith(f"IOT_{way.upper()}_") and "FILE" in name
    }
    volumes = {volume["name"]: volume for volume in pod(deployment(way))["volumes"]}
    mounts = {mount["mountPath"]: volumes[mount["name"]] for mount in container(deployment(way))["volumeMounts"]}
    for path in map(Path, files.values()):
        items = mounts[str(path.parent)]["secret"]["items"]
        assert path.name in {item["path"] for item in items}
    if files:
        items = mounts["/run/tls"]["secret"]["items"]
        assert {item["path"] for item in items} == {Path(value).name for value in files.values()}
    fields = {name.removeprefix("IOT_").lower(): value for name, value in variables.items() if name.startswith("IOT_")}
    made = Settings.model_construct(
        **{**{name: field.default for name, field in Settings.model_fields.items()}, **fields,
           "gateway_behind_proxy": fields.get("gateway_behind_proxy") == "true", f"{way}_port": port(way)}
    )  # fmt: skip
    refuse_exposed(made, [way])


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "encrypted"])
def test_built_on_top_of_production(tmp_path: Path, encrypted: bool) -> None:
    documents = built(overlay(tmp_path, encrypted))
    ours = {d["metadata"]["name"]: d for d in documents if d["kind"] == "Deployment"}
    assert set(ours) == {f"iot-{way}" for way in WAYS}
    image = {container(d)["image"] for d in documents if d["kind"] in ("Deployment", "StatefulSet")}
    assert len(image) == 1, "the overlay names it once"
    for document in documents:
        if document["apiVersion"] in ("apps/v1", "v1", "policy/v1", "networking.k8s.io/v1"):
            kubernetes_validate.validate(document, "1.30", strict=True)
    for document in ours.values():
        variables = {entry["name"]: entry.get("value", "") for entry in container(document)["env"]}
        assert unknown({name: value for name, value in variables.items() if name.startswith("IOT_")}) == set()
        mounted = {mount["mountPath"] for mount in container(document)["volumeMounts"]}
        files = [Path(value) for name, value in variables.items() if name.endswith("_FILE")]
        assert {str(file.parent) for file in files} <= mounted
        assert (variables.get("IOT_KAFKA_USERNAME") == "iot-gateway") == encrypted
    said = _scored(documents, tmp_path)
    assert said == []


def _scored(documents: tuple[dict[str, Any], ...], directory: Path) -> list[str]:
    file = directory / "all.yaml"
    file.write_text(yaml.safe_dump_all(documents))
    ignored = [word for one in NOT_WANTED for word in ("--ignore-test", one)]
    done = programs.run("kube-score", "score", "--ignore-container-cpu-limit", "--output-format", "ci", *ignored, file)
    assert done.stdout.count("[OK]") > 20
    return [line for line in done.stdout.splitlines() if line.startswith(("[CRITICAL]", "[WARNING]"))]
