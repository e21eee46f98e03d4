"""What somebody is told whose rules or command were refused: a message on a topic beside the one they came on."""

from datetime import datetime
from hashlib import blake2b
from typing import NamedTuple

import msgspec
from msgspec import Struct

from app.core.decode import ingest_time
from app.core.fault import printable
from app.core.model import Kind, Rejected
from app.core.mqtt_topics import device_key

PAYLOAD_MAX = 1000  # characters of what was refused, so that its sender knows it again
_TOPICS = {Kind.CONFIG: "config/errors", Kind.ALERTS_MANAGE: "alerts/errors"}


class Answer(NamedTuple):
    """Goes by way of the outbox to the notifier, which publishes it as it is."""

    key: bytes  # on the outbox: one user's answers keep their order
    value: bytes  # JSON
    topic: str  # of MQTT


class _Body(Struct):
    id: str  # the same when it is told again, so that a receiver can drop repeats
    reason: str
    error: str
    payload: str
    received: datetime | None


def answer(rejected: Rejected, kind: Kind, user_id: str, partition: int) -> Answer | None:
    """The answer to a refused record of `partition`; None where nobody is to be told, or nobody knows whom."""
    topic = _TOPICS.get(kind)
    if topic is None or not user_id:
        return None
    record = rejected.record
    name = msgspec.json.encode([user_id, topic, partition, record.offset])
    received = ingest_time(record)
    body = _Body(
        id=blake2b(name, digest_size=16).hexdigest(),
        reason=rejected.reason,
        error=rejected.detail,
        payload=printable(record.value or b"", PAYLOAD_MAX),
        received=received,
    )
    return Answer(device_key(user_id, ""), msgspec.json.encode(body), f"users/{user_id}/{topic}")
