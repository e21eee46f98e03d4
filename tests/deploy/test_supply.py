"""What is shipped: no secret in a file, every package pinned with its digest, a bill of materials with all of them."""

import re
import subprocess
from pathlib import Path

import pytest

from tools import sbom, secret_scan
from tools.documents import ROOT

LOCKS = ("requirements.lock", "requirements-dev.lock")
AT = "@"

# Written in parts, or the scan of this very file would find them.
PLANTED = {
    "-----BEGIN EC PRIVATE" + " KEY-----": "private key",
    "aws = AKIA" + "ABCDEFGHIJKLMNOP": "cloud key",
    "x: ghp_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8": "access token",
    "eyJhbGciOiJIUzI1NiJ9." + "eyJzdWIiOiIxMjM0In0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9P": "signed token",
    "password = " + "'Zk93jdKw02mXq8sL'": "password",
    "POSTGRES_PASSWORD: " + "9f8a7b6c5d4e3f2a1b0c": "password",
    "postgresql://iot:" + f"Zk93jdKw02mXq8sL{AT}db/iot": "password",
}


@pytest.mark.parametrize("line", PLANTED)
def test_a_secret_is_found(line: str) -> None:
    (found,) = secret_scan.scan(f"first\n{line}\nlast", "file")
    assert found == ("file", 2, PLANTED[line])
    assert list(secret_scan.scan(f"{line}  # {secret_scan.MEANT}", "file")) == []


@pytest.mark.parametrize(
    "line",
    [
        "IOT_DATABASE_PASSWORD_FILE: /run/secrets/worker_db_password",
        "password = settings.mqtt_password",
        "postgresql://iot_worker@db:5432/iot",
        "postgresql://iot:${PASSWORD}@db/iot",
        "password: a long one, with words",
    ],
)
def test_what_only_speaks_of_one_is_not(line: str) -> None:
    assert list(secret_scan.scan(line, "file")) == []


def test_the_repository_holds_none() -> None:
    names = secret_scan.files()
    assert "app/settings/settings.py" in names
    found = [one for name in names if (ROOT / name).is_file()
             for one in secret_scan.scan((ROOT / name).read_text(errors="replace"), name)]  # fmt: skip
    assert found == []


def test_what_is_shipped_is_what_is_tested() -> None:
    shipped, tested = (sbom.locked((ROOT / name).read_text()) for name in LOCKS)
    assert set(shipped.items()) <= set(tested.items())


@pytest.mark.parametrize("name", LOCKS)
def test_every_package_is_pinned_with_its_digest(name: str) -> None:
    text = (ROOT / name).read_text()
    assert len(sbom.locked(text)) > 30
    assert sbom.unhashed(text) == []
    assert "://" not in text, "no address of an index, no package by URL"


def test_the_bill_names_every_package_once() -> None:
    packages = sbom.locked((ROOT / "requirements.lock").read_text())
    made = sbom.document(packages)
    assert {one["name"]: one["version"] for one in made["components"]} == packages
    refs = [one["bom-ref"] for one in made["components"]] + [made["metadata"]["component"]["bom-ref"]]
    assert len(set(refs)) == len(refs)
    assert {one["ref"] for one in made["dependencies"]} == set(refs)
    assert all(set(one["dependsOn"]) <= set(refs) for one in made["dependencies"])
    reached, left = set(), [made["metadata"]["component"]["bom-ref"]]
    depends = {one["ref"]: one["dependsOn"] for one in made["dependencies"]}
    while left:
        if (ref := left.pop()) not in reached:
            reached.add(ref)
            left += depends[ref]
    assert {"pkg:pypi/aiokafka@" + packages["aiokafka"], "pkg:pypi/bcrypt@" + packages["bcrypt"]} <= reached


FOUND = "Found 1 known vulnerability in 1 package\nName Version ID\n---- ------- --\nx    1       CVE-1"
UNREACHABLE = "ERROR:pip_audit._cli:x: Dependency not found and could not be audited: x (1)"


def audit(tmp_path: Path, said: str, code: int, *options: str) -> subprocess.CompletedProcess[str]:
    """scripts/audit with a stand-in for pip-audit, which prints `said` and ends with `code`."""
    tool = tmp_path / "audit" / "bin" / "pip-audit"
    tool.parent.mkdir(parents=True, exist_ok=True)
    tool.write_text(f"#!/bin/sh\necho \"$@\" > '{tmp_path}/asked'\ncat >&2 <<'E'\n{said}\nE\nexit {code}\n")
    tool.chmod(0o755)
    command = [str(ROOT / "scripts" / "audit"), *options, str(tmp_path)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=60)


def test_a_vulnerability_fails_the_check_and_silence_does_not(tmp_path: Path) -> None:
    found = audit(tmp_path, FOUND, 1, "--if-possible")
    assert (found.returncode, "CVE-1" in found.stderr) == (1, True)
    asked = (tmp_path / "asked").read_text()
    assert all(f"--requirement {name}" in asked for name in LOCKS)
    silent = audit(tmp_path, UNREACHABLE, 1, "--if-possible")
    assert silent.returncode == 0
    assert silent.stderr.startswith("audit: NOT DONE: ERROR")
    well = audit(tmp_path, "No known vulnerabilities found", 0, "--if-possible")
    assert (well.returncode, well.stdout) == (0, "audit: no known vulnerabilities\n")
    assert [audit(tmp_path, said, 1).returncode for said in (FOUND, UNREACHABLE)] == [1, 1]


def test_make_check_looks_for_both() -> None:
    (recipe,) = re.findall(r"^check: .*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert "tools.secret_scan" in recipe
    assert "scripts/audit --if-possible" in recipe
