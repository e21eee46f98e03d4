"""k8s/scripts/users.sh on a real database, with a stand-in for the cluster: `kubectl exec` runs the command locally."""

import base64
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tools.documents import ROOT

pytestmark = pytest.mark.integration

OWNER = "an owner's \\ $password"
KUBECTL = """#!/bin/bash
# Gives the secret, and runs what is executed "in the pod" with the pod's variables.
[ "$1 $2" = "-n iot-stream" ] || exit 9
shift 2
case $1 in
  get) [ "$*" = "get secret iot-stream-admin -o jsonpath={.data.postgres_password}" ] && printf %s "$SECRET" ;;
  exec)
    [ "$1 $2 $3 $4" = "exec -i iot-worker-0 --" ] || exit 9
    shift 4
    export IOT_DATABASE_URL=postgresql://iot_worker@nowhere/iot IOT_DATABASE_PASSWORD_FILE=/dev/null
    exec "$@" ;;
esac
"""
PROGRAM = """#!/bin/bash
printf %s "$PGPASSWORD" > "$SEEN"
exec {python} -m app "$@"
"""


@pytest.fixture
def pod(tmp_path: Path, accounts_database: str) -> dict[str, str]:
    """Variables under which the script finds its cluster."""
    for name, text in (("kubectl", KUBECTL), ("iot-stream", PROGRAM.format(python=sys.executable))):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    return {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "SECRET": base64.b64encode(OWNER.encode()).decode(),
        "SEEN": str(tmp_path / "seen"),
        "DATABASE_ADMIN": accounts_database.removeprefix("postgresql://"),
    }


def users(pod: dict[str, str], *arguments: str, given: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(ROOT / "k8s" / "scripts" / "users.sh"), *arguments], input=given, env=pod, capture_output=True, text=True,
        check=False, timeout=60, stdin=subprocess.DEVNULL if given is None else None,
    )  # fmt: skip


def test_an_account_comes_and_goes(pod: dict[str, str]) -> None:
    made = users(pod, "add", "alice", "--client-id", "truck 1", "--password-file", "-", given="a long one!!")
    assert (made.returncode, made.stderr, made.stdout) == (0, "", "added alice\n")
    assert Path(pod["SEEN"]).read_text() == OWNER
    listed = users(pod, "list", "--json")
    assert [row["client_id"] for row in json.loads(listed.stdout) if row["username"] == "alice"] == ["truck 1"]
    assert users(pod, "remove", "alice").returncode == 0
    assert "alice" not in users(pod, "list").stdout


def test_what_fails_is_said(pod: dict[str, str]) -> None:
    short = users(pod, "add", "alice", "--password-file", "-", given="short")
    assert short.returncode != 0
    assert "12" in short.stderr
