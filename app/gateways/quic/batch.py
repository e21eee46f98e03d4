"""A frame -> its records for Kafka and its refusals, item by item; and the bytes of its answer."""

import math
import time
from collections import Counter
from collections.abc import Iterable, Sequence

import structlog
from msgspec import Struct

from app.core.ingress.series import Series
from app.core.model.records import Reason
from app.gateways.blocks.record_block import RecordBlock, topics_of
from app.gateways.dead_letter import refused_items
from app.gateways.gateway_metrics import REJECTED, REQUESTS, SERIES_OVER_LIMIT, SERIES_UNTRACKED
from app.gateways.intake import Intake
from app.gateways.protobuf_batches import MalformedBatch
from app.gateways.protobuf_records import metrics
from app.gateways.record import IngestRecord
from app.gateways.telemetry_record import Arrival, Rejection
from app.ports import Account
from app.protobuf.metrics_pb2 import BatchAck, BatchRefusal, MetricBatch, RejectedItem

log = structlog.get_logger()

GATEWAY = "quic"
TOO_MANY_SERIES = "too_many_series"
RATE_LIMITED = Reason.RATE_LIMITED.value


class FrameBatch(Struct):
    """What a frame came to."""

    batch_id: int
    records: Sequence[IngestRecord]
    places: list[int] | None  # of each record in the batch; None: they are those of the records
    rejected: dict[int, Rejection]
    dead: list[IngestRecord]


class RefusedBatch(Struct, frozen=True):
    """A frame that is refused whole, with all that follows on its stream."""

    reason: str
    error: str
    batch_id: int = 0  # 0: it could not be read
    retry_after: float = 0.0  # seconds; 0: never


class BatchIntake:
    """Makes batches of frames, as the settings say; shared by all connections."""

    def __init__(
        self, intake: Intake, max_items: int, series: Series, *, refuse_series: bool, dead_letter_topic_of: str | None
    ) -> None:
        """`refuse_series`: a new series over the limit is refused, else counted. `dead_letter_topic_of`: the input
        topic when refused items become dead letters; None: they do not.
        """
        self._intake, self._items, self._series = intake, max_items, series
        self._refuse_series, self._dead_of = refuse_series, dead_letter_topic_of

    def read(self, account: Account, frame: bytes) -> FrameBatch | RefusedBatch:
        """The records of a frame, and what of it is refused; or why nothing of it is taken. Never raises, whatever the
        bytes.
        """
        arrival = Arrival(b"quic", int(time.time() * 1000))
        try:
            batch_id, items = metrics(account, frame, arrival, self._items)
        except MalformedBatch as error:
            return RefusedBatch(error.reason, str(error))
        records: Sequence[IngestRecord]
        if type(items) is RecordBlock:
            records, refused, places = items, dict[int, Rejection](), None
        else:
            refused = {at: one for at, one in enumerate(items) if type(one) is Rejection}
            places = [at for at in range(len(items)) if at not in refused] if refused else None
            records = [one for one in items if type(one) is IngestRecord]
        batch = FrameBatch(batch_id, records, places, refused, [])
        self._look_at_series(account, batch)
        if limited := self._limit(account, batch):
            return limited
        if batch.rejected and self._dead_of:
            batch.dead = self._dead_letters(account, frame, arrival, batch.rejected)
        return batch

    def _look_at_series(self, account: Account, batch: FrameBatch) -> None:
        topics = topics_of(batch.records)
        found = self._series.see(account.user_id, topics, time.monotonic())
        if found.untracked:
            SERIES_UNTRACKED.inc(found.untracked)
        if found.warn:
            log.warning(
                "series_near_limit", account=account.user_id, note="new series over the limit are refused or counted"
            )
        if found.over and self._refuse_series:
            detail = "a new series, and the account has as many series as an account may have: IOT_QUIC_SERIES_MAX"
            _reject(batch, dict.fromkeys(found.over, Rejection(TOO_MANY_SERIES, detail)))
        if found.over:
            SERIES_OVER_LIMIT.labels("refused" if self._refuse_series else "taken").inc(len(found.over))

    def _limit(self, account: Account, batch: FrameBatch) -> RefusedBatch | None:
        """Take out what is over a limit of messages or bytes a second; the batch is refused if that is all of it."""
        if not self._intake.has_limits:
            return None
        over_limit, wait = self._intake.over_limit, 0.0
        over: dict[int, Rejection] = {}
        for at, record in enumerate(batch.records):
            if limited := over_limit(account, record.headers[0][1], len(record.value), waits=True):
                wait = max(wait, limited.retry_after)
                again = f"{limited.detail}; send the batch again in {limited.retry_after:.1f} s"
                over[at] = Rejection(RATE_LIMITED, again)
        if over and len(over) == len(batch.records) and not batch.rejected:
            return RefusedBatch(RATE_LIMITED, over[0].error, batch.batch_id, max(wait, 0.001))
        if over:
            _reject(batch, over)
        return None

    def _dead_letters(
        self, account: Account, frame: bytes, arrival: Arrival, rejected: dict[int, Rejection]
    ) -> list[IngestRecord]:
        items, topic = MetricBatch.FromString(frame).metrics, self._dead_of or ""
        refused = ((items[at].SerializeToString(), why) for at, why in rejected.items())
        return refused_items(refused, account.user_id, b"quic", arrival.ingest_ms, topic)


def accepted(batch: FrameBatch, refused: Iterable[tuple[int, Rejection]]) -> bytes:
    """The bytes of the answer once Kafka has the records, but for those it refuses for ever; places are those of the
    records. Counts the request by its outcome: to be called once.
    """
    lost = list(refused)
    for at, rejection in lost:
        batch.rejected[at if batch.places is None else batch.places[at]] = rejection
    count, rejected = len(batch.records) - len(lost), batch.rejected
    outcome = "accepted" if not rejected else "partly" if count else "rejected"
    REQUESTS.labels(GATEWAY, outcome).inc()
    items = [RejectedItem(index=at, reason=one.reason, error=one.error) for at, one in sorted(rejected.items())]
    for reason, many in Counter([one.reason for one in rejected.values()]).items():
        REJECTED.labels(GATEWAY, reason).inc(many)
    return BatchAck(batch_id=batch.batch_id, accepted=count, rejected=items).SerializeToString()


def refusal(refused: RefusedBatch) -> bytes:
    """The bytes of the answer that is the last of its stream. Counts the request: to be called once."""
    REQUESTS.labels(GATEWAY, "unavailable" if refused.retry_after else "rejected").inc()
    REJECTED.labels(GATEWAY, refused.reason).inc()
    after = math.ceil(refused.retry_after * 1000)
    said = BatchRefusal(reason=refused.reason, error=refused.error, retry_after_ms=after)
    return BatchAck(batch_id=refused.batch_id, refusal=said).SerializeToString()


def _reject(batch: FrameBatch, over: dict[int, Rejection]) -> None:
    """Take records out of a batch; the keys are their places among the records."""
    places = batch.places or range(len(batch.records))
    batch.rejected.update({places[at]: rejection for at, rejection in over.items()})
    batch.places = [place for at, place in enumerate(places) if at not in over]
    batch.records = [record for at, record in enumerate(batch.records) if at not in over]
