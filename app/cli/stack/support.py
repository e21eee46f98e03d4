"""What goes into `doctor --bundle`: settings and findings in; texts by their names out, not yet masked."""

import asyncio
import json
import platform
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from app.cli.render.findings import as_dict
from app.doctor.finding import Finding
from app.doctor.offsets import offsets
from app.doctor.programs.worker_page import text_of
from app.local.layout import Layout
from app.runtime.version import VERSION
from app.settings import Settings
from app.settings.resolved.resolved import resolved

LINES = 500  # of each log, the last
BYTES = 1 << 20  # of each log at most
PAGES = ("metrics", "health", "ready")
README = """Made by `iot-stream doctor --bundle`. Passwords, tokens and keys are masked as ***.

versions.json  this program, Python, its packages, the machine
settings.json  every setting with its source
findings.json  what the doctor says
offsets.json   the topics' first and end offsets, and what each group has committed
programs/      /metrics, /health and /ready of each program, by its address
logs/          the last lines of each log of the local stack

Names of users and devices, addresses and pieces of messages may be in logs and metrics: look before you send it.
"""


async def entries(
    settings: Settings, findings: Sequence[Finding], urls: Sequence[str], layout: Layout
) -> Mapping[str, str]:
    """The texts of the archive. `urls`: addresses of programs, without /metrics. Never raises for an outage, which is
    in the text instead.
    """
    found = {
        "README.txt": README,
        "versions.json": _json(_versions()),
        "settings.json": _json([one._asdict() for one in resolved()]),
        "findings.json": _json([as_dict(one) for one in findings]),
        "offsets.json": _json(await offsets(settings)),
    }
    for url in urls:
        folder = url.partition("://")[2].rstrip("/").replace(":", "-").replace("/", "-")
        for page in PAGES:
            found[f"programs/{folder}/{page}.txt"] = await asyncio.to_thread(_page, f"{url.rstrip('/')}/{page}")
    return {**found, **{f"logs/{path.name}": _tail(path) for path in sorted(layout.root.glob("log/*.log"))}}


def secrets_of(layout: Layout) -> Iterator[str]:
    """The secrets that a local stack has made for itself."""
    for pattern in ("*/password", "mosquitto/secrets/*", "ingest/token"):
        for path in layout.root.glob(pattern):
            yield path.read_text(errors="replace").strip()


def _versions() -> dict[str, Any]:
    packages = {one.metadata["Name"]: one.version for one in distributions() if one.metadata["Name"]}
    return {
        "iot-stream": VERSION, "python": sys.version, "platform": platform.platform(),
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "packages": dict(sorted(packages.items(), key=lambda one: one[0].lower())),
    }  # fmt: skip


def _page(url: str) -> str:
    try:
        return text_of(url)
    except (OSError, ValueError) as error:
        return f"no answer: {error}\n"


def _tail(path: Path) -> str:
    """The last LINES of a log, of BYTES at most."""
    try:
        with path.open("rb") as log:
            log.seek(max(0, path.stat().st_size - BYTES))
            return "\n".join(log.read().decode(errors="replace").splitlines()[-LINES:]) + "\n"
    except OSError as error:
        return f"cannot be read: {error.strerror}\n"


def _json(value: Any) -> str:
    return json.dumps(value, indent=1, default=str) + "\n"
