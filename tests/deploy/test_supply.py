"""What is shipped: no secret in a file, every package pinned with its digest, a bill of materials with all of them."""

import pytest

from tests import sbom, secret_scan
from tests.documents import ROOT

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
    assert "app/settings.py" in names
    found = [one for name in names if (ROOT / name).is_file()
             for one in secret_scan.scan((ROOT / name).read_text(errors="replace"), name)]  # fmt: skip
    assert found == []


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
