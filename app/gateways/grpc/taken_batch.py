"""A batch between its taking and its answer: in, what is rejected and what Kafka says; out, BatchAck or a status."""

import asyncio
from collections.abc import Mapping, Sequence

import grpc

from app.core.model.fault import printable
from app.core.model.records import Reason
from app.gateways.gateway_metrics import REJECTED, REQUESTS
from app.gateways.grpc.refusal import NAME, CallRefusal
from app.gateways.intake import Refused
from app.gateways.telemetry_record import NOT_ALLOWED, Rejection
from app.protobuf.metrics_pb2 import BatchAck

ERROR_MAX = 200  # characters of an item's error: 10,000 of them fit into the 4 MiB that a client takes


class TakenBatch:
    """`written` is done after Kafka's ack of all its records; `size`: bytes of it as it was sent."""

    __slots__ = ("_id", "_places", "_rejected", "_retry_after", "size", "written")

    def __init__(
        self,
        batch_id: int,
        places: Sequence[int],
        rejected: Mapping[int, Rejection],
        written: "asyncio.Future[Refused]",
        size: int,
        retry_after: float,
    ) -> None:
        """`places`: of each record within the batch; `rejected`: why by place; `size`: bytes as they were sent;
        `retry_after`: seconds until those over a limit have room.
        """
        self._id, self._places, self._rejected, self._retry_after = batch_id, places, rejected, retry_after
        self.written, self.size = written, size

    def ack(self, refused: Refused) -> bytes:
        """The bytes of the BatchAck; `refused` is the result of `written`. Counts the request by its outcome: to be
        called once.
        """
        rejected = {**self._rejected, **{self._places[at]: why for at, why in refused}} if refused else self._rejected
        accepted = len(self._places) - len(refused)
        REQUESTS.labels(NAME, "accepted" if not rejected else "partly" if accepted else "rejected").inc()
        ack = BatchAck(batch_id=self._id, accepted=accepted)
        for index in sorted(rejected):
            reason, error = rejected[index]
            ack.rejected.add(index=index, reason=reason, error=printable(error, ERROR_MAX))
            REJECTED.labels(NAME, reason).inc()
        return ack.SerializeToString()

    def refusal(self) -> CallRefusal | None:
        """The status of a unary call of which nothing is taken, for one cause that is no fault of an item; None: it is
        acked.
        """
        reasons = {why.reason for why in self._rejected.values()}
        if self._places or len(reasons) != 1:
            return None
        error = next(iter(self._rejected.values())).error
        if reasons == {NOT_ALLOWED}:
            return CallRefusal(grpc.StatusCode.PERMISSION_DENIED, NOT_ALLOWED, error)
        if reasons == {Reason.RATE_LIMITED.value}:
            return CallRefusal(grpc.StatusCode.RESOURCE_EXHAUSTED, Reason.RATE_LIMITED, error, self._retry_after)
        return None
