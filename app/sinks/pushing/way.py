"""A record of a sink in, whether it is of a node out: `iot/node/sensor` is, `iot/device` is of the user iot."""

from app.sinks.record import SinkRecord


def is_of_node(record: SinkRecord) -> bool:
    """Whether a record came by `iot/{node}/...`, and not from a device of a user."""
    key = record.key  # no id has a slash in it
    return key.startswith("iot/") and (not record.device_id or key.count("/") == 2)
