"""The jars of Apache Kafka: fetched once by Maven from the pinned pom.xml, then kept."""

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from app.errors import PermanentError
from app.local.servers.followed import followed
from app.local.servers.tools import find, require

POM = Path(__file__).with_name("pom.xml")
REPOSITORY = Path(__file__).parents[3]


def cache_dir() -> Path:
    """$IOT_CACHE_DIR, else .local of the checkout, else the user's cache directory for an installed package."""
    if chosen := os.environ.get("IOT_CACHE_DIR"):
        return Path(chosen)
    if (REPOSITORY / "pyproject.toml").exists():
        return REPOSITORY / ".local"
    return Path.home() / ".cache" / "iot-stream"


def kafka_jars(report: Callable[[str], None] = lambda _: None) -> Path:
    """The directory with the jars; Maven fetches the jars of this pom.xml when they are missing, which may take
    minutes; `report` is told how far that is. Raises PermanentError when Maven fails, or when Java or Maven is missing.
    """
    jars = _place()
    if jars.is_dir():
        return jars
    jars.parent.mkdir(parents=True, exist_ok=True)
    with (jars.parent / "lock").open("w") as lock:  # two starts at once fetch once
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not jars.is_dir():
            _fetch(jars, report)
    return jars


def commands() -> tuple[str, ...]:
    """The commands of PACKAGES that Kafka is started with: Maven as long as its jars are missing."""
    return ("java",) if _place().is_dir() else ("java", "mvn")


def _place() -> Path:
    return cache_dir() / "kafka-libs" / hashlib.sha256(POM.read_bytes()).hexdigest()[:12]


def _fetch(jars: Path, report: Callable[[str], None]) -> None:
    require("java", "mvn")
    report("fetching Kafka by Maven, once")
    fetched = list[str]()

    def seen(line: str) -> None:
        if " Downloaded from " in f" {line}":
            fetched.append(line)
            report(f"fetching Kafka by Maven, once: {len(fetched)} files")

    with tempfile.TemporaryDirectory(dir=jars.parent) as scratch:
        command = [
            find("mvn") or "mvn", "-B",
            "-C",  # a jar whose checksum does not match fails the build
            "-f", str(POM), "dependency:copy-dependencies",
            "-DincludeScope=runtime", f"-DoutputDirectory={scratch}/jars",
        ]  # fmt: skip
        done = followed(command, seen)
        if done.returncode:
            said = "\n".join(line for line in done.stdout.splitlines() if "ERROR" in line)[:600]
            raise PermanentError(f"Maven could not fetch Kafka's jars:\n{said or done.stdout.strip()[-600:]}")
        shutil.move(f"{scratch}/jars", jars)
