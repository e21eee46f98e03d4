"""The sink `parquet` on one screen: records are converted to columns on arrival, and written as files by a flush.

    add     by partition, 1,000 records to columns at a time; whole row groups are encoded in a thread
    flush   the rows of each partition are closed, and written in another thread: stage, claim, publish (claim.py)
    resume  at the end of a partition's chain of claims; Kafka's commit may be older, and repeats are left out

Rows that a flush could not write stay closed, and the next flush begins with them; rows added meanwhile come after.
"""

import asyncio
import time
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from operator import attrgetter
from typing import Any

import structlog
from msgspec import Struct

from app.core.model.records import Kind
from app.settings import Settings
from app.sinks.parquet.claim import Chain
from app.sinks.parquet.footer import FileSource
from app.sinks.parquet.lake import lake_of, own, see_owner
from app.sinks.parquet.names import LakePartition, folder_of, tag_of
from app.sinks.parquet.partition_rows import ClosedRows, PartitionRows, Refused
from app.sinks.parquet.stored import LakeStore
from app.sinks.parquet.topic_identity import Identify, identities
from app.sinks.parquet.writing import RowWriter
from app.sinks.port import Flushed, Held, MayWrite, SinkMisconfigured, SinkUnavailable, always
from app.sinks.record import SinkRecord
from app.sinks.sink_metrics import WRITTEN_BYTES

log = structlog.get_logger()

_partition = attrgetter("partition")
CURE = {
    "No space left": "make room; records wait in Kafka, for as long as it keeps them",
    "Permission denied": "give this process the right to write there",
    "Read-only": "give this process the right to write there",
    "ACCESS_DENIED": "give this account s3:PutObject, s3:GetObject, s3:DeleteObject and s3:ListBucket",
}


class _Closed(Struct):
    """Rows that are being written."""

    rows: ClosedRows
    writer: RowWriter


class ParquetSink:
    """Writes telemetry into the directory or bucket IOT_PARQUET_DIR, each record once."""

    kind = "parquet"

    def __init__(
        self, name: str, settings: Settings, identify: Identify | None = None, store: LakeStore | None = None
    ) -> None:
        """`identify` returns the id of a topic, by default by asking Kafka; `store` is by default from the settings.

        Raises SinkMisconfigured.
        """
        if set(settings.sink_kinds) != {Kind.TELEMETRY}:
            raise SinkMisconfigured(f"the sink {name} writes telemetry alone: leave IOT_SINK_KINDS as it is")
        self.name, self.linger = name, settings.parquet_rotate_seconds
        of_settings, self._layout = lake_of(settings)
        self._store = store or of_settings
        self._most_bytes = min(settings.parquet_rotate_bytes, settings.sink_buffer_bytes)
        self._schema_name = settings.telemetry_schema.name
        self._identify = identify or identities(settings)
        self._encoder = ThreadPoolExecutor(1, "parquet-encode")
        self._files = ThreadPoolExecutor(1, "parquet-write")
        self._topic = settings.kafka_topic
        self._identity: str | None = None
        self._chains: dict[int, Chain] = {}
        self._rows: dict[int, PartitionRows] = {}
        self._next: dict[int, int] = {}  # the offset after the last added record
        self._closed: dict[int, list[_Closed]] = {}
        self._upto: dict[int, int] = {}
        self._refused: list[Refused] = []
        self._unreported = 0  # completed records that no flush has reported: they count as held

    async def open(self) -> None:
        """As in Sink: check that files can be written, and that no other sink owns the lake."""
        await self._in_thread(self._store.check)
        await self._in_thread(see_owner, self._store, self.name)

    async def resume(self, topic: str, partitions: Collection[int]) -> Mapping[int, int]:
        """As in Sink: the offsets after the last record in a file. From now on this sink owns the lake."""
        await self._in_thread(own, self._store, self.name)
        self._topic, self._identity = topic, await self._identify(topic)
        found = {}
        for partition in partitions:
            chain = self._chains.get(partition)
            if chain is None or chain.identity != self._identity:
                chain = self._chains[partition] = await self._new_chain(partition)
            self._next.pop(partition, None)
            position = await self._in_thread(chain.load)
            if chain.found:
                found[partition] = position
        return found

    async def begin_anew(self, partitions: Collection[int]) -> None:
        """As in Sink: another chain of claims begins."""
        for partition in partitions:
            chain = self._chains.get(partition) or await self._new_chain(partition)
            await self._in_thread(chain.cut)
            if chain.earlier:
                log.warning("parquet_chain_begins_anew", partition=partition, compared_below=chain.doubt)

    def add(self, records: Sequence[SinkRecord]) -> None:
        """As in Sink."""
        for partition, run in groupby(records, _partition):
            taken, rows = list(run), self._rows.get(partition)
            if rows is None or rows.begins_again(taken[0].offset):
                if taken[0].offset < self._next.get(partition, 0):  # without begin_anew: perhaps a recreated topic
                    self._chains.pop(partition, None)
                carried = rows.records if rows is not None else 0
                rows = self._rows[partition] = PartitionRows(self._layout, self._encoder, carried)
            rows.add(taken)
            self._next[partition] = taken[-1].offset + 1

    @property
    def held(self) -> Held:
        """As in Sink."""
        closed = [one.rows for waiting in self._closed.values() for one in waiting]
        rows = [*self._rows.values()]
        if not closed and not rows and not self._unreported:
            return Held()
        records = (
            self._unreported + sum(one.records + len(one.refused) for one in closed) + sum(one.records for one in rows)
        )
        size = sum(one.bytes for one in closed) + sum(one.bytes for one in rows)
        oldest = min([one.oldest for one in closed] + [one.oldest for one in rows], default=time.monotonic())
        return Held(records, size, oldest)

    @property
    def due(self) -> bool:
        """As in Sink: the memory of the rows has reached its limit, or a flush was not completed."""
        return bool(self._closed or self._unreported) or self.held.bytes >= self._most_bytes

    async def flush(self, may_write: MayWrite = always) -> Flushed:
        """As in Sink, one partition after another. Raises SinkUnavailable with the completed part in `so_far`."""
        try:
            await self._close_rows()
            while self._closed and may_write():
                partition, waiting = next(iter(self._closed.items()))
                try:
                    await self._write(partition, waiting[0])
                except SinkUnavailable:
                    self._closed[partition] = self._closed.pop(partition)  # the next flush begins with another
                    raise
                self._count(partition, waiting.pop(0).rows)
                if not waiting:
                    del self._closed[partition]
        except SinkUnavailable as error:
            error.so_far = self._done_so_far()
            raise
        return self._done_so_far()

    async def revoked(self, partitions: Collection[int]) -> None:
        """As in Sink. Rows that a thread is writing now may or may not be claimed; the next owner sees which."""
        for partition in partitions:
            for held in (self._rows, self._closed, self._next, self._upto):
                held.pop(partition, None)
        kept = [one for one in self._refused if one[0].partition not in partitions]
        self._unreported -= len(self._refused) - len(kept)
        self._refused = kept

    async def close(self) -> None:
        """As in Sink."""
        for threads in (self._encoder, self._files):
            threads.shutdown(wait=False, cancel_futures=True)

    def shown(self, records: Sequence[SinkRecord]) -> Sequence[str]:
        """As in SampleText: one line per row, with the directory of its file."""
        rows = [self._layout.batch([record]).to_pylist()[0] for record in records]
        return [f"{folder_of(row['time'].date().isoformat())}/  {_row(row)}" for row in rows]

    def _count(self, partition: int, rows: ClosedRows) -> None:
        """Record what is completed: after a cancelled flush, the next flush reports it."""
        self._upto[partition] = rows.until
        self._refused += rows.refused
        self._unreported += rows.records + len(rows.refused)

    def _done_so_far(self) -> Flushed:
        done = Flushed(self._upto, self._refused)
        self._upto, self._refused, self._unreported = {}, [], 0
        return done

    async def _close_rows(self) -> None:
        unsure = [partition for partition in self._rows if partition not in self._chains]  # of an unknown topic id
        if unsure:
            self._identity = None  # ask Kafka again
        for partition in unsure:
            self._chains[partition] = await self._new_chain(partition)
        for partition in [*self._rows]:
            rows, chain = self._rows.pop(partition), self._chains[partition]
            writer = RowWriter(self._store, chain, self._layout)
            closed = rows.close(FileSource(self._topic, chain.identity, partition, self._schema_name, self.name))
            self._closed.setdefault(partition, []).append(_Closed(closed, writer))

    async def _write(self, partition: int, closed: _Closed) -> None:
        # Shielded: cancelling the wait does not cancel the encoding, which the next flush awaits too.
        files = [await asyncio.shield(asyncio.wrap_future(file)) for file in closed.rows.files]
        size = await self._in_thread(closed.writer.write, files, closed.rows.until)
        if size:
            WRITTEN_BYTES.labels(self.name).inc(size)
            log.info("parquet_written", partition=partition, rows=closed.rows.records, files=len(files), bytes=size)

    async def _new_chain(self, partition: int) -> Chain:
        if self._identity is None:
            self._identity = await self._identify(self._topic)
        return Chain(self._store, LakePartition(self._topic, tag_of(self._identity), partition), self._identity)

    async def _in_thread(self, call: Any, *arguments: Any) -> Any:
        """The result of `call`. A cancellation does not stop the call, and the next call waits for its end."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._files, call, *arguments)
        except OSError as error:
            cure = next((words for sign, words in CURE.items() if sign in str(error)), "")
            raise SinkUnavailable(f"the lake does not take files: {error}", cure=cure) from error


def _row(row: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in row.items() if value is not None)
