"""The programs the embedded stack needs besides Python: found, installed by apt-get when we may, or named."""

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path

from app.errors import PermanentError
from app.local.account_directory import one_at_a_time
from app.local.servers.followed import followed

JAVA_AT_LEAST = 17  # Kafka 4 brokers refuse older ones
PACKAGES = {
    "java": "default-jre-headless", "mvn": "maven", "mosquitto": "mosquitto", "mosquitto_passwd": "mosquitto",
    "redis-server": "redis-server", "influxd": "influxdb",
}  # fmt: skip


def require(*commands: str, report: Callable[[str], None] = lambda _: None) -> None:
    """Make sure that each command of PACKAGES is installed, installing it where we may; `report` is told how far that
    is. Raises PermanentError with one line that says what to install.
    """
    missing = [command for command in commands if not find(command)]
    if not missing:
        return
    packages = sorted({PACKAGES[command] for command in missing})
    if may_install():
        with one_at_a_time("install"):  # apt-get fails when another apt-get runs
            if not all(map(find, missing)):  # another start may have done it
                install(packages, report)
        missing = [command for command in missing if not find(command)]
    if missing:
        raise PermanentError(
            f"missing: {', '.join(missing)}. Install {' '.join(packages)}"
            f"{f' (Java {JAVA_AT_LEAST} or newer)' if 'java' in missing else ''}, "
            "or use `docker compose up`, which needs none of them"
        )


def find(command: str) -> str | None:
    """Path of a usable command, None: none is; sbin counts, for an account that lacks it in PATH; an old Java does
    not.
    """
    path = shutil.which(command, path=f"{os.environ.get('PATH', os.defpath)}:/usr/local/sbin:/usr/sbin")
    if path and command == "java" and java_version(path) < JAVA_AT_LEAST:
        return None
    return path


@cache  # a start of Java takes a third of a second
def java_version(java: str) -> int:
    """Major version of the Java at this path (8, 17, ...); 0 if the program does not say."""
    said = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr
    found = re.search(r'version "(?:1\.)?(\d+)', said)
    return int(found[1]) if found else 0


def may_install() -> bool:
    """Whether we are root on Debian or a child of it."""
    return os.geteuid() == 0 and shutil.which("apt-get") is not None and Path("/etc/debian_version").exists()


def install(packages: list[str], report: Callable[[str], None] = lambda _: None) -> None:
    """Install packages by apt-get, after an update of its lists; `report` gets what apt-get is at. Raises
    PermanentError with apt-get's last words.
    """
    named = f"apt-get installs {' '.join(packages)}"
    for arguments in (["update", "-q"], ["install", "-q", "-y", "--no-install-recommends", *packages]):
        report(named)
        done = followed(
            ["apt-get", *arguments], lambda line: report(f"{named}: {line[:60]}"), {"DEBIAN_FRONTEND": "noninteractive"}
        )
        if done.returncode:
            said = done.stdout.strip().splitlines()[-1:]
            raise PermanentError(f"apt-get {arguments[0]} failed: {' '.join(said)}. Install: {' '.join(packages)}")
