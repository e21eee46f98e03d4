"""An answer of a server that takes line protocol -> its meaning: taken, refused for ever, or unavailable and why."""

import msgspec

from app.core.model.fault import printable
from app.sinks.port import SinkUnavailable

# The lines are at fault, not the settings; 413: too many bytes, 422: InfluxDB 2 cannot store the lines.
OF_THE_LINES = frozenset({400, 413, 422})
OF_THE_SETTINGS = frozenset({401, 403, 404})
RETRY_AFTER_MAX = 300.0  # seconds
SHOWN = 300  # most characters of a server's message


class _InfluxAnswer(msgspec.Struct):
    """Fields of the servers' JSON; any other answer is quoted unchanged."""

    error: str = ""
    message: str = ""


_json = msgspec.json.Decoder(_InfluxAnswer).decode


def words(body: bytes) -> str:
    """The server's message, on one line; "" for an empty answer."""
    try:
        found = _json(body)
        text = found.message or found.error
    except (msgspec.DecodeError, UnicodeDecodeError):
        text = ""
    return printable((text or body.decode("utf-8", "replace")).strip(), SHOWN)


def cure(status: int, said: str, version: int) -> str:
    """What an operator has to do about a status of OF_THE_SETTINGS; `said` is the server's message."""
    if status == 404 and any(word in said for word in ("bucket", "database", "organization")):
        return "create what IOT_INFLUX_BUCKET and IOT_INFLUX_ORG name, or correct them"
    if status == 404:
        return f"the server does not know the address: IOT_INFLUX_URL is wrong, or IOT_INFLUX_VERSION is {3 - version}"
    account = "IOT_INFLUX_TOKEN" if version == 2 else "IOT_INFLUX_USERNAME and IOT_INFLUX_PASSWORD, or IOT_INFLUX_TOKEN"
    return f"set {account} to an account that may write to what IOT_INFLUX_BUCKET names"


def unavailable(status: int, body: bytes, retry_after: str, version: int) -> SinkUnavailable:
    """The exception for a status that is neither 2xx nor in OF_THE_LINES."""
    said = words(body)
    why = f"the server answers {status}{f': {said}' if said else ''}"
    if status in OF_THE_SETTINGS:
        return SinkUnavailable(why, cure=cure(status, said, version))
    if 300 <= status < 400:
        return SinkUnavailable(
            why, cure="redirections are not followed: set IOT_INFLUX_URL to the target of the redirection"
        )
    wait = float(retry_after) if retry_after.isascii() and retry_after.isdigit() and len(retry_after) < 7 else 0.0
    return SinkUnavailable(why, retry_after=min(wait, RETRY_AFTER_MAX))
