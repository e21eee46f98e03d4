"""What the changelog of device states says, whatever order its records came in.

A worker that was stalled for longer than its session, and does not know yet that its partitions are somebody else's,
may write an older state behind a newer one. A state holds everything up to its applied offset, so the one that has
seen most is right.
"""

from collections.abc import Callable, Iterable, Mapping

from app.core.devices import MARK_KEY
from app.core.state import applied_offset


def newest(
    records: Iterable[tuple[bytes, bytes | None]], read: Callable[[bytes], bytes | None], overtaken: set[bytes]
) -> Mapping[bytes, bytes | None]:
    """What to store of a run of a partition's changelog, in the order of the log; None means: delete.

    `read` gives what is stored now. Keys whose last record is older than what is known are put into `overtaken`, the
    others are taken out: compaction would keep the older state of those, so they have to be written again.
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


def _seen(key: bytes, value: bytes) -> int:
    """Offset up to which this value has seen its partition; -1 when it does not say."""
    if key == MARK_KEY:
        return int(value) if value.isdigit() else -1
    return applied_offset(value)
