"""What the changelog of device states says, whatever order its records came in.

A worker that was stalled for longer than its session, and does not know yet that its partitions are somebody else's,
may write an older state behind a newer one. A state holds everything up to its applied offset, so the state that has
seen most is right, and a state of a later log beats every other (app.core.state.partition_log).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping

from app.core.state.device_state import seen
from app.core.state.keys import MARK_KEY, mark_of
from app.core.state.partition_log import LOG_KEY, noted

MARKS = (MARK_KEY, LOG_KEY)


def newest(
    records: Iterable[tuple[bytes, bytes | None]], read: Callable[[bytes], bytes | None], overtaken: set[bytes]
) -> Mapping[bytes, bytes | None]:
    """What to store of a run of a partition's changelog, in the order of the log; None means: delete.

    `read` gives what is stored now. Keys whose last record is older than what is known are put into `superseded`, all
    other keys are taken out: compaction would keep the older state of a superseded key, so its state has to be written
    again.
    """
    found: dict[bytes, bytes | None] = {}
    for key, value in records:
        known = found[key] if key in found else read(key)
        if value is not None and known is not None and _seen(key, value) < _seen(key, known):
            overtaken.add(key)
        else:
            found[key] = value
            overtaken.discard(key)
    return found


def _seen(key: bytes, value: bytes) -> tuple[int, int]:
    """How far this value has seen its partition: generation of the log, and offset; -1 when the value does not say."""
    if key == MARK_KEY:
        return (0, mark_of(value))
    if key == LOG_KEY:
        found = noted(value)
        return (found.generation, found.offset) if found else (-1, -1)
    return seen(value)


def marks_last(states: Iterable[tuple[bytes, bytes]]) -> Iterator[tuple[bytes, bytes]]:
    """(key, state) of a partition in the order to write them: a crash in between leaves no mark ahead of a state.

    A device without a state begins at the mark: with a mark that was written before the device's state, nothing would
    be known of what the readings in between did.
    """
    marks = []
    for key, value in states:
        if key in MARKS:
            marks.append((key, value))
        else:
            yield key, value
    yield from marks
