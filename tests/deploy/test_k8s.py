"""k8s/ against the code: commands, settings, ports, probes, secrets, rights; and built, where kubectl is."""

import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from app.cli.main import COMMANDS
from app.local.layout import SINKS, WAYS
from app.settings import Settings
from app.settings.process import METRICS_PORTS
from tests.deploy import compose, dashboards, programs
from tests.deploy.settings_named import refused, unknown
from tools.documents import ROOT

K8S = ROOT / "k8s"
SETTINGS = Settings(_env_file=None)
Document = dict[str, Any]
DOCUMENTS: list[Document] = [
    {"_file": path, **document}
    for path in sorted(K8S.rglob("*.yaml"))
    for document in yaml.safe_load_all(path.read_text())
]
KUSTOMIZATIONS = [d for d in DOCUMENTS if d["_file"].name == "kustomization.yaml"]
WORKLOADS = [d for d in DOCUMENTS if d["kind"] in ("StatefulSet", "Deployment", "Job", "CronJob")]
OVERLAYS = ["local", "production"]


def name_of(document: Document) -> str:
    return f"{document['kind']} {document.get('metadata', {}).get('name', document['_file'].parent.name)}"


def find(kind: str, name: str) -> Document:
    (found,) = [d for d in DOCUMENTS if (d["kind"], d.get("metadata", {}).get("name")) == (kind, name)]
    return found


def pod(workload: Document) -> Document:
    found: Document = workload["spec"].get("jobTemplate", workload)["spec"]["template"]["spec"]
    return found


def metrics_port(workload: Document) -> int:
    """Where the program of a pod serves its metrics: at its own port, which the pod names, as the image has another."""
    main = container(workload)
    own = METRICS_PORTS["-".join(main["args"])]
    given = {entry["name"]: entry.get("value") for entry in main["env"]}
    assert int(given.get("IOT_METRICS_PORT", SETTINGS.metrics_port)) == own
    return own


def container(workload: Document) -> Document:
    (found,) = pod(workload)["containers"]
    return dict(found)


OURS = [workload for workload in WORKLOADS if container(workload)["image"] in ("iot-stream", "iot-stream-sinks")]
SERVERS = [workload for workload in WORKLOADS if workload not in OURS]
PROGRAMS = [workload for workload in OURS if workload["kind"] == "StatefulSet"]
each_workload = pytest.mark.parametrize("workload", WORKLOADS, ids=name_of)
each_of_ours = pytest.mark.parametrize("workload", OURS, ids=name_of)
each_program = pytest.mark.parametrize("workload", PROGRAMS, ids=name_of)


def literals(kustomization: Document) -> dict[str, str]:
    """The settings a kustomization gives."""
    (generator,) = [g for g in kustomization.get("configMapGenerator", []) if g["name"] == "iot-stream"]
    return dict(line.split("=", 1) for line in generator["literals"])


@pytest.mark.parametrize("kustomization", KUSTOMIZATIONS, ids=name_of)
def test_every_file_is_part_of_something(kustomization: Document) -> None:
    directory = kustomization["_file"].parent
    listed = kustomization.get("resources", []) + kustomization.get("components", [])
    assert [entry for entry in listed if not (directory / entry).exists()] == []
    present = {path.name for path in directory.glob("*.yaml")} - {"kustomization.yaml"}
    assert present == {entry for entry in listed if "/" not in entry}


@each_workload
def test_pod_security_restricted(workload: Document) -> None:
    spec, security = pod(workload), container(workload)["securityContext"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert (security["allowPrivilegeEscalation"], security["capabilities"]) == (False, {"drop": ["ALL"]})
    assert not any(spec.get(key) for key in ("hostNetwork", "hostPID", "hostIPC"))
    assert not [volume for volume in spec.get("volumes", []) if "hostPath" in volume]
    assert spec["automountServiceAccountToken"] is False


@each_workload
def test_resources(workload: Document) -> None:
    resources = container(workload)["resources"]
    assert set(resources["requests"]) >= {"cpu", "memory"}
    assert "memory" in resources["limits"]


@each_of_ours
def test_commands_and_settings(workload: Document) -> None:
    args = container(workload)["args"]
    assert args[0] in COMMANDS
    given = {entry["name"]: entry.get("value", "") for entry in container(workload).get("env", [])}
    assert unknown(given) == set()
    assert refused({name: value for name, value in given.items() if value}) == []
    assert container(workload)["securityContext"]["readOnlyRootFilesystem"] is True
    keys = {
        e["valueFrom"]["configMapKeyRef"]["key"] for e in container(workload).get("env", []) if e["name"] == "DATABASE"
    }
    assert keys <= set(literals(base()))


def base() -> Document:
    (found,) = [d for d in KUSTOMIZATIONS if d["_file"].parent.name == "base"]
    return found


@pytest.mark.parametrize("directory", ["base", "production"])
def test_config_maps_hold_settings(directory: str) -> None:
    (kustomization,) = [d for d in KUSTOMIZATIONS if d["_file"].parent.name == directory]
    given = {**literals(base()), **literals(kustomization)}
    assert unknown(given) == set()
    assert refused(given) == []
    assert {name for name in given if not name.startswith("IOT_")} == {"DATABASE", "DATABASE_ADMIN"}
    assert [name for name in given if "PASSWORD" in name] == []
    bridge = compose.services()["bridge"]["environment"]["IOT_BRIDGE_FILTERS"]
    assert yaml.safe_load(given["IOT_BRIDGE_FILTERS"]) == yaml.safe_load(bridge)


@each_program
def test_probes_and_the_time_to_stop(workload: Document) -> None:
    main = container(workload)
    assert main["ports"] == [{"name": "metrics", "containerPort": metrics_port(workload)}]
    paths = {kind: main[kind]["httpGet"] for kind in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert {kind: get["path"] for kind, get in paths.items()} == {
        "startupProbe": "/live", "livenessProbe": "/live", "readinessProbe": "/ready",
    }  # fmt: skip
    assert {get["port"] for get in paths.values()} == {"metrics"}
    assert pod(workload)["terminationGracePeriodSeconds"] > SETTINGS.shutdown_timeout + SETTINGS.database_timeout


@each_program
def test_spread_budget_and_service(workload: Document) -> None:
    labels = workload["spec"]["template"]["metadata"]["labels"]
    assert workload["spec"]["selector"]["matchLabels"] == labels
    spread = pod(workload)["topologySpreadConstraints"]
    assert {one["topologyKey"] for one in spread} == {"topology.kubernetes.io/zone", "kubernetes.io/hostname"}
    assert all(one["labelSelector"]["matchLabels"] == labels for one in spread)
    name = workload["metadata"]["name"]
    assert find("PodDisruptionBudget", name)["spec"]["selector"]["matchLabels"] == labels
    service = find("Service", name)["spec"]
    assert service["selector"] == labels
    assert workload["spec"]["serviceName"] == name
    assert service["ports"][0]["port"] == metrics_port(workload)


def test_the_state_has_a_volume_where_the_image_puts_it() -> None:
    worker = find("StatefulSet", "iot-worker")
    (claim,) = worker["spec"]["volumeClaimTemplates"]
    (path,) = [m["mountPath"] for m in container(worker)["volumeMounts"] if m["name"] == claim["metadata"]["name"]]
    assert f"IOT_STATE_DIR={path}" in (ROOT / "Dockerfile").read_text()


# --- secrets ---------------------------------------------------------------------------------------------------------


def secrets_of(workload: Document) -> dict[str, str]:
    """File -> the secret it comes from, without certificates: tests/deploy/test_k8s_gateways.py."""
    volumes = [volume["secret"] for volume in pod(workload).get("volumes", []) if "secret" in volume]
    volumes = [secret for secret in volumes if secret["secretName"] != "iot-stream-tls"]
    items = [item for secret in volumes for item in secret.get("items", [])]
    assert [item for item in items if item["key"] != item["path"]] == []
    return {item["path"]: secret["secretName"] for secret in volumes for item in secret.get("items", [])}


@each_of_ours
def test_each_gets_the_passwords_it_reads_and_no_other(workload: Document) -> None:
    files = {
        Path(entry["value"])
        for entry in container(workload).get("env", [])
        if entry["name"].endswith(("PASSWORD_FILE", "TOKEN_FILE"))
    }
    assert {path.parent for path in files} <= {Path("/run/secrets")}
    assert {path.name for path in files} == set(secrets_of(workload))
    external = {
        (d["spec"]["target"]["name"], entry["secretKey"])
        for d in DOCUMENTS
        if d["kind"] == "ExternalSecret"
        for entry in d["spec"]["data"]
    }
    script = (K8S / "scripts" / "setup_local.sh").read_text()
    for key, secret in secrets_of(workload).items():
        assert (secret, key) in external
        assert re.search(rf"^secret {secret} (.*\\\n)?.*\b{key}\b", script, re.MULTILINE)
        assert key in compose.config()["secrets"], "scripts/secrets makes it"


def test_only_what_makes_tables_or_accounts_has_the_owners_password() -> None:
    owners = {name_of(w) for w in OURS if "postgres_password" in secrets_of(w)}
    assert owners == {"Job iot-schema", "CronJob iot-load"}


# --- what leans on names of the code ---------------------------------------------------------------------------------


def test_scaling() -> None:
    spec = find("ScaledObject", "iot-worker")["spec"]
    triggers = {trigger["name"]: trigger["metadata"] for trigger in spec["triggers"]}
    assert triggers["lag"]["consumerGroup"] == SETTINGS.group_id
    assert triggers["lag"]["topic"] == SETTINGS.kafka_topic
    assert spec["maxReplicaCount"] == SETTINGS.kafka_partitions
    formula = spec["advanced"]["scalingModifiers"]
    assert set(re.findall(r"[a-z]+", formula["formula"])) == set(triggers)
    assert f"workers * {formula['target']}" in formula["formula"], "as many as there are, when the database is slow"
    behavior = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    assert (
        behavior["scaleDown"]["stabilizationWindowSeconds"] >= 1800 > behavior["scaleUp"]["stabilizationWindowSeconds"]
    )
    queries = " ".join(trigger.get("query", "") for trigger in triggers.values())
    series = set(re.findall(r"\b(?:iot|db)_\w+", queries))
    assert series
    assert series <= set(compose.exposed())


def test_copies_are_the_originals() -> None:
    alerts = yaml.safe_load((ROOT / "deploy" / "prometheus" / "alerts.yml").read_text())
    assert find("PrometheusRule", "iot-stream")["spec"] == alerts
    images = {service["image"] for service in compose.services().values()}
    assert {container(workload)["image"] for workload in SERVERS} <= images


def test_the_cluster_on_this_machine_is_watched() -> None:
    """The alerts and the dashboard find their files; each program is scraped under the name the alerts have for it."""
    (config,) = [d["data"]["prometheus.yml"] for d in DOCUMENTS if d.get("metadata", {}).get("name") == "prometheus"
                 and d["kind"] == "ConfigMap"]  # fmt: skip
    jobs = {job["job_name"]: job for job in yaml.safe_load(config)["scrape_configs"]}
    for job in ("worker", "bridge", "notifier", *WAYS, *(f"sink-{sink.replace('_', '-')}" for sink in SINKS)):
        (found,) = jobs[job]["dns_sd_configs"]
        service = find("Service", found["names"][0])
        assert service["spec"]["clusterIP"] == "None", "so that its name is that of each pod"
        assert service["metadata"]["labels"]["app.kubernetes.io/component"] == job
        assert found["port"] == METRICS_PORTS[job.replace("http-feed", "http_feed")]
    script = (K8S / "scripts" / "setup_local.sh").read_text()
    files: set[str] = set()
    for path in re.findall(r"--from-file=(deploy/(?:prometheus|grafana)[\w/.-]*)", script):
        files |= {one.name for one in (ROOT / path).iterdir()} if (ROOT / path).is_dir() else {Path(path).name}
    mounts = container(find("StatefulSet", "grafana"))["volumeMounts"]
    assert {mount["subPath"] for mount in mounts if "subPath" in mount} == files - {"alerts.yml"}
    assert (ROOT / re.findall(r"receivers=(deploy/\S+)", script)[0]).exists()
    assert "alerts.yml" in files
    grafana = yaml.safe_load(
        (ROOT / "deploy" / "grafana" / "provisioning" / "dashboards" / "dashboards.yml").read_text()
    )
    (provider,) = grafana["providers"]
    paths = {f"{provider['options']['path']}/{name}.json" for name in dashboards.NAMES}
    assert paths <= {mount["mountPath"] for mount in mounts}
    assert {d["metadata"]["name"] for d in SERVERS} >= {
        "redpanda",
        "timescaledb",
        "emqx",
        "prometheus",
        "alertmanager",
        "grafana",
    }


def test_the_network_policy_lets_through_what_is_needed() -> None:
    spec = find("NetworkPolicy", "iot-stream")["spec"]
    out = {entry["port"] for rule in spec["egress"] for entry in rule["ports"]}
    assert {53, 9092, 9093, 5432, 6432, SETTINGS.mqtt_port, 8883, 4317, 4318} == out
    ((let_in,),) = [rule["ports"] for rule in spec["ingress"]]
    assert (let_in["port"], let_in["endPort"]) == (min(METRICS_PORTS.values()), max(METRICS_PORTS.values()))
    for kustomization in (d for d in KUSTOMIZATIONS if d["_file"].parent.name in ("base", "production")):
        given = {**literals(base()), **literals(kustomization)}
        ports = re.findall(
            r":(\d+)", " ".join(given[key] for key in ("IOT_KAFKA_BROKER", "DATABASE", "DATABASE_ADMIN"))
        )
        assert {*map(int, ports), int(given["IOT_MQTT_PORT"])} <= out


def test_pods_of_the_namespace_are_restricted() -> None:
    for document in (d for d in DOCUMENTS if d["kind"] == "Namespace"):
        assert document["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


def test_scripts_and_links() -> None:
    for script in (K8S / "scripts").iterdir():
        subprocess.run(["bash", "-n", str(script)], check=True, timeout=30)
        assert script.stat().st_mode & 0o111
    text = (K8S / "README.md").read_text()
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    assert links
    assert [link for link in links if not (K8S / link).exists()] == []


# --- built -----------------------------------------------------------------------------------------------------------


@cache
def built_text(directory: str) -> str:
    """What would be applied, as kustomize makes it; without it, as kubectl does, which has one inside."""
    if shutil.which("kubectl") and not programs.has("kustomize"):
        command = ["kubectl", "kustomize", directory]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    else:
        done = programs.run("kustomize", "build", directory)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def built(overlay: str) -> tuple[Document, ...]:
    """The objects of an overlay, named or by an absolute path."""
    return tuple(yaml.safe_load_all(built_text(str(K8S / "overlays" / overlay))))


def made_by_the_script(kind: str) -> set[str]:
    """Secrets or ConfigMaps that are in no file, being made of files of elsewhere."""
    script = (K8S / "scripts" / "setup_local.sh").read_text()
    return set(re.findall(rf"^(?:.*create )?{kind} (?:generic )?([a-z-]+) ", script, re.MULTILINE))


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_what_is_built_refers_to_what_is_built(overlay: str) -> None:
    documents = built(overlay)
    names = {(d["kind"], d["metadata"]["name"]) for d in documents}
    assert {d["metadata"].get("namespace", "iot-stream") for d in documents} == {"iot-stream"}
    secrets = {name for kind, name in names if kind == "ExternalSecret"} or made_by_the_script("secret")
    maps = {name for kind, name in names if kind == "ConfigMap"} | made_by_the_script("configmap")
    text = yaml.safe_dump([pod(d) for d in documents if d["kind"] in ("StatefulSet", "Job", "CronJob")])
    optional = set(re.findall(r"configMap:\n\s+name: (\S+)\n\s+optional: true", text))
    assert set(re.findall(r"configMap(?:Ref)?:\n\s+name: (\S+)", text)) - optional <= maps
    assert set(re.findall(r"configMapKeyRef:\n\s+key: \S+\n\s+name: (\S+)", text)) <= maps
    assert set(re.findall(r"secretName: (\S+)", text)) <= secrets
    scaled = {d["spec"]["scaleTargetRef"]["name"] for d in documents if d["kind"] == "ScaledObject"}
    without = {d["metadata"]["name"] for d in documents if d["kind"] == "StatefulSet" and "replicas" not in d["spec"]}
    assert without == scaled, "how many there are is the autoscaler's to say"


def test_the_cluster_on_this_machine_has_the_files_of_compose() -> None:
    data: dict[str, str] = {}
    for document in built("local"):
        data |= document.get("data", {}) if document["kind"] == "ConfigMap" else {}
    assert data["accounts.sql"] == (ROOT / "deploy" / "postgres" / "accounts.sql").read_text()
    assert data["emqx.conf"] == (ROOT / "deploy" / "emqx" / "emqx.conf").read_text()


def test_prometheus_may_ask_the_programs_on_this_machine() -> None:
    (policy,) = [d for d in built("local") if (d["kind"], d["metadata"]["name"]) == ("NetworkPolicy", "iot-stream")]
    (rule,) = policy["spec"]["ingress"]
    (asks,) = [one["podSelector"]["matchLabels"] for one in rule["from"] if "podSelector" in one]
    assert find("StatefulSet", "prometheus")["spec"]["template"]["metadata"]["labels"] == asks


def test_encrypted(tmp_path: Path) -> None:
    """components/encryption on top of production: every program finds its files, and only its own password."""
    shutil.copytree(K8S, tmp_path / "k8s")
    overlay = tmp_path / "k8s" / "overlays" / "encrypted"
    overlay.mkdir()
    (overlay / "kustomization.yaml").write_text(
        "resources: [../production]\ncomponents: [../../components/encryption]\nnamespace: iot-stream\n"
    )
    documents = built(str(overlay))
    (shared,) = [d["data"] for d in documents if d["kind"] == "ConfigMap" and "IOT_KAFKA_BROKER" in d.get("data", {})]
    ours = {d["metadata"]["name"]: d for d in documents if d["kind"] in ("StatefulSet", "Job", "CronJob")}
    operated = {"iot-dlq", "iot-history", "iot-load"}
    assert set(ours) == {"iot-worker", "iot-bridge", "iot-notifier", "iot-topics", "iot-schema", *operated}
    for name, document in ours.items():
        kubernetes_validate.validate(document, "1.30", strict=True)
        (made,) = pod(document)["containers"]
        given = shared | {entry["name"]: entry.get("value", "") for entry in made.get("env", [])}
        assert unknown({key: value for key, value in given.items() if key.startswith("IOT_")}) == set()
        mounted = {mount["mountPath"]: mount["name"] for mount in made["volumeMounts"]}
        volumes = {volume["name"]: volume for volume in pod(document)["volumes"]}
        assert set(mounted.values()) <= set(volumes) | {"state"}
        assert len(volumes) == len(pod(document)["volumes"])
        files = {key: Path(value) for key, value in given.items() if key.endswith("_FILE")}
        assert all(str(file.parent) in mounted for file in files.values()), files
        assert (given["IOT_DATABASE_TLS"], given["IOT_MQTT_TLS"]) == ("true", "true")
        if name != "iot-schema":
            who = "iot-operator" if name in operated else name
            assert (given["IOT_KAFKA_SECURITY_PROTOCOL"], given["IOT_KAFKA_USERNAME"]) == ("SASL_SSL", who)
            assert volumes["kafka"]["secret"]["items"] == [{"key": who.removeprefix("iot-"), "path": "password"}]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_kubernetes_would_take_it(overlay: str) -> None:
    custom = {"ScaledObject", "ExternalSecret", "PrometheusRule", "ServiceMonitor", "AlertmanagerConfig"}
    for document in built(overlay):
        if document["kind"] not in custom:
            kubernetes_validate.validate(document, "1.30", strict=True)


# Meant: no CPU limit, which would only throttle; images have versions, so they need not be pulled each time; pods are
# spread by topologySpreadConstraints.
NOT_WANTED = [
    "container-image-pull-policy", "statefulset-has-host-podantiaffinity", "deployment-has-host-podantiaffinity",
]  # fmt: skip
# Of the servers that are there to try it out: they run as the users of their images, write where these do, and the
# network policy is that of our programs.
NOT_WANTED_OF_SERVERS = [
    "container-security-context-user-group-id",
    "container-security-context-readonlyrootfilesystem",
    "container-ephemeral-storage-request-and-limit",
    "pod-networkpolicy",
]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_kube_score_has_nothing_to_say(overlay: str, tmp_path: Path) -> None:
    documents = built(overlay)
    servers = {d["metadata"]["name"] for d in SERVERS}
    for name, chosen, without in (
        ("ours", [d for d in documents if d["metadata"]["name"] not in servers], NOT_WANTED),
        ("all", documents, NOT_WANTED + NOT_WANTED_OF_SERVERS),
    ):
        file = tmp_path / f"{name}.yaml"
        file.write_text(yaml.safe_dump_all(chosen))
        ignored = [word for one in without for word in ("--ignore-test", one)]
        done = programs.run(
            "kube-score", "score", "--ignore-container-cpu-limit", "--output-format", "ci", *ignored, file
        )
        said = [line for line in done.stdout.splitlines() if line.startswith(("[CRITICAL]", "[WARNING]"))]
        assert (done.returncode, said) == (0, [])
        assert done.stdout.count("[OK]") > 20
