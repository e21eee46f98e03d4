"""Whose a reading is: ids of topic, payload and key that agree and can be stored, or what is wrong with them."""

import re

from app.core.model.fault import Fault, printable
from app.core.model.keys import CACHED_LENGTH, CACHED_TOPICS, device_key
from app.core.model.records import Reason, Stage

# user_id and device_id in UTF-8, together. A btree entry holds 2704 bytes; raw_telemetry's takes up to 42 more than
# its ids, and active_alerts puts a rule_id next to them, which this leaves 600 bytes for.
IDS_MAX_BYTES = 2048


# What MQTT 5 (section 1.5.4) advises against: control characters, and what Unicode says is no character. Brokers end
# the connection of a client that publishes to a topic with such a character: one such alert would stop all alerts.
_PLANE_ENDS = "".join(chr(plane << 16 | end) for plane in range(17) for end in (0xFFFE, 0xFFFF))
_not_in_topics = re.compile(f"[\x01-\x1f\x7f-\x9f\ufdd0-\ufdef{_PLANE_ENDS}]").search


def ids_fault(user_id: str, device_id: str) -> Fault | None:
    """What keeps a pair of ids from being stored as a key, or from being in a topic; None when nothing does.

    A NUL or another control character, a noncharacter, or too many bytes is a fault.
    """
    if "\0" in user_id or "\0" in device_id:
        return Fault(Reason.NUL_CHARACTER, Stage.VALIDATE, "user_id or device_id contains U+0000; leave it out")
    for name, value in (("user_id", user_id), ("device_id", device_id)):
        if (found := bad_character(value)) is not None:
            detail = f"{name} {printable(value)} contains U+{ord(found):04X}, which MQTT advises against; leave it out"
            return Fault(Reason.BAD_ID, Stage.VALIDATE, detail)
    size = len(user_id.encode()) + len(device_id.encode())
    if size > IDS_MAX_BYTES:
        detail = f"user_id and device_id are {size} bytes together; {IDS_MAX_BYTES} fit into the primary key"
        return Fault(Reason.KEY_TOO_LONG, Stage.VALIDATE, detail)
    return None


def bad_character(text: str) -> str | None:
    """The first control character (but for NUL) or noncharacter of `text`; None when there is none."""
    found = _not_in_topics(text)
    return found[0] if found else None


_own: dict[tuple[str, str], bytes] = {}  # ids -> key, for ids that are plainly good


def is_own(user_id: str, device_id: str, key: bytes | None) -> bool:
    """True when ids from a payload without a topic are plainly good and a key `user/device` agrees.

    False says that own_fault has to look; ids too long for the cache always get False.
    """
    own = _own.get((user_id, device_id)) or _remember(user_id, device_id)
    return own != b"" and (own == key or key is None or b"/" not in key)


def own_fault(user_id: str, device_id: str, key: bytes | None) -> Fault | None:
    """What is wrong with ids from a payload without a topic; None when nothing is.

    A key without "/" is not of our making and says nothing about the ids.
    """
    own = device_key(user_id, device_id)
    if key is not None and key != own and b"/" in key:
        detail = f"the payload is of {printable(own)} but the record's key is {printable(key)}; send the same"
        return Fault(Reason.IDENTITY_MISMATCH, Stage.VALIDATE, detail)
    return ids_fault(user_id, device_id)


def _remember(user_id: str, device_id: str) -> bytes:
    """The Kafka key of a device; empty, and not kept, when its ids are not good or long."""
    if len(user_id) + len(device_id) > CACHED_LENGTH:
        return b""
    bad = not user_id or not device_id or "/" in user_id or "/" in device_id or ids_fault(user_id, device_id)
    if bad:
        return b""
    if len(_own) >= CACHED_TOPICS:
        _own.clear()
    _own[user_id, device_id] = key = device_key(user_id, device_id)
    return key
