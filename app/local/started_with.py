"""The settings that a stack was started with: recorded at its start; out, what somebody asks for that differs.

A stack that runs keeps its settings until it is started again. What the stack itself sets for its programs (addresses,
ports, accounts, directories) is not compared: a shell with its stack.env has those.
"""

import hmac
import json
import secrets
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from app.local.servers.common import write_private
from app.settings import Settings
from app.settings.resolved.resolved import shown

SALT = "salt"  # of the digests of secrets, which are not kept


def record(path: Path, settings: Settings) -> None:
    """Write the settings to the file `path` (mode 0600): JSON, of a secret a digest. Raises OSError."""
    salt = secrets.token_hex(16)
    write_private(path, json.dumps({SALT: salt, **_comparable(settings, salt)}, indent=1) + "\n")


def differences(path: Path, settings: Settings, own: Collection[str]) -> list[str]:
    """A line for each setting that differs from the recorded one, without secrets; none where nothing was recorded.
    `own` are the fields that the stack itself sets.
    """
    try:
        recorded: Mapping[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError):
        return []
    if not isinstance(recorded, dict) or not isinstance(recorded.get(SALT), str):
        return []
    now = _comparable(settings, recorded[SALT])
    return [
        _line(name, recorded[name], value)
        for name, value in now.items()
        if name not in own and name in recorded and recorded[name] != value
    ]


def _comparable(settings: Settings, salt: str) -> dict[str, Any]:
    made = {}
    for name in Settings.model_fields:
        value = getattr(settings, name)
        if isinstance(value, SecretStr):
            made[name] = hmac.digest(salt.encode(), value.get_secret_value().encode(), "sha256").hex()
        else:
            made[name] = shown(name, value)
    return made


def _line(name: str, then: Any, now: Any) -> str:
    if "SecretStr" in str(Settings.model_fields[name].annotation):
        return f"IOT_{name.upper()} is another one"
    words = ["not set" if value is None else json.dumps(value) for value in (then, now)]
    return f"IOT_{name.upper()} is {words[0]}, not {words[1]}"
