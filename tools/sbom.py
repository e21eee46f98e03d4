"""The bill of materials: in, requirements.lock and installed packages; out, CycloneDX 1.6 in JSON (`make sbom`)."""

import importlib.metadata
import json
import re
import sys
import tomllib
import uuid
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tools.documents import ROOT

_PINNED = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^]]*\])?==([^ ;\\]+)(?: ; (.*?))?(?: \\)?$", re.M)
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")


def locked(text: str) -> dict[str, str]:
    """Name -> version of each package in the text of a lock file, for all machines."""
    return {canonicalize_name(name): version for name, version, _ in _PINNED.findall(text)}


def unhashed(text: str) -> list[str]:
    """Names with versions of the entries of a lock file that have no hash, so that a package of another content would
    be installed unnoticed.
    """
    entries = re.split(r"\n(?=[A-Za-z0-9])", text)
    return [entry.split()[0] for entry in entries if _PINNED.match(entry) and not _HASH.search(entry)]


def document(packages: Mapping[str, str]) -> dict[str, Any]:
    """The bill of materials of the product, as built-in types for JSON; `packages`: name -> version.

    Reads pyproject.toml and the metadata of the installed packages.
    """
    needed = {name: [one for one in requires(name) if one in packages] for name in packages}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    product = f"pkg:pypi/{project['name']}@{project['version']}"
    direct = [one for one in of_this_machine(project["dependencies"]) if one in packages]
    refs = {name: f"pkg:pypi/{name}@{version}" for name, version in packages.items()}
    depends = [{"ref": refs[name], "dependsOn": sorted(refs[one] for one in needed[name])} for name in sorted(packages)]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(refs, sort_keys=True))}",
        "version": 1,
        "metadata": {
            "timestamp": datetime.now(UTC).isoformat(timespec="seconds"),
            "component": {"type": "application", "bom-ref": product, "name": project["name"], "purl": product,
                          "version": project["version"], "licenses": [{"expression": project["license"]}]},
        },
        "components": [component(name, packages[name], refs[name]) for name in sorted(packages)],
        "dependencies": [{"ref": product, "dependsOn": sorted(refs[one] for one in direct)}, *depends],
    }  # fmt: skip


def component(name: str, version: str, ref: str) -> dict[str, Any]:
    """The entry of one package; `ref` is its package URL."""
    made: dict[str, Any] = {"type": "library", "bom-ref": ref, "name": name, "version": version, "purl": ref}
    return made | ({"licenses": found} if (found := licences(name)) else {})


def requires(name: str) -> list[str]:
    """Names of the packages that a package requires on this machine, without extras; empty for a package that is not
    installed.
    """
    try:
        wanted = importlib.metadata.requires(name) or []
    except importlib.metadata.PackageNotFoundError:
        return []
    return of_this_machine(wanted)


def of_this_machine(requirements: Iterable[str]) -> list[str]:
    """Names of the requirements (PEP 508) that apply to this machine, without extras. Raises InvalidRequirement."""
    made = (Requirement(text) for text in requirements)
    return [canonicalize_name(one.name) for one in made if one.marker is None or one.marker.evaluate({"extra": ""})]


def licences(name: str) -> list[dict[str, Any]]:
    """The licences that the package states: an SPDX expression or the package's own text; empty for a package that
    states no licence or is not installed.
    """
    try:
        metadata = importlib.metadata.metadata(name)
    except importlib.metadata.PackageNotFoundError:
        return []
    if "License-Expression" in metadata:
        return [{"expression": metadata["License-Expression"]}]
    stated = str(metadata["License"]) if "License" in metadata else ""
    classified = [
        line.rpartition(" :: ")[2] for line in metadata.get_all("Classifier", []) if line.startswith("License")
    ]
    text = stated if 0 < len(stated) <= 100 and "\n" not in stated else " OR ".join(classified)
    return [{"license": {"name": text}}] if text else []


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.parent.mkdir(parents=True, exist_ok=True)
    made = document(locked((ROOT / "requirements.lock").read_text()))
    target.write_text(json.dumps(made, indent=1) + "\n")
    print(f"{target}: {len(made['components'])} packages")
