"""MQTT topic -> Route: what a message is about, whose it is, and the Kafka key that keeps its order.

The rules are as in vector.toml, so that either bridge may run. A level cannot hold "/", so a key is unambiguous.
"""

from functools import lru_cache

from msgspec import Struct

from app.core.model.keys import CACHED_LENGTH, CACHED_TOPICS, _encode, device_key
from app.core.model.records import Kind


class Route(Struct, frozen=True, gc=False):
    """Where a message belongs. Ids the topic does not name are empty strings; no topic names an empty id."""

    kind: Kind
    user_id: str  # for iot/* the nodeId
    device_id: str  # for iot/{nodeId}/{sensorId}/telemetry the sensorId
    key: bytes  # Kafka key; for alerts_manage only the user: the device is in the payload, see manage_key


def route(topic: str) -> Route:
    """Route an MQTT topic. Never raises; a topic that matches nothing is Kind.UNKNOWN, keyed by the topic itself."""
    return _cached(topic) if len(topic) <= CACHED_LENGTH else _route(topic)


def manage_key(route: Route, device_id: str) -> bytes:
    """Kafka key of an alerts_manage message: the key of the device that the message is about, whose state it must
    meet in order.
    """
    return device_key(route.user_id, device_id)


def is_own_output(topic: str) -> bool:
    """True for a topic below users/ to which this project itself publishes: a bridge must not bring it in."""
    match topic.split("/"):
        case ["users", _, "alerts"] | ["users", _, "alerts" | "config", "errors"]:
            return True
    return False


def _route(topic: str) -> Route:
    levels = topic.split("/")
    if "" in levels:
        return Route(Kind.UNKNOWN, "", "", _encode(topic))
    match levels:
        case ["users", user, "devices", device, "telemetry"]:
            return Route(Kind.TELEMETRY, user, device, device_key(user, device))
        case ["users", user, "config"]:
            return Route(Kind.CONFIG, user, "", _encode(user))
        case ["users", user, "alerts", "manage"]:
            return Route(Kind.ALERTS_MANAGE, user, "", _encode(user))
        case ["iot", node, "status"]:
            return Route(Kind.STATUS, node, "", _encode(node))
        case ["iot", node, sensor, "telemetry"]:
            return Route(Kind.TELEMETRY, node, sensor, _encode(node))
    return Route(Kind.UNKNOWN, "", "", _encode(topic))


_cached = lru_cache(maxsize=CACHED_TOPICS)(_route)
