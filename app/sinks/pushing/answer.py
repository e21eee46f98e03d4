"""The receiver's answer to a batch, as a lane uses the answer."""

from collections.abc import Collection, Mapping
from typing import NamedTuple, TypeAlias

LATER = "rate_limited"  # the reason for a valid item that the receiver will take later
SHOWN = 200  # most characters of a receiver's message


class BatchTaken(NamedTuple):
    """The receiver has the batch, except the items named here."""

    rejected: Mapping[int, str] = {}  # index -> why the item is never taken
    later: Collection[int] = ()  # indices of items to send again


class BatchRefused(NamedTuple):
    """The receiver would never take this batch."""

    why: str


class FailedOver(NamedTuple):
    """The receiver reports that it failed on the batch; a record of the batch may be the cause."""

    why: str


ReceiverAnswer: TypeAlias = BatchTaken | BatchRefused | FailedOver


def said(text: str) -> str:
    """A receiver's message, on one line, without control characters."""
    line = " ".join(text.split())[:SHOWN]
    return "".join(char if char.isprintable() else "?" for char in line)
