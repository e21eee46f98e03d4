"""The reply to refused rules and commands."""

from typing import NamedTuple


class Reply(NamedTuple):
    """Goes by way of the outbox to the notifier, which publishes it as it is."""

    key: bytes  # on the outbox: one user's answers keep their order
    value: bytes  # JSON
    topic: str  # of MQTT
