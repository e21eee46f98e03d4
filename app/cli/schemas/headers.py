"""The headers and keys of Kafka's records as JSON Schemas; each header is a text in UTF-8."""

from typing import Any

from app.core.deadletters import envelope
from app.core.model import headers
from app.core.model.arrival import INGEST, REPLAYED
from app.core.model.records import Kind, Reason

Json = dict[str, Any]

KEY: Json = {"type": "string", "description": "user/device; of iot/* the node. It keeps the order of a device."}
_NUMBER: Json = {"type": "string", "pattern": "^-?[0-9]+$"}
_FLAG: Json = {"type": "string", "enum": ["0", "1"]}
_INPUT: Json = {
    headers.TOPIC: {"type": "string", "description": "the MQTT topic, or the one that it would have come by"},
    headers.KIND: {"type": "string", "enum": list(Kind)},
    INGEST: {**_NUMBER, "description": "when it came in, milliseconds since 1970"},
    headers.PACKET_ID: {**_NUMBER, "description": "the packet id under which the bridge received it"},
    headers.REDELIVERED: {**_FLAG, "description": "the MQTT broker had sent it before"},
    headers.RETAINED: {**_FLAG, "description": "the MQTT broker had kept it for new subscribers"},
    headers.GATEWAY: {"type": "string", "description": "the way in, other than MQTT: http, tcp, grpc, quic"},
    REPLAYED: {**_NUMBER, "description": "how often it was put back from the dead letters"},
    "traceparent": {"type": "string", "description": "W3C Trace Context"},
    "tracestate": {"type": "string", "description": "W3C Trace Context"},
}
_DEAD: Json = {
    envelope.REASON: {"type": "string", "enum": list(Reason)},
    envelope.ORIGINAL_TOPIC: {"type": "string"},
    envelope.ORIGINAL_PARTITION: _NUMBER,
    envelope.ORIGINAL_OFFSET: _NUMBER,
    envelope.ORIGINAL_TIMESTAMP: {**_NUMBER, "description": "milliseconds since 1970"},
    envelope.EXCEPTION: {"type": "string"},
}


def of_message(name: str) -> Json:
    """The headers of a record with the message `name` of the catalogue."""
    if name == "dead-letter":
        always = [one for one in _DEAD if one not in (envelope.ORIGINAL_PARTITION, envelope.ORIGINAL_OFFSET)]
        return {"type": "object", "properties": {**_INPUT, **_DEAD}, "required": always}
    if name == "refusal":
        return {"type": "object", "properties": {headers.TOPIC: _INPUT[headers.TOPIC]}, "required": [headers.TOPIC]}
    if name == "alert":
        return {"type": "object", "properties": {"traceparent": _INPUT["traceparent"]}}
    return {"type": "object", "properties": _INPUT}
