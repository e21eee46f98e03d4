"""A record of the dead-letter topic -> the dead letter, with its place, its time and whose it is."""

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Struct

from app.core.deadletters.envelope import DeadLetter
from app.core.deadletters.letters import read_letter
from app.core.routing.mqtt_topics import route

OTHER = "other"  # stands for a reason that the letter does not name


class Letter(Struct, frozen=True):
    """A dead letter and where it is. Ids are empty where neither topic, key nor payload names them."""

    partition: int
    offset: int
    at_ms: int  # Kafka's time of it, milliseconds since 1970
    key: bytes | None
    value: bytes
    headers: Sequence[tuple[str, bytes]]
    dead: DeadLetter
    user_id: str
    device_id: str

    @property
    def reason(self) -> str:
        """Why it was refused; OTHER where nothing says so."""
        return self.dead.reason or OTHER


class _PayloadIds(Struct):
    user_id: str = ""
    device_id: str = ""


_ids = msgspec.json.Decoder(_PayloadIds).decode


def letter_of(record: Any) -> Letter | None:
    """The letter in a record of the dead-letter topic; None where the record has no envelope. Never raises."""
    dead = read_letter(record.value, record.headers, record.key)
    if dead is None:
        return None
    user, device = _whose(dead)
    return Letter(
        record.partition, record.offset, record.timestamp, record.key, record.value, record.headers, dead, user, device
    )


def _whose(dead: DeadLetter) -> tuple[str, str]:
    """User (or node) and device of the original: by its topic, else by its key, else by its payload."""
    found = route(dead.original_topic)
    if found.user_id:
        return found.user_id, found.device_id
    levels = dead.original_topic.split("/")
    if len(levels) > 1 and levels[0] in ("users", "iot"):
        return levels[1], ""
    user, _, device = (dead.key or b"").decode("utf-8", "replace").partition("/")
    if user and device and len(levels) == 1:
        return user, device
    try:
        ids = _ids(dead.payload)
    except (ValueError, RecursionError):
        return "", ""
    return ids.user_id, ids.device_id
