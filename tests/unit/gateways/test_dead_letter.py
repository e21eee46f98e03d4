"""Dead letters of items that a gateway refuses: which items become one, and what a letter holds."""

import json
from base64 import b64decode

from app.core.model.records import Reason
from app.gateways.dead_letter import refused_items
from app.gateways.telemetry_record import PAYLOAD_BYTES, Rejection

NOW = 1_795_226_400_000
BAD = Rejection(Reason.BAD_JSON.value, "it is none")


def test_an_item_is_kept_as_it_was_sent_with_its_reason() -> None:
    (kept,) = refused_items([(b"\xff no", BAD)], "alice", b"tcp", NOW, "iot-stream")
    letter = json.loads(kept.value)
    assert (letter["original_topic"], letter["reason"]) == ("users/alice", "bad_json")
    assert b64decode(letter["payload_base64"]) == b"\xff no"
    assert dict(kept.headers)["gateway"] == b"tcp"


def test_what_comes_again_and_what_the_topic_would_refuse_is_not_kept() -> None:
    """Kafka's refusal of one would have the producer replaced, so that it held up everybody."""
    limited = Rejection(Reason.RATE_LIMITED.value, "later")
    items = [(b"again", limited), (bytes(PAYLOAD_BYTES + 1), BAD), (bytes(PAYLOAD_BYTES), BAD)]
    assert [one.kind.value for one in refused_items(items, "alice", b"http", NOW, "iot-stream")] == ["unknown"]
