"""Accounts added to the local stack's Mosquitto: one JSON file in, the lines of Mosquitto's two files out."""

import base64
import hashlib
import json
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from app.core.routing.mqtt_acl import AclAction, AclRule, for_mosquitto, of_one_device
from app.local.servers.common import write_private

ITERATIONS = 20_000  # some 15 ms at each login; Mosquitto's own tool takes 101


class AddedAccounts:
    """What `iot-stream users --local` has added, with hashed passwords; mode 0600."""

    def __init__(self, path: Path) -> None:
        """`path` is the JSON file of these accounts, which need not exist yet."""
        self._path = path

    def put(
        self,
        username: str,
        password: str,
        rules: Sequence[AclRule] | None = None,
        device: tuple[str, str] | None = None,
    ) -> None:
        """Add an account, or change its password; `rules` None: the account's rules stay, and so does the device it is
        bound to.

        `device`: (user, device) of an account of one device alone; None: the account is of no single device.
        """
        known = self._read()
        entry = {"rules": [], **known.get(username, {}), "hash": hashed(password)}
        if rules is not None:
            entry |= {"rules": [[one.action.value, one.topic] for one in rules], "device": device}
        self._write(known | {username: entry})

    def remove(self, username: str) -> None:
        """Forget an account, if it exists."""
        self._write({name: entry for name, entry in self._read().items() if name != username})

    def password_lines(self) -> str:
        """The lines `name:hash` of these accounts for the password_file."""
        return "".join(f"{name}:{entry['hash']}\n" for name, entry in self._read().items())

    def acl_lines(self) -> str:
        """The lines of these accounts for the acl_file."""
        entries = self._read().items()
        own = [AclRule(name, "allow", AclAction(to), topic) for name, entry in entries for to, topic in entry["rules"]]
        bound = {name: entry["device"] for name, entry in entries if entry.get("device")}
        theirs = [one for name, device in bound.items() for one in of_one_device(name, *device)]
        return for_mosquitto([*theirs, *own], bound)

    def _read(self) -> dict[str, Any]:
        known: dict[str, Any] = json.loads(self._path.read_text()) if self._path.exists() else {}
        return known

    def _write(self, known: dict[str, Any]) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        write_private(self._path, json.dumps(known, indent=1) + "\n")


def hashed(password: str) -> str:
    """The hash of a password as mosquitto_passwd writes it: `$7$`, iterations, salt and PBKDF2 with SHA-512, in base64.
    That tool would cut a password at a colon.
    """
    salt = secrets.token_bytes(12)
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, ITERATIONS)
    return f"$7${ITERATIONS}${base64.b64encode(salt).decode()}${base64.b64encode(digest).decode()}"
