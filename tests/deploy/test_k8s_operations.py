"""components/operations and k8s/scripts/operate.sh: what `dlq`, `history` and `load` may, and how a Job of one ends."""

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest

from app.settings import Settings
from tests.deploy.test_k8s import OVERLAYS, Document, built, container, find, literals, pod, secrets_of
from tests.deploy.test_k8s import base as base_kustomization
from tools.documents import ROOT

KAFKA, MQTT, DATABASE = {9092, 9093}, {1883, 8883}, {5432, 6432}
REACHES = {"dlq": KAFKA | MQTT, "history": KAFKA | DATABASE, "load": KAFKA | MQTT | DATABASE}
each_operation = pytest.mark.parametrize("name", REACHES)


def cron(name: str) -> Document:
    return find("CronJob", f"iot-{name}")


@each_operation
def test_it_starts_nothing_by_itself_and_a_job_of_it_runs_once(name: str) -> None:
    spec = cron(name)["spec"]
    assert spec["suspend"] is True
    job = spec["jobTemplate"]["spec"]
    assert (job["backoffLimit"], job["ttlSecondsAfterFinished"] > 0) == (0, True)
    assert pod(cron(name))["restartPolicy"] == "Never"
    assert container(cron(name))["args"][0] == name


@each_operation
def test_it_has_no_token_and_writes_to_its_own_volumes_alone(name: str) -> None:
    spec = pod(cron(name))
    account = find("ServiceAccount", spec["serviceAccountName"])
    assert spec["serviceAccountName"] != find("ServiceAccount", "iot-stream")["metadata"]["name"]
    assert account["automountServiceAccountToken"] is False
    writable = {mount["name"]: mount["mountPath"] for mount in container(cron(name))["volumeMounts"]
                if not mount.get("readOnly")}  # fmt: skip
    assert set(writable) == {"work", "tmp"}
    volumes = {volume["name"]: volume for volume in spec["volumes"]}
    assert all(volumes[one]["emptyDir"]["sizeLimit"] for one in writable)
    given = {entry["name"]: entry.get("value") for entry in container(cron(name))["env"]}
    assert given["TMPDIR"] == writable["work"]
    assert (
        set(secrets_of(cron(name)).values())
        == {"dlq": set(), "history": {"iot-stream"}, "load": {"iot-stream-admin"}}[name]
    )


@each_operation
def test_it_reaches_its_servers_alone_and_nobody_reaches_it(name: str) -> None:
    labels = cron(name)["spec"]["jobTemplate"]["spec"]["template"]["metadata"]["labels"]
    policy = find("NetworkPolicy", f"iot-{name}")["spec"]
    assert policy["podSelector"]["matchLabels"] == labels
    assert (policy["policyTypes"], policy["ingress"]) == (["Ingress", "Egress"], [])
    names, servers = policy["egress"]
    assert {entry["port"] for entry in names["ports"]} == {53}
    assert names["to"], "of the cluster's own namespace"
    assert {(entry["port"], entry["protocol"]) for entry in servers["ports"]} == {(one, "TCP") for one in REACHES[name]}
    others = [find("NetworkPolicy", "iot-stream")] + [
        find("NetworkPolicy", f"iot-{one}") for one in REACHES if one != name
    ]
    for other in others:
        selected = other["spec"]["podSelector"]["matchLabels"]
        assert not selected.items() <= labels.items(), "policies add up: another one would let it out further"


@each_operation
def test_addresses_are_those_that_its_policy_lets_through(name: str) -> None:
    """Of the base; those of production are in test_k8s.py."""
    shared = literals(base_kustomization())
    given = {entry["name"]: entry for entry in container(cron(name))["env"]}
    assert int(shared["IOT_KAFKA_BROKER"].rpartition(":")[2]) in REACHES[name]
    if "DATABASE" in given:
        key = given["DATABASE"]["valueFrom"]["configMapKeyRef"]["key"]
        assert key == ("DATABASE_ADMIN" if name == "load" else "DATABASE")
        assert int(shared[key].partition("/")[0].rpartition(":")[2]) in REACHES[name]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_both_overlays_have_them_with_the_image_and_settings_of_the_programs(overlay: str) -> None:
    documents = {(d["kind"], d["metadata"]["name"]): d for d in built(overlay)}
    worker = documents["StatefulSet", "iot-worker"]
    for name in REACHES:
        made = documents["CronJob", f"iot-{name}"]
        kubernetes_validate.validate(made, "1.30", strict=True)
        assert container(made)["image"] == container(worker)["image"]
        assert container(made)["envFrom"] == container(worker)["envFrom"], "the hash in the name, too"
    assert documents["ServiceAccount", "iot-operations"]["automountServiceAccountToken"] is False


def test_the_account_for_mqtt_is_a_secret_that_may_be_missing() -> None:
    refs = [entry["valueFrom"]["secretKeyRef"] for entry in container(cron("dlq"))["env"] if "MQTT" in entry["name"]]
    assert [(ref["key"], ref["optional"]) for ref in refs] == [("username", True), ("password", True)]


def test_history_waits_for_members_as_long_as_workers_have_sessions() -> None:
    given = {entry["name"]: entry.get("value") for entry in container(cron("history"))["env"]}
    worker = {entry["name"]: entry.get("value") for entry in container(find("StatefulSet", "iot-worker"))["env"]}
    for name in ("IOT_KAFKA_SESSION_TIMEOUT", "IOT_DATABASE_URL", "IOT_DATABASE_PASSWORD_FILE"):
        assert given[name] == worker[name]


# --- operate.sh ------------------------------------------------------------------------------------------------------

KUBECTL = """#!/bin/bash
if [ "$1 $2" = "auth whoami" ]; then echo -n "$WHO"; exit 0; fi
shift 2  # -n iot-stream
echo "$*" >> "$SEEN"
case "$*" in
  "get cronjob/"*) [ -z "$MISSING" ] || { echo "Error: not found" >&2; exit 1; } ;;
  "create job"*) cat "$CRON" ;;
  "create -f -") cat > "$CREATED" ;;
  *"{.items[0].status.phase}") [ -e "$DONE" ] && echo -n "$PHASE" || echo -n Running ;;
  *"exitCode}") [ ! -e "$DONE" ] || echo -n "$CODE" ;;
  "exec"*) echo "1 put back to kafka, stopped" > "$DONE" ;;
  "logs --follow --since"*) cat "$DONE" ;;
  "logs"*)
    echo "what it said"
    if [ -n "$SLOW" ]; then echo on > "$STARTED"; exec sleep 60; fi
    touch "$DONE" ;;
esac
"""


class Machine:
    """A directory with a stand-in for kubectl, which writes down what is called."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        (directory / "bin").mkdir()
        (directory / "bin" / "kubectl").write_text(KUBECTL)
        (directory / "bin" / "kubectl").chmod(0o755)

    def environment(self, name: str, **given: str) -> dict[str, str]:
        template = cron(name)["spec"]["jobTemplate"]
        job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "x"}, "spec": template["spec"]}
        (self.directory / "cron.json").write_text(json.dumps(job))
        paths = {one: str(self.directory / one.lower()) for one in ("SEEN", "CREATED", "DONE", "STARTED")}
        (self.directory / "seen").write_text("")
        (self.directory / "done").unlink(missing_ok=True)
        defaults = {"WHO": "ann@example.com", "MISSING": "", "PHASE": "Succeeded", "CODE": "0", "SLOW": ""}
        path = f"{self.directory}/bin:{os.environ['PATH']}"
        more = {"CRON": str(self.directory / "cron.json"), "LOOK_SECONDS": "0.01", "PATH": path}
        return {**os.environ, **paths, **defaults, **more, **given}

    def run(self, *words: str, **given: str) -> "subprocess.CompletedProcess[str]":
        environment = self.environment(words[0] if words and words[0] in REACHES else "dlq", **given)
        command = [str(ROOT / "k8s" / "scripts" / "operate.sh"), *words]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)

    @property
    def seen(self) -> list[str]:
        return (self.directory / "seen").read_text().splitlines()

    @property
    def created(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.directory / "created").read_text())
        return found


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.mark.parametrize(
    "words",
    [
        ("dlq", "ls", "--user", "alice"),
        ("dlq", "replay", "--set", 'name="a b"', "--yes"),
        ("dlq", "purge", "--until", "14d", "--yes"),
        ("history", "verify", "--since", "24h"),
        ("load", "--users", "30"),
    ],
    ids=" ".join,
)
def test_a_job_has_the_arguments_word_for_word_and_who_it_was(machine: Machine, words: tuple[str, ...]) -> None:
    done = machine.run(*words)
    assert (done.returncode, done.stdout) == (0, "what it said\n"), done.stderr
    kubernetes_validate.validate(machine.created, "1.30", strict=True)
    made = container(machine.created)
    assert made["args"] == list(words)
    assert {"name": "IOT_OPERATOR", "value": "ann@example.com"} in made["env"]
    assert made["securityContext"] == container(cron(words[0]))["securityContext"]
    assert Settings(_env_file=None, operator="ann@example.com").operator == "ann@example.com"


@pytest.mark.parametrize(("phase", "code"), [("Failed", "1"), ("Failed", "2"), ("Failed", "130"), ("Succeeded", "0")])
def test_it_ends_with_the_exit_code_of_the_command(machine: Machine, phase: str, code: str) -> None:
    assert machine.run("dlq", "ls", PHASE=phase, CODE=code).returncode == int(code)


def test_a_pod_that_was_evicted_is_a_failure(machine: Machine) -> None:
    assert machine.run("dlq", "ls", PHASE="Failed", CODE="").returncode == 1


@pytest.mark.parametrize("words", [(), ("worker",), ("users", "list")], ids=" ".join)
def test_what_is_no_operation_is_refused(machine: Machine, words: tuple[str, ...]) -> None:
    done = machine.run(*words)
    assert (done.returncode, machine.seen, "operate.sh dlq ls" in done.stderr) == (2, [], True)


def test_without_the_component_one_line_says_what_to_do(machine: Machine) -> None:
    done = machine.run("load", MISSING="yes")
    assert (done.returncode, "name components/operations in your overlay" in done.stderr) == (2, True)
    assert len(machine.seen) == 1


def test_ctrl_c_ends_the_command_in_order(machine: Machine) -> None:
    command = [str(ROOT / "k8s" / "scripts" / "operate.sh"), "dlq", "replay", "--yes"]
    environment = machine.environment("dlq", SLOW="yes", PHASE="Failed", CODE="130")
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        while not (machine.directory / "started").exists():
            assert process.poll() is None
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: kubectl hears it as well
        out, error = process.communicate(timeout=60)
    assert process.returncode == 130, error
    assert out.splitlines() == ["what it said", "1 put back to kafka, stopped"]
    assert [line.partition(" job/")[2].partition(" ")[2] for line in machine.seen if line.startswith("exec")] == [
        "-- sh -c kill -INT 1"
    ]
