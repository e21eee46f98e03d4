"""When a record came in: one bounded time for everybody who asks, whatever a producer has put on the record.

The header `ingest_ms` counts first, for the header survives a replay, which gives a record a new timestamp; so limits,
snoozes and alerts of a replay are the same as the first time. A producer that gives Kafka seconds or microseconds where
milliseconds belong is not believed, nor is a clock that is a day ahead.
"""

from datetime import UTC, datetime, timedelta

from app.core.model.records import Record

INGEST = "ingest_ms"  # header: when a gateway took the message in, milliseconds since 1970
EARLIEST_MS = 946_684_800_000  # the year 2000; seconds, taken for milliseconds, are January 1970
AHEAD_MS = 86_400_000  # of the worker's clock
LATEST_MS = 4_102_444_800_000  # the year 2100; microseconds, taken for milliseconds, are later
REPLAYED = "replay_count"  # header: how often the record was put back from the dead-letter topic
LIVE_MS = 60_000  # a live record takes at most so long from its gateway to Kafka's log

MS_DIGITS = 16  # a header with as many digits or more is not read: int() takes long for very many
Times = dict[tuple[str, bytes], int]  # header -> what it says
TIMES = 10_000  # headers that are kept by a caller of `arrival`, beside those of one batch: 2 MB
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def said_ms(record: Record, now_ms: int) -> int | None:
    """When the record came in by its own account, milliseconds since 1970; None when no such time is plausible at
    `now_ms` (milliseconds since 1970, the worker's clock).
    """
    latest = now_ms + AHEAD_MS
    for name, value in record.headers:
        if name == INGEST and value is not None and value.isdigit() and len(value) < MS_DIGITS:
            ms = int(value)
            if EARLIEST_MS <= ms <= latest:
                return ms
    at = record.timestamp
    return at if EARLIEST_MS <= at <= latest else None


def arrived_ms(record: Record, now_ms: int) -> int:
    """When the record came in, milliseconds since 1970: its header `ingest_ms`, else Kafka's timestamp, else the
    worker's clock `now_ms`, whichever is plausible first.
    """
    said = said_ms(record, now_ms)
    return now_ms if said is None else said


def is_replay(record: Record) -> bool:
    """Whether the record was put back from the dead-letter topic."""
    return any(name == REPLAYED for name, _ in record.headers)


def is_live(record: Record, at: int) -> bool:
    """Whether the record, which came in `at` (milliseconds since 1970), was in the log within LIVE_MS after that.

    A replay was not.
    """
    if said_ms(record, at) is None or is_replay(record):
        return False
    stamp = record.timestamp
    return abs(stamp - at) <= LIVE_MS or not EARLIEST_MS <= stamp < LATEST_MS


def moment_of(ms: int) -> datetime:
    """The time, in UTC, of milliseconds since 1970."""
    return _EPOCH + timedelta(milliseconds=ms)


def arrival(record: Record, now_ms: int, known: Times) -> int:
    """`arrived_ms` of the record. When the third header says that time, where a bridge puts it, `known` keeps the time
    under this header.

    A record with the same third header, and no other header of that name before the third, came in at the same time: a
    caller in a hurry looks into `known` and need not read the header again.
    """
    headers = record.headers
    if len(headers) > 2 and headers[0][0] != INGEST and headers[1][0] != INGEST:
        header = headers[2]
        name, value = header
        if name == INGEST and value is not None and value.isdigit() and len(value) < MS_DIGITS:
            ms = int(value)
            if EARLIEST_MS <= ms <= now_ms + AHEAD_MS:
                known[header] = ms
                return ms
    return arrived_ms(record, now_ms)
