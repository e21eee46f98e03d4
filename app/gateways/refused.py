"""A record Kafka refuses for ever (too large) -> its dead letter, in the envelope every dead letter has."""

import base64
from datetime import UTC, datetime

import msgspec

from app.core.model import Reason, Stage
from app.gateways.records import Outgoing


def dead_letter(record: Outgoing, topic: str) -> tuple[bytes, bytes, list[tuple[str, bytes]]]:
    """Key, value and headers for the dead-letter topic. It never had an offset, so its source has none (-1)."""
    envelope = {
        "original_topic": topic,
        "error": f"Kafka refuses a record of {len(record.value)} bytes: larger than the topic's max.message.bytes",
        "timestamp": datetime.now(UTC).isoformat(),
        "payload_base64": base64.b64encode(record.value).decode(),
        "reason": Reason.PAYLOAD_TOO_LARGE.value,
        "stage": Stage.ROUTE.value,
        "source": {
            "topic": topic,
            "partition": -1,
            "offset": -1,
            "key": record.key.decode("utf-8", "backslashreplace"),
        },
        "replay_count": 0,
    }
    headers = [*record.headers, ("reason", Reason.PAYLOAD_TOO_LARGE.value.encode())]
    return record.key, msgspec.json.encode(envelope), headers
