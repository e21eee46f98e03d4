"""k8s/scripts/history.sh: a stand-in for kubectl writes down what is called, and says how the pod ends."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.test_k8s import find
from tools.documents import ROOT

KUBECTL = """#!/bin/bash
[ "$1" != auth ] || exit 1
shift 2  # -n iot-stream
echo "$*" >> "$SEEN"
case "$*" in
  *"jsonpath={.spec.replicas}"*) echo 3 ;;
  "get scaledobject"*) [ -z "$KEDA" ] || echo scaledobject.keda.sh/iot-worker ;;
  "create job"*) cat "$JOB" ;;
  "create -f -") cat > "$APPLIED" ;;
  *"status.phase}") echo -n "$PHASE" ;;
  *"exitCode}") [ "$PHASE" = Succeeded ] && echo -n 0 || echo -n 1 ;;
  "logs"*) echo "11 are read again" ;;
  "wait"*) exit "$STUCK" ;;
esac
"""


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "kubectl").write_text(KUBECTL)
    (tmp_path / "bin" / "kubectl").chmod(0o755)
    template = find("CronJob", "iot-history")["spec"]["jobTemplate"]
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "x"}, "spec": template["spec"]}
    (tmp_path / "job.json").write_text(json.dumps(job))
    return tmp_path


def run(
    machine: Path, *words: str, keda: str = "", phase: str = "Succeeded", stuck: int = 0
) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """How the script ended, and what it had kubectl do."""
    (machine / "seen").write_text("")
    environment = {
        **os.environ, "PATH": f"{machine}/bin:{os.environ['PATH']}", "SEEN": f"{machine}/seen", "KEDA": keda,
        "JOB": f"{machine}/job.json", "APPLIED": f"{machine}/applied.json", "PHASE": phase, "STUCK": str(stuck),
        "LOOK_SECONDS": "0.01",
    }  # fmt: skip
    done = subprocess.run(
        [str(ROOT / "k8s" / "scripts" / "history.sh"), *words], env=environment, capture_output=True, text=True,
        check=False, timeout=60,
    )  # fmt: skip
    return done, (machine / "seen").read_text().splitlines()


def at(seen: list[str], text: str) -> int:
    """The place of the first call that begins so."""
    return next(place for place, line in enumerate(seen) if line.startswith(text))


RESET = ("reset", "--since", "6h", "--yes")
PAUSED = "annotate scaledobject iot-worker autoscaling.keda.sh/paused"


def test_workers_and_keda_are_stopped_and_started_again(machine: Path) -> None:
    done, seen = run(machine, *RESET, keda="yes")
    assert (done.returncode, done.stdout) == (0, "11 are read again\n"), done.stderr
    order = [
        at(seen, text)
        for text in (
            f"{PAUSED}=true", "scale statefulset iot-worker --replicas=0", "wait --for=delete pod", "create -f -",
            "logs --follow job/iot-history", "scale statefulset iot-worker --replicas=3", f"{PAUSED}-",
        )
    ]  # fmt: skip
    assert order == sorted(order)
    assert f"{PAUSED}-" in done.stderr, "what to do where the script is killed"


def test_without_keda_its_object_is_left_alone(machine: Path) -> None:
    done, seen = run(machine, *RESET)
    assert done.returncode == 0, done.stderr
    assert not [line for line in seen if "annotate" in line]


@pytest.mark.parametrize(("phase", "stuck"), [("Failed", 0), ("Succeeded", 1)])
def test_workers_are_started_again_whatever_came_of_it(machine: Path, phase: str, stuck: int) -> None:
    done, seen = run(machine, *RESET, keda="yes", phase=phase, stuck=stuck)
    assert done.returncode != 0
    assert seen[-2:] == ["scale statefulset iot-worker --replicas=3", f"{PAUSED}-"]
    assert ("create -f -" in seen) == (not stuck), "no offset is set while a worker may run"


@pytest.mark.parametrize("words", [RESET[:-1], ("replay", "--into", "again", "--yes")], ids=" ".join)
def test_no_worker_is_stopped_for_what_changes_no_offset(machine: Path, words: tuple[str, ...]) -> None:
    done, seen = run(machine, *words, keda="yes")
    assert done.returncode == 0, done.stderr
    assert not [line for line in seen if "scale" in line or "annotate" in line]
    assert "create -f -" in seen


def test_without_a_command_nothing_is_done(machine: Path) -> None:
    done, seen = run(machine)
    assert (done.returncode, seen, "history.sh reset" in done.stderr) == (2, [], True)


def test_the_job_waits_for_the_sessions_of_the_workers_that_were_stopped(machine: Path) -> None:
    run(machine, "reset", "--offset", "0:7", "--yes")
    job: dict[str, Any] = json.loads((machine / "applied.json").read_text())
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert container["args"] == ["history", "reset", "--offset", "0:7", "--yes", "--wait", "120"]
    labels = job["spec"]["template"]["metadata"]["labels"]
    workers = find("StatefulSet", "iot-worker")["spec"]["selector"]["matchLabels"]
    assert workers.items() - labels.items(), "the workers' controller does not take it for a worker"
