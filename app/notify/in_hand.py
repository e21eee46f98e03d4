"""An alert event on its way from the alert topic to the broker."""

from typing import Any

from app.notify.alert_records import AlertRecord
from app.notify.publishing import Message

Place = tuple[Any, int]  # partition, offset


class InHand:
    """An event on its way, and where it was read; an event that was read again has more than one place."""

    __slots__ = ("found", "message", "places", "since")

    def __init__(self, found: AlertRecord, message: Message, place: Place, since: int) -> None:
        """`since` is when the event was taken from the alert topic, in nanoseconds since 1970."""
        self.found, self.message, self.places, self.since = found, message, [place], since
