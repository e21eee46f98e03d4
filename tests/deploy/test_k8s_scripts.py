"""k8s/scripts/setup_local.sh and teardown.sh: stand-ins for docker, kind and kubectl write down what is called."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tools.documents import ROOT

KUBECTL = """#!/bin/bash
echo "kubectl $*" >> "$SEEN"
case "$*" in
  "config current-context") [ -s "$CONTEXT" ] || exit 1; cat "$CONTEXT" ;;
  "apply -f -") cat > /dev/null ;;
  *"--from-file"*) for word; do
      case $word in --from-file=*) file=${word#*=}; [ -e "${file#*=}" ] || { echo "no $word" >&2; exit 1; } ;; esac
    done ;;
esac
"""
KIND = """#!/bin/bash
echo "kind $*" >> "$SEEN"
[ "$1 $2" != "create cluster" ] || echo "kind-$4" > "$CONTEXT"
"""
NOTED = '#!/bin/bash\necho "{name} $*" >> "$SEEN"\n'


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A copy of what the scripts use, and the stand-ins."""
    for name in ("k8s", "scripts", "deploy"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("secrets/*"))
    (tmp_path / "bin").mkdir()
    noted = [(name, NOTED.format(name=name)) for name in ("docker", "minikube")]
    for name, text in (("kubectl", KUBECTL), ("kind", KIND), *noted):
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    return tmp_path


def run(machine: Path, script: str, context: str) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """How it ended, and what was done, where kubectl points to `context`."""
    (machine / "context").write_text(context)
    (machine / "seen").write_text("")
    environment = {
        **os.environ, "PATH": f"{machine}/bin:{os.environ['PATH']}", "SEEN": f"{machine}/seen",
        "CONTEXT": f"{machine}/context",
    }  # fmt: skip
    done = subprocess.run(
        [str(machine / "k8s" / "scripts" / script)],
        env=environment, capture_output=True, text=True, check=False, timeout=60, cwd="/",
    )  # fmt: skip
    return done, (machine / "seen").read_text().splitlines()


@pytest.mark.parametrize("context", ["", "kind-mine", "minikube", "docker-desktop"])
def test_a_cluster_with_everything(machine: Path, context: str) -> None:
    done, seen = run(machine, "setup_local.sh", context)
    assert done.returncode == 0, done.stderr
    base = yaml.safe_load((ROOT / "k8s" / "base" / "kustomization.yaml").read_text())
    image = f"iot-stream:{base['images'][0]['newTag']}"
    assert f"docker build --tag {image} ." in seen
    made = "kind create cluster --name iot-stream --wait 120s"
    assert (made in seen) == (context == "")
    loaded = [line for line in seen if " load " in line]
    assert (
        loaded
        == {
            "": [f"kind load docker-image --name iot-stream {image}"],
            "kind-mine": [f"kind load docker-image --name mine {image}"],
            "minikube": [f"minikube image load {image}"],
            "docker-desktop": [],
        }[context]
    )
    order = [
        next(at for at, line in enumerate(seen) if text in line)
        for text in ("apply -f k8s/overlays/local/namespace.yaml", "create secret generic iot-stream ", "delete job",
                     "apply -k k8s/overlays/local", "wait --for=condition=complete", "rollout status")
    ]  # fmt: skip
    assert order == sorted(order)
    assert "ready." in done.stdout


def test_a_strangers_cluster_is_left_alone(machine: Path) -> None:
    for script in ("setup_local.sh", "teardown.sh"):
        done, seen = run(machine, script, "production")
        assert done.returncode == 1
        assert "not a cluster of this machine" in done.stderr
        assert seen == ["kubectl config current-context"]


def test_teardown_takes_the_cluster_it_made_and_of_another_the_namespace(machine: Path) -> None:
    assert run(machine, "teardown.sh", "kind-iot-stream")[1][1:] == ["kind delete cluster --name iot-stream"]
    for context in ("kind-mine", "minikube"):
        assert run(machine, "teardown.sh", context)[1][1:] == ["kubectl delete namespace iot-stream --ignore-not-found"]
