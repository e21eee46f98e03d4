"""An alert event on its way from the alert topic to the broker."""

from typing import Any

from app.notify.alert_records import AlertRecord
from app.notify.publishing import Message

Place = tuple[Any, int]  # partition, offset


class InHand:
    """An event on its way, when it was taken (ns since 1970), and where it was read; it may have been read again."""

    __slots__ = ("found", "message", "places", "since")

    def __init__(self, found: AlertRecord, message: Message, place: Place, since: int) -> None:
        self.found, self.message, self.places, self.since = found, message, [place], since
