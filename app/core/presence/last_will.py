"""What a status message says: a payload in, its word out, and whether the word is a last will as devices really send.

Tasmota has `Offline`, Shelly `false`, ESPurna `0`, Zigbee2MQTT `{"state": "offline"}`, Homie `lost`, others
`disconnected` or `{"online": false}`. All mean the same: the sender is not there.
"""

import msgspec

# Compared without case, and with spaces, - and _ left out.
_OFFLINE_WORDS = frozenset(
    {
        "offline", "false", "0", "0.0", "no", "lost", "connectionlost", "lostconnection", "disconnect", "disconnected",
        "disconnecting", "notconnected", "unconnected", "down", "dead", "died", "gone", "unavailable", "notavailable",
        "unreachable", "notreachable", "notalive", "notonline", "shutdown", "terminated", "lwt", "lastwill",
    }
)  # fmt: skip
STATUS_WORDS = ("status", "state", "availability", "connection", "lwt")  # fields with a word; the first field counts
STATUS_FLAGS = ("online", "connected", "available", "alive", "reachable")  # fields that say yes or no
_APART = str.maketrans("", "", " -_")
_AROUND = " \t\r\n\"'"

_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_string = msgspec.json.Decoder(str).decode
_scalar = msgspec.json.Decoder(bool | float | None).decode


def says_offline(word: str) -> bool:
    """Whether a status is a last will; any other word is a sign of life."""
    return word.strip(_AROUND + ".!").casefold().translate(_APART) in _OFFLINE_WORDS


def word_of(payload: bytes) -> str:
    """The word of a status: the payload itself, or a field of an object; a flag that says no wins.

    Raises UnicodeDecodeError, KeyError when an object has no such field, and msgspec.DecodeError or RecursionError.
    """
    if not payload.lstrip().startswith(b"{"):
        return payload.decode().strip(_AROUND)
    fields = {name.casefold(): bytes(value) for name, value in _object(payload).items()}
    word = _first(fields, STATUS_WORDS)
    flag = _first(fields, STATUS_FLAGS)
    if flag is None:
        if word is None:
            raise KeyError("status")
        return word
    if says_offline(flag):
        return word if word is not None and says_offline(word) else "offline"
    return "online" if word is None else word


def _first(fields: dict[str, bytes], names: tuple[str, ...]) -> str | None:
    """The text of the first of these fields that is there and not null."""
    for name in names:
        raw = fields.get(name, b"null")
        if raw.startswith(b'"'):
            return _string(raw).strip(_AROUND)
        if _scalar(raw) is not None:
            return raw.decode()
    return None
