"""The reply to refused rules and commands."""

from typing import NamedTuple


class Reply(NamedTuple):
    """A message that goes through the outbox to the notifier, which publishes `value` unchanged."""

    key: bytes  # Kafka key on the outbox: the answers to one user keep their order
    value: bytes  # JSON
    topic: str  # of MQTT
