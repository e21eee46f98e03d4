"""Readings as JSON to an HTTP endpoint: one batch per request, retried until answered, in order per device.

A lane sends one request at a time; IOT_FEED_REQUESTS sets the number of lanes, among which devices are divided. Within
this process, a retry has the same bytes and the same Idempotency-Key; after a crash the same readings may be sent again
in other batches.
"""

import asyncio
import gzip
from collections.abc import Callable, Collection, Mapping, Sequence
from urllib.parse import urlsplit
from zlib import crc32

from xxhash import xxh3_64_hexdigest

from app.runtime import tls
from app.settings import Settings
from app.sinks.feed.client import FeedClient, FeedTarget
from app.sinks.feed.items import item_maker
from app.sinks.port import Flushed, Held, MayWrite, SinkMisconfigured, SinkUnavailable, always
from app.sinks.pushing.answer import BatchRefused, BatchTaken, FailedOver, ReceiverAnswer
from app.sinks.pushing.lane import PushBatch, PushLane, TakenCount
from app.sinks.pushing.lanes import PushLanes
from app.sinks.record import SinkRecord
from app.sinks.sink_metrics import WRITTEN_BYTES

BODY_BYTES = 1 << 20  # of payloads in one request; a larger payload is sent alone
REFUSALS = 100  # of one lane, after which a flush ends so that the runner dead-letters them
AUTHORIZATION = "authorization"


class FeedSink:
    """A destination of the port app.sinks.port.Sink."""

    kind = "http_feed"

    def __init__(self, name: str, settings: Settings) -> None:
        """Nothing is connected. Raises SinkMisconfigured."""
        self.name, self._ndjson = name, settings.feed_format == "ndjson"
        self._batch, self._gzip = settings.feed_batch, settings.feed_gzip
        self.linger = settings.feed_flush_ms / 1000
        self._client = FeedClient(_target(settings))
        self._item = item_maker(settings.telemetry_schema)
        count = settings.feed_requests
        taken = TakenCount()
        lanes = [PushLane(settings.feed_batch, BODY_BYTES, taken) for _ in range(count)]
        queue = settings.feed_queue or 4 * settings.feed_batch
        lane_of = _same_lane if count == 1 else _by_device(count)
        self._lanes = PushLanes(lanes, lane_of, queue, settings.sink_buffer_bytes)

    async def open(self) -> None:
        """Return when the endpoint answers. Raises SinkUnavailable."""
        await self._client.reach()

    async def resume(self, topic: str, partitions: Collection[int]) -> Mapping[int, int]:
        """Nothing: a receiver keeps no offsets."""
        return {}

    async def begin_anew(self, partitions: Collection[int]) -> None:
        """Nothing: a receiver keeps no offsets."""

    def add(self, records: Sequence[SinkRecord]) -> None:
        """Buffer records."""
        self._lanes.add(records)

    @property
    def held(self) -> Held:
        """The readings that the receiver has not taken."""
        return self._lanes.held

    @property
    def due(self) -> bool:
        """Whether there is a full batch."""
        return self._lanes.held.records >= self._batch

    async def flush(self, may_write: MayWrite = always) -> Flushed:
        """Post the buffer. Raises SinkUnavailable."""
        self._lanes.begin(may_write)
        await asyncio.gather(*(self._post_all(lane) for lane in self._lanes.busy()))
        return self._lanes.finish()

    async def revoked(self, partitions: Collection[int]) -> None:
        """Drop the buffered records of these partitions."""
        self._lanes.drop(partitions)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    def shown(self, records: Sequence[SinkRecord]) -> Sequence[str]:
        """The body that would be posted, one item per line."""
        return [self._item(record).decode() for record in records]

    async def _post_all(self, lane: PushLane) -> None:
        """Post until the lane is empty, the flush has ended, or REFUSALS records were refused."""
        while not self._lanes.ended and len(lane.refused) < REFUSALS and (batch := lane.batch(0)) is not None:
            try:
                self._settle(lane, batch, await self._post(batch))
            except SinkUnavailable as failure:
                self._lanes.fail(failure)

    def _settle(self, lane: PushLane, batch: PushBatch, answer: ReceiverAnswer) -> None:
        match answer:
            case BatchTaken(rejected, later):
                lane.settle(batch, rejected, later)
                WRITTEN_BYTES.labels(self.name).inc(len(batch.message))
                if later:
                    self._lanes.fail(SinkUnavailable("the receiver takes some readings later (rate_limited)"))
            case BatchRefused(why):
                lane.refuse(batch, why)
            case FailedOver(why):
                if not lane.fail(batch, why):
                    self._lanes.fail(SinkUnavailable(why), in_doubt=True)

    async def _post(self, batch: PushBatch) -> ReceiverAnswer:
        """Raises SinkUnavailable."""
        if batch.message is None:
            batch.message = self._body(batch.records)
        first, body = batch.records[0], batch.message
        place = f"{first.topic}-{first.partition}-{first.offset}-{len(batch.records)}"
        return await self._client.post(f"{place}-{xxh3_64_hexdigest(body)}", body, len(batch.records))

    def _body(self, records: Sequence[SinkRecord]) -> bytes:
        items = [self._item(record) for record in records]
        body = b"\n".join([*items, b""]) if self._ndjson else b"[%b]" % b",".join(items)
        return gzip.compress(body, 1, mtime=0) if self._gzip else body


def _same_lane(record: SinkRecord) -> int:
    return 0


def _by_device(lanes: int) -> Callable[[SinkRecord], int]:
    return lambda record: crc32(record.key.encode()) % lanes


def _target(settings: Settings) -> FeedTarget:
    """Raises SinkMisconfigured."""
    if settings.feed_url is None:
        raise SinkMisconfigured("IOT_FEED_URL is not set: give the URL that readings are posted to")
    url = settings.feed_url.get_secret_value()
    files = (settings.feed_ca_file, settings.feed_certificate_file, settings.feed_key_file)
    encrypted = url.lower().startswith("https:")
    if any(files) and not encrypted:
        raise SinkMisconfigured("IOT_FEED_URL is no https://: without TLS no certificate is checked")
    ndjson = settings.feed_format == "ndjson"
    headers = {"Content-Type": "application/x-ndjson" if ndjson else "application/json"}
    if settings.feed_gzip:
        headers["Content-Encoding"] = "gzip"
    if token := settings.feed_secret:
        if not (token.isascii() and token.isprintable()):
            raise SinkMisconfigured("IOT_FEED_TOKEN: a header takes printable ASCII alone")
        name = settings.feed_token_header
        if name.lower() == AUTHORIZATION and urlsplit(url).username is not None:
            raise SinkMisconfigured("IOT_FEED_TOKEN_HEADER: IOT_FEED_URL names an account, which has that header")
        headers[name] = f"Bearer {token}" if name.lower() == AUTHORIZATION else token
    context = tls.context(*files) if encrypted else None
    return FeedTarget(url, headers, settings.feed_timeout, settings.feed_requests, context)
