"""The sink `redis`: records in; out, the last value of each device and, by setting, a stream of each user.

Writes are idempotent: a value is not replaced by an older value, and the marks of a stream hold the last offset of each
partition.
"""

import time
from collections.abc import Collection, Mapping, Sequence

from app.core.model.namespaces import IOT, owner_of
from app.core.model.records import Kind
from app.settings import Settings
from app.sinks.flush_progress import FlushProgress
from app.sinks.port import Flushed, Held, MayWrite, SinkMisconfigured, SinkUnavailable, always
from app.sinks.record import SinkRecord
from app.sinks.record_memory import memory
from app.sinks.redis.client import RedisClient
from app.sinks.redis.scripts import LAST_VALUES, STREAMS
from app.sinks.redis.values import newest, value_maker
from app.sinks.sink_metrics import WRITTEN_BYTES

CALL_MAX = 4 << 20  # bytes of payloads in a call, unless a single payload is longer


class RedisSink:
    """Buffers records and writes them in calls of at most `redis_batch` records."""

    kind = "redis"
    linger = 0.0  # readers of last values need them at once

    def __init__(self, name: str, settings: Settings) -> None:
        """Raises SinkMisconfigured for settings that contradict each other."""
        if set(settings.sink_kinds) != {Kind.TELEMETRY}:
            raise SinkMisconfigured("IOT_SINK_KINDS: the sink redis takes telemetry alone")
        self.name = name
        self._client = RedisClient(settings)
        self._value = value_maker(settings.telemetry_schema)
        self._prefix, self._most = settings.redis_prefix, settings.redis_batch
        self._ttl, self._stream_max = settings.redis_ttl, settings.redis_stream_max
        self._setback_ms = settings.redis_setback_seconds * 1000
        self._records: list[SinkRecord] = []
        self._bytes = 0
        self._oldest: float | None = None
        self._progress = FlushProgress()

    async def open(self) -> None:
        """Check that the account may run scripts. Raises SinkUnavailable and SinkMisconfigured."""
        await self._client.check()

    async def resume(self, topic: str, partitions: Collection[int]) -> Mapping[int, int]:
        """Nothing: reading resumes at the committed offsets."""
        return {}

    async def begin_anew(self, partitions: Collection[int]) -> None:
        """Nothing: streams detect repeats by their time of arrival."""

    def add(self, records: Sequence[SinkRecord]) -> None:
        """Buffer records, each with a reading."""
        if records and self._oldest is None:
            self._oldest = time.monotonic()
        self._records += records
        self._bytes += memory(records)

    @property
    def held(self) -> Held:
        """The buffered records."""
        return Held(len(self._records), self._bytes, self._oldest)

    @property
    def due(self) -> bool:
        """Whether the records fill a call."""
        return len(self._records) >= self._most

    async def flush(self, may_write: MayWrite = always) -> Flushed:
        """Write all records. Raises SinkUnavailable, with the records written before in `so_far`."""
        try:
            while self._records and may_write():
                await self._write_some(self._records[: self._count()])
        except SinkUnavailable as error:
            error.so_far = self._progress.taken()
            raise
        return self._progress.taken()

    def _count(self) -> int:
        size = 0
        for number, record in enumerate(self._records[: self._most]):
            size += len(record.payload)
            if size > CALL_MAX:
                return max(1, number)
        return min(len(self._records), self._most)

    async def _write_some(self, records: Sequence[SinkRecord]) -> None:
        chosen = newest(records, self._setback_ms)
        if self._stream_max:
            values = [self._value(record) for record in records]
            refused = await self._write_last(chosen, [values[index] for index in chosen.values()], records)
            refused |= await self._write_streams(records, values)
        else:
            values = [self._value(records[index]) for index in chosen.values()]
            refused = await self._write_last(chosen, values, records)
        WRITTEN_BYTES.labels(self.name).inc(sum(map(len, values)))
        self._progress.done(records, refused)
        del self._records[: len(records)]
        self._bytes -= memory(records)
        if not self._records:
            self._oldest = None

    async def _write_last(
        self, chosen: Mapping[str, int], values: Sequence[bytes], records: Sequence[SinkRecord]
    ) -> dict[int, str]:
        """Write `values`, which belong to `chosen`. Returns {index in `records`: why the record is refused}."""
        keys = [self._last_key(key) for key in chosen]
        refused = await self._client.run(LAST_VALUES, keys, [b"%d" % self._ttl, b"%d" % self._setback_ms, *values])
        if not refused:
            return {}
        names = list(chosen)
        by_device = {names[number]: why for number, why in refused.items()}
        return {number: by_device[one.key] for number, one in enumerate(records) if one.key in by_device}

    async def _write_streams(self, records: Sequence[SinkRecord], values: Sequence[bytes]) -> dict[int, str]:
        """The same for the streams, with `values` of all records, in one call per partition."""
        refused: dict[int, str] = {}
        parts: dict[int, dict[str, list[int]]] = {}
        for number, record in enumerate(records):
            parts.setdefault(record.partition, {}).setdefault(_owner(record), []).append(number)
        for partition, owners in parts.items():
            keys: list[bytes] = []
            arguments = [b"%d" % self._stream_max, b"%d" % self._ttl, b"%d" % partition]
            for owner, numbers in owners.items():
                keys += [self._stream_key(owner), f"{self._prefix}stream-marks:{owner}".encode()]
                arguments.append(b"%d" % len(numbers))
                for number in numbers:
                    record = records[number]
                    arguments += [b"%d" % record.offset, b"%d" % record.ingest_ms, values[number]]
            said = await self._client.run(STREAMS, keys, arguments)
            of_owners = list(owners.values())
            refused |= {number: why for at, why in said.items() for number in of_owners[at]}
        return refused

    def _last_key(self, key: str) -> bytes:
        return f"{self._prefix}last:{key}".encode()

    def _stream_key(self, owner: str) -> bytes:
        return f"{self._prefix}stream:{owner}".encode()

    async def revoked(self, partitions: Collection[int]) -> None:
        """Drop the buffered records of these partitions."""
        self._records = [record for record in self._records if record.partition not in partitions]
        self._bytes = memory(self._records)
        self._oldest = self._oldest if self._records else None
        self._progress.drop(partitions)

    async def close(self) -> None:
        """Close the connection."""
        await self._client.close()

    def shown(self, records: Sequence[SinkRecord]) -> list[str]:
        """The commands of the records."""
        lines = []
        for record in records:
            value = self._value(record).decode()
            lines.append(f"SET {self._last_key(record.key).decode()} {value}")
            if self._stream_max:
                stream = self._stream_key(_owner(record)).decode()
                lines.append(f"XADD {stream} MAXLEN ~ {self._stream_max} * reading {value}")
        return lines


def _owner(record: SinkRecord) -> str:
    """The owner of the stream: the user, or `iot/` and the node."""
    way = IOT if record.key.startswith(f"{IOT}/{record.user_id}/") else ""
    return owner_of(record.user_id, way)
