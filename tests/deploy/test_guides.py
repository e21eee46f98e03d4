"""What docs/docker.md and k8s/README.md have a reader type: services, jobs, files and commands that exist."""

import math
import re
from pathlib import Path

import pytest

from app.cli.main import COMMANDS
from app.local.layout import SINKS, WAYS
from tests.deploy import compose
from tests.deploy.test_k8s import DOCUMENTS, WORKLOADS, container, pod
from tools.documents import DOCS, ROOT

DOCKER, K8S = (DOCS / "docker.md").read_text(), (ROOT / "k8s" / "README.md").read_text()
SYSTEMD, OPERATIONS = (DOCS / "systemd.md").read_text(), (DOCS / "operations.md").read_text()


def typed(text: str) -> str:
    """The code of a page: blocks that are indented, and what stands in `backticks`; continued lines in one."""
    blocks = [line.strip() for line in text.replace("\\\n", " ").splitlines() if re.match(r" {4,}\S", line)]
    return "\n".join(blocks + re.findall(r"`([^`\n]+)`", text))


def gigabytes(text: str) -> float:
    number, unit = re.fullmatch(r"(\d+)(\w)i?", text).groups()  # type: ignore[union-attr]
    return int(number) / {"m": 1024, "g": 1}[unit.lower()]


PAGES = {"docker": DOCKER, "k8s": K8S, "systemd": SYSTEMD, "operations": OPERATIONS}


@pytest.mark.parametrize("page", PAGES)
def test_files_exist(page: str) -> None:
    # overlays/mine is the copy the reader makes, deploy/secrets what scripts/secrets makes
    found = set(re.findall(r"(?<![\w/.])((?:k8s|scripts|deploy|docs|app)/[\w./-]*\w)", typed(PAGES[page])))
    assert [path for path in found if "mine" not in path and "deploy/secrets" not in path
            and not (ROOT / path).exists()] == []  # fmt: skip


@pytest.mark.parametrize("page", PAGES)
def test_commands_exist(page: str) -> None:
    text = typed(PAGES[page])
    ours = set(re.findall(r"\biot-stream ([a-z]+)", text)) | set(
        re.findall(r"docker compose run (?:--?[\w-]+ )*[\w-]+ ([a-z]+)", text)
    )
    assert ours - {"exec", "delete", "create", "wait", "rollout", "port"} <= set(COMMANDS)
    services = set(re.findall(r"docker compose (?:run|logs|exec|stop) (?:--?[\w-]+ )*(\w[\w-]*)", text))
    services |= set(re.findall(r"--scale (\w+)=", text))
    assert services <= set(compose.services())


@pytest.mark.parametrize("page", ["k8s", "operations"])
def test_objects_exist(page: str) -> None:
    names = {(d["kind"], d.get("metadata", {}).get("name")) for d in DOCUMENTS}
    kinds = {"svc": "Service", "statefulset": "StatefulSet", "job": "Job"}
    text = typed(PAGES[page])
    for kind, name in re.findall(r"\b(svc|statefulset|job)/([\w-]+)", text):
        assert (kinds[kind], name) in names
    for name in re.findall(r"exec (?:-\w+ )*([\w-]+)-0 --", text):
        assert ("StatefulSet", name) in names
    for name in re.findall(r"delete job ([\w -]+?) --", text):
        assert {("Job", one) for one in name.split()} <= names


def test_secrets_of_the_guide_are_those_that_are_read() -> None:
    read: dict[str, set[str]] = {}
    places = ("base", "operations", *WAYS, *(f"sink-{sink.replace('_', '-')}" for sink in SINKS))
    for document in (d for d in WORKLOADS if d["_file"].parent.name in places):
        for volume in (volume["secret"] for volume in pod(document).get("volumes", []) if "secret" in volume):
            read.setdefault(volume["secretName"], set()).update(item["key"] for item in volume["items"])
    for entry in (e for d in WORKLOADS if d["_file"].parent.name == "operations" for e in container(d)["env"]):
        if found := entry.get("valueFrom", {}).get("secretKeyRef"):
            read.setdefault(found["name"], set()).add(found["key"])
    reported = re.findall(r"create secret generic (\S+) (.*)$", typed(K8S), re.MULTILINE)
    assert {name: set(re.findall(r"--from-(?:file|literal)=([\w.]+)", rest)) for name, rest in reported} == read


def test_the_memory_of_the_guides() -> None:
    always = [service for name, service in compose.services().items()
              if service["restart"] == "unless-stopped" and "profiles" not in service]  # fmt: skip
    limits = sum(gigabytes(service["mem_limit"]) for service in always)
    assert f"{math.ceil(limits)} GB of memory at its limits" in DOCKER
    local = [
        d for d in DOCUMENTS if d["kind"] in ("StatefulSet", "Job") and d["_file"].parent.name in ("base", "local")
    ]
    asked = sum(gigabytes(container(d)["resources"]["requests"]["memory"]) for d in local)
    assert f"The pods ask for {math.ceil(asked)} GB of memory" in K8S


def test_ports_of_the_guide() -> None:
    ports = {port.split(":")[1] for service in compose.services().values() for port in service.get("ports", [])}
    reported = set(re.findall(r"(?:127\.0\.0\.1:|http://127\.0\.0\.1:)(\d+)", DOCKER))
    assert reported
    assert reported <= ports


def test_the_accounts_of_the_guide() -> None:
    secrets = {Path(secret["file"]).name for secret in compose.config()["secrets"].values()}
    assert set(re.findall(r"deploy/secrets/(\w+)\b(?!\.yml)", DOCKER)) <= secrets
