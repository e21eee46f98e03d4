"""The bytes of a batch -> its records on their way to Kafka, and what is owed for them; or why all of it is refused."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, cast

import grpc
from google.protobuf.message import Message

from app.core.model.records import Reason
from app.gateways.admission import Limited
from app.gateways.blocks.record_block import RecordBlock
from app.gateways.dead_letter import refused_items
from app.gateways.grpc.refusal import NAME, CallRefusal
from app.gateways.grpc.taken_batch import TakenBatch
from app.gateways.intake import Intake
from app.gateways.protobuf_batches import MalformedBatch
from app.gateways.protobuf_records import Outcome, events, metrics
from app.gateways.record import IngestRecord
from app.gateways.telemetry_record import Arrival, Rejection
from app.ports import Account
from app.protobuf.events_pb2 import EventBatch
from app.protobuf.metrics_pb2 import MetricBatch

GATEWAY = NAME.encode()
RATE_LIMITED = Reason.RATE_LIMITED.value


class BatchForm(NamedTuple):
    """What the bytes of a batch are: how they become records, and their items one by one."""

    decode: Callable[[Account, bytes, Arrival, int], Outcome]
    items: Callable[[bytes], Sequence[Message]]


METRICS = BatchForm(metrics, lambda data: MetricBatch.FromString(data).metrics)
EVENTS = BatchForm(events, lambda data: EventBatch.FromString(data).events)


class TakingLimits(NamedTuple):
    """The limits of each batch, and what becomes of what is refused of it."""

    items: int
    payload_bytes: int
    dead_letters_of: str | None  # the input topic, where refused items become dead letters


class Taking:
    """Takes the batches of one gateway: makes the records, asks the limits, hands over to the intake."""

    def __init__(self, intake: Intake, limits: TakingLimits) -> None:
        self._intake, self._limits = intake, limits

    def take(
        self, account: Account, form: BatchForm, data: bytes, traceparent: bytes | None = None
    ) -> TakenBatch | CallRefusal:
        """Take all of a batch that can be taken; nothing of it when it is refused. Never waits, nor raises."""
        arrival = Arrival(GATEWAY, time.time_ns() // 1_000_000, traceparent, self._limits.payload_bytes)
        try:
            batch_id, items = form.decode(account, data, arrival, self._limits.items)
        except MalformedBatch as error:
            return CallRefusal(grpc.StatusCode.INVALID_ARGUMENT, error.reason, str(error))
        mixed = () if type(items) is RecordBlock else items  # a block holds records alone
        rejected = {index: item for index, item in enumerate(mixed) if type(item) is Rejection}
        over = self._over(account, items) if self._intake.has_limits else {}
        rejected |= {index: Rejection(RATE_LIMITED, limited.detail) for index, limited in over.items()}
        places: Sequence[int] = range(len(items))
        if rejected:
            places = [index for index in places if index not in rejected]
        left = [items[index] for index in places] if rejected else items
        records = cast("Sequence[IngestRecord]", left)  # no Rejection is among them, which mypy cannot see
        written = self._intake.submit(records, self._dead(account, form, data, arrival, rejected), account.user_id)
        retry_after = max((limited.retry_after for limited in over.values()), default=0.0)
        return TakenBatch(batch_id, places, rejected, written, len(data), retry_after)

    def _over(self, account: Account, items: Sequence[IngestRecord | Rejection]) -> dict[int, Limited]:
        """Which of the records are over a limit; the others count from now on."""
        found = {}
        for index, item in enumerate(items):
            if isinstance(item, IngestRecord):
                limited = self._intake.over_limit(account, item.headers[0][1], len(item.value), waits=True)
                if limited is not None:
                    found[index] = limited
        return found

    def _dead(
        self, account: Account, form: BatchForm, data: bytes, arrival: Arrival, rejected: Mapping[int, Rejection]
    ) -> Sequence[IngestRecord]:
        """The dead letters of what is refused, where it is to be kept."""
        topic = self._limits.dead_letters_of
        if not rejected or topic is None:
            return ()
        items = form.items(data)
        refused = ((items[index].SerializeToString(), why) for index, why in rejected.items())
        return refused_items(refused, account.user_id, GATEWAY, arrival.ingest_ms, topic)
