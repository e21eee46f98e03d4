"""Which log a partition's offsets are of: in, what was noted with the mark and what Kafka says; out, a PartitionLog.

A topic that is deleted and made anew, a cluster that takes over, or an unclean election leaves a log whose offsets mean
other records than those a state has applied. So each partition counts the logs it has had: the generation. A state of
an earlier generation begins its offsets anew, and keeps what is known of the device.
"""

from enum import Enum

import msgspec
from msgspec import Struct

LOG_KEY = b"\0log"  # in the state table, beside the mark; no device has this key
NAMELESS = "-"  # the identity of every log of a broker that names none


class PartitionLog(Struct, frozen=True):
    """The log of one partition. `identity` is the topic's id; empty: nobody has asked for it, and nothing is noted."""

    generation: int = 0
    identity: str = ""
    election: int = -1  # how many leaders the partition has had, as Kafka counts them; -1: not known


class NotedLog(Struct, array_like=True, frozen=True):
    """What a worker notes with a partition's mark. Fields are added at the end only."""

    version: int
    offset: int  # the mark: everything up to this offset is applied
    generation: int
    identity: str
    timestamp: int = -1  # of the record at `offset`, milliseconds since 1970
    election: int = -1


class PresentLog(Struct, frozen=True):
    """A partition's log as Kafka has it now, from offset `start` (first kept) to `end` (next written)."""

    identity: str
    start: int
    end: int
    election: int = -1
    timestamp: int | None = None  # of the record at the noted offset; None: not looked up, or not held


class Verdict(Enum):
    """Whether the states belong to this log."""

    SAME = "same"
    OTHER = "the topic was made anew, or another cluster took over"
    CUT = "the log has lost what was applied: it was cut, or made anew"


_decode = msgspec.msgpack.Decoder(NotedLog).decode
_encode = msgspec.msgpack.Encoder().encode


def note(log: PartitionLog, offset: int, timestamp: int) -> bytes:
    """What is kept under LOG_KEY once everything up to `offset` is applied; `timestamp` is that of the record there, in
    milliseconds since 1970.
    """
    return _encode((1, offset, log.generation, log.identity, timestamp, log.election))


def noted(data: bytes) -> NotedLog | None:
    """Read back what `note` made; None for other bytes."""
    try:
        return _decode(data)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None


def look_closer(before: NotedLog, now: PresentLog) -> bool:
    """Whether the record at the noted offset has to say if the log is still the same, and Kafka holds this record.

    A log that has had another election may have lost its end and grown again. Where a broker names no log, this record
    is all that shows which log it is.
    """
    unsure = NAMELESS in (before.identity, now.identity) or before.election != now.election
    return unsure and before.timestamp >= 0 and now.start <= before.offset < now.end


def judge(before: NotedLog, now: PresentLog) -> tuple[PartitionLog, Verdict]:
    """The log that is there now, and why it is another log, if it is; `look_closer` says what to look up before.

    A note `before` with an empty identity, of a worker that did not know any identity, belongs to the log that is
    there, unless this log ends too early.
    """
    named = before.identity not in ("", NAMELESS) and now.identity not in ("", NAMELESS)
    verdict = Verdict.SAME
    if named and before.identity != now.identity:
        verdict = Verdict.OTHER
    elif now.end <= before.offset:
        verdict = Verdict.CUT
    elif before.timestamp >= 0 and now.timestamp is not None and now.timestamp != before.timestamp:
        verdict = Verdict.CUT if named else Verdict.OTHER
    generation = before.generation + (verdict is not Verdict.SAME)
    return PartitionLog(generation, now.identity or before.identity, now.election), verdict


_PREFIX = "log="


def signature(log: PartitionLog) -> str:
    """The metadata that is committed with an offset: it says to which log the offset belongs."""
    return f"{_PREFIX}{log.identity}" if log.identity else ""


def commit_counts(metadata: str, log: PartitionLog, verdict: Verdict) -> bool:
    """Whether a committed offset belongs to this log.

    An offset without a signature is an operator's, or an older program's: it counts as long as the log is the same.
    Where a log was cut nobody knows: all that is left of such a log is read again.
    """
    signed = metadata.removeprefix(_PREFIX) if metadata.startswith(_PREFIX) else ""
    if not signed or NAMELESS in (signed, log.identity):
        return verdict is Verdict.SAME
    return signed == log.identity and verdict is not Verdict.CUT
