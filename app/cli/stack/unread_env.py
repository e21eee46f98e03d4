"""A local stack whose addresses a command has not read: out, the line that says how."""

from app.errors import SettingsError
from app.local.layout import default_root
from app.settings.resolved.resolved import DEFAULT, resolved

_ADDRESSES = ("IOT_KAFKA_BROKER", "IOT_DATABASE_URL", "IOT_MQTT_HOST")


def unread_env() -> str | None:
    """What to do in a directory where a local stack runs, when no setting names an address; None: there is nothing."""
    env = default_root() / "stack.env"
    try:
        if not env.exists() or any(one.source != DEFAULT for one in resolved() if one.name in _ADDRESSES):
            return None
    except (SettingsError, OSError):
        return None
    return f"a local stack runs in {env.parent}, whose settings are not read: set -a; . {env}; set +a"
