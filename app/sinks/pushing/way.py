"""Whether a sink's record is of a node: the key `iot/node/sensor` is, the key `iot/device` is of the user iot."""

from app.sinks.record import SinkRecord


def is_of_node(record: SinkRecord) -> bool:
    """Whether a record came from `iot/{node}/...`, and not from a user's device."""
    key = record.key  # no id has a slash in it
    return key.startswith("iot/") and (not record.device_id or key.count("/") == 2)
