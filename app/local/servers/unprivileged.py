"""The account of a server that refuses to run as root, as PostgreSQL does, when we are root."""

import os
import pwd
import shutil
import subprocess
from typing import NamedTuple

OWN = "iot-postgres"


class SystemUser(NamedTuple):
    """An unprivileged account of this machine."""

    name: str
    uid: int
    gid: int


def unprivileged() -> SystemUser | None:
    """The account that a server is to run as: `postgres` if the machine has it, else an account made for this, else
    `nobody`. None when we are not root: then the server runs as ourselves.
    """
    if os.geteuid() != 0:
        return None
    if found := _look_up("postgres") or _look_up(OWN):
        return found
    if useradd := shutil.which("useradd"):
        command = [useradd, "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", OWN]
        subprocess.run(command, check=False, capture_output=True)
    return _look_up(OWN) or _look_up("nobody")


def _look_up(name: str) -> SystemUser | None:
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        return None
    return SystemUser(name, entry.pw_uid, entry.pw_gid)


def run(command: list[str], account: SystemUser | None, **options: object) -> "subprocess.CompletedProcess[str]":
    """Run `command` as that account (None: as ourselves), from /, its output captured as text; `options` go to
    subprocess.run, and the caller looks at the return code. Raises OSError when `command` cannot be executed.
    """
    identity = {"user": account.uid, "group": account.gid, "extra_groups": []} if account else {}
    # mypy cannot see which form of `run` a dictionary of arguments is for.
    return subprocess.run(  # type: ignore[call-overload, no-any-return]
        command, cwd="/", capture_output=True, text=True, check=False, **identity, **options
    )
