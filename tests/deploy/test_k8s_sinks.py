"""The components of the sinks against the code, and built on top of production, encrypted too."""

import shutil
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from app.local.layout import SINKS
from tests.deploy import programs
from tests.deploy.settings_named import unknown
from tests.deploy.test_k8s import K8S, NOT_WANTED, Document, built, container, find, metrics_port, pod

NAMES = {sink: f"sink-{sink.replace('_', '-')}" for sink in SINKS}
SERVES = {"influx": 8086, "redis": 6379, "http_feed": 443, "grpc": 443}  # addresses of the servers in the components
each_sink = pytest.mark.parametrize("sink", SINKS)


def workload(sink: str) -> Document:
    return find("StatefulSet", f"iot-{NAMES[sink]}")


def given(document: Document) -> dict[str, str]:
    """The variables that a pod has by itself."""
    return {entry["name"]: entry.get("value", "") for entry in container(document)["env"]}


@each_sink
def test_each_pod_is_a_member_of_its_own(sink: str) -> None:
    own = {one["name"]: one.get("valueFrom") for one in container(workload(sink))["env"]}
    for name in ("IOT_SINK_CLIENT_ID", "IOT_SINK_INSTANCE_ID"):
        assert own[name] == {"fieldRef": {"fieldPath": "metadata.name"}}
    assert container(workload(sink))["args"] == ["sink", sink]
    labels = workload(sink)["spec"]["template"]["metadata"]["labels"]
    assert labels["app.kubernetes.io/component"] == NAMES[sink], "the name of Prometheus' job"
    service = find("Service", f"iot-{NAMES[sink]}")
    scraped = find("ServiceMonitor", "iot-stream")["spec"]["selector"]["matchLabels"]
    assert scraped.items() <= service["metadata"]["labels"].items()


@each_sink
def test_a_sink_may_reach_its_destination_and_no_pod_reaches_the_sink(sink: str) -> None:
    policy = find("NetworkPolicy", f"iot-{NAMES[sink]}")["spec"]
    labels = workload(sink)["spec"]["template"]["metadata"]["labels"]
    assert (policy["podSelector"]["matchLabels"], policy["policyTypes"]) == (labels, ["Egress"])
    (rule,) = policy["egress"]
    ports = {entry["port"] for entry in rule["ports"]}
    assert SERVES.get(sink, 443) in ports
    assert {entry["protocol"] for entry in rule["ports"]} == {"TCP"}
    addresses = [value for name, value in given(workload(sink)).items() if name.endswith(("_URL", "_TARGET"))]
    for address in addresses:
        port = int(address.partition("://")[2].partition("/")[0].rpartition(":")[2]) if address.count(":") > 1 else None
        assert (port or SERVES[sink]) in ports, address
    served = metrics_port(workload(sink))
    assert container(workload(sink))["ports"] == [{"name": "metrics", "containerPort": served}]
    (entry,) = find("Service", f"iot-{NAMES[sink]}")["spec"]["ports"]
    assert entry["port"] == served


def test_files_are_on_a_volume_that_outlives_the_pod() -> None:
    spec = workload("parquet")["spec"]
    (claim,) = spec["volumeClaimTemplates"]
    mounts = {mount["name"]: mount["mountPath"] for mount in container(workload("parquet"))["volumeMounts"]}
    assert Path(given(workload("parquet"))["IOT_PARQUET_DIR"]).is_relative_to(mounts[claim["metadata"]["name"]])
    assert spec["replicas"] == 1, "a second pod would not see the files of the first, which say where to go on"
    assert set(spec["persistentVolumeClaimRetentionPolicy"].values()) == {"Retain"}


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "encrypted"])
def test_built_on_top_of_production(tmp_path: Path, encrypted: bool) -> None:
    shutil.copytree(K8S, tmp_path / "k8s")
    mine = tmp_path / "k8s" / "overlays" / "mine"
    shutil.copytree(K8S / "overlays" / "production", mine)
    before = "  - ../../components/monitoring\n"
    more = ["external-secrets-sinks", *NAMES.values(), *(["encryption"] if encrypted else [])]
    text = (mine / "kustomization.yaml").read_text()
    assert before in text
    named = "".join(f"  - ../../components/{name}\n" for name in more)
    image = "  - {name: iot-stream, newName: registry.example.com/iot-stream, newTag: 0.1.0}\n"
    assert image in text
    text = text.replace(image, image + image.replace("iot-stream,", "iot-stream-sinks,"))
    (mine / "kustomization.yaml").write_text(text.replace(before, before + named))
    documents = built(str(mine))
    ours = {d["metadata"]["name"]: d for d in documents if d["metadata"]["name"].startswith("iot-sink-")}
    assert set(ours) == {f"iot-{name}" for name in NAMES.values()}
    sets = [d for d in documents if d["kind"] == "StatefulSet" and d["metadata"]["name"] in ours]
    assert {container(d)["image"].partition(":")[0] for d in sets} == {"registry.example.com/iot-stream-sinks"}
    others = [d for d in documents if d["kind"] == "StatefulSet" and d not in sets]
    assert {container(d)["image"].partition(":")[0] for d in others} == {"registry.example.com/iot-stream"}
    for document in documents:
        if document["apiVersion"] in ("apps/v1", "v1", "policy/v1", "networking.k8s.io/v1"):
            kubernetes_validate.validate(document, "1.30", strict=True)
    secrets = {d["spec"]["target"]["name"] for d in documents if d["kind"] == "ExternalSecret"} | {"iot-stream-kafka"}
    for document in sets:
        variables = given(document)
        assert unknown({name: value for name, value in variables.items() if name.startswith("IOT_")}) == set()
        mounted = {mount["mountPath"] for mount in container(document)["volumeMounts"]}
        assert {str(Path(value).parent) for name, value in variables.items() if name.endswith("_FILE")} <= mounted
        assert {v["secret"]["secretName"] for v in pod(document)["volumes"] if "secret" in v} <= secrets
        assert (variables.get("IOT_KAFKA_USERNAME") == "iot-sink") == encrypted
    _nothing_is_said_of(documents, tmp_path)


def _nothing_is_said_of(documents: tuple[Document, ...], directory: Path) -> None:
    """By kube-score."""
    file = directory / "all.yaml"
    file.write_text(yaml.safe_dump_all(documents))
    ignored = [word for one in NOT_WANTED for word in ("--ignore-test", one)]
    done = programs.run("kube-score", "score", "--ignore-container-cpu-limit", "--output-format", "ci", *ignored, file)
    assert done.stdout.count("[OK]") > 20
    assert [line for line in done.stdout.splitlines() if line.startswith(("[CRITICAL]", "[WARNING]"))] == []
