"""What a receiver answers to a batch, as it matters to a lane."""

from collections.abc import Collection, Mapping
from typing import NamedTuple, TypeAlias

LATER = "rate_limited"  # a receiver's reason for an item that is good, and that it takes another time
SHOWN = 200  # characters of what a receiver says, at most


class BatchTaken(NamedTuple):
    """It has the batch, but for some of it."""

    rejected: Mapping[int, str] = {}  # by their place: never, and why
    later: Collection[int] = ()  # by their place: another time


class BatchRefused(NamedTuple):
    """It would never take the batch as it is."""

    why: str


class FailedOver(NamedTuple):
    """It failed over the batch, by its own account: something in it may be why."""

    why: str


ReceiverAnswer: TypeAlias = BatchTaken | BatchRefused | FailedOver


def said(text: str) -> str:
    """What a receiver said, on one line, without what a terminal or a log would act on."""
    line = " ".join(text.split())[:SHOWN]
    return "".join(char if char.isprintable() else "?" for char in line)
