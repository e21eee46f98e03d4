"""A request that brings items in: from its head to the answer, in the order in which it may be refused.

    1 whether there is room, and Kafka takes what is written         503
    2 who sends it                                   (identity)      401, 403, 429, 503
    3 the size and coding that its head declares     (body)          413, 415
    4 its body, within a time, inflated              (body)          400, 408, 413, 503
    5 the records of its items, each or none         (the caller)    400, 403, 413
    6 the limits of the account, item by item        (intake)        429
    7 Kafka's ack of all of them                     (acks)          503
    8 the answer

The first steps cost least, so that a client that may not send costs the others little.
"""

import time
from collections import Counter
from collections.abc import Sequence
from http import HTTPStatus
from typing import NamedTuple, cast

from aiohttp import web
from msgspec import Struct

from app.core.model.records import Reason
from app.gateways.blocks.record_block import RecordBlock
from app.gateways.dead_letter import refused_items
from app.gateways.gateway_metrics import REJECTED, REQUESTS
from app.gateways.http.acks import Acks
from app.gateways.http.body import BUSY, IncomingBody, fault
from app.gateways.http.connection import HttpConnection
from app.gateways.http.events import Decode, Decoded
from app.gateways.http.identity import Identity
from app.gateways.http.problem import RETRY_SECONDS, Dialect, Problem, RejectedItem, of_items
from app.gateways.intake import BUSY_SECONDS, Intake
from app.gateways.listener import AccountSeats
from app.gateways.record import IngestRecord
from app.gateways.room import Room
from app.gateways.telemetry_record import Arrival, Rejection
from app.ports import Account

GATEWAY = "http"
TRACEPARENT = "traceparent"


class WriteBounds(Struct, frozen=True):
    """The bounds of one request."""

    body_bytes: int  # as sent, and inflated
    payload_bytes: int  # of one item
    items: int
    body_seconds: float
    topic: str  # the input topic
    keeps_rejected: bool  # as dead letters


class _Sorted(NamedTuple):
    """The items of a request."""

    records: Sequence[IngestRecord]
    places: Sequence[int]  # of the records, among the items
    rejected: list[RejectedItem]
    retry_after: float | None  # where some are over a limit


class Writes:
    """What every way to bring items in over HTTP shares."""

    def __init__(
        self,
        intake: Intake,
        identity: Identity,
        acks: Acks,
        bodies: Room,
        bounds: WriteBounds,
        seats: AccountSeats,
    ) -> None:
        """`seats`: of requests under way. `bodies`: the memory of bodies that are read, or await their answer."""
        self._intake, self._identity, self._acks, self._bodies = intake, identity, acks, bodies
        self.bounds, self._seats = bounds, seats
        # Each metric is looked up once: `labels` would cost every request a microsecond.
        outcomes = ("accepted", "partly", "rejected", "unavailable")
        self._accepted, self._partly, self._rejected, self._unavailable = (
            REQUESTS.labels(GATEWAY, one) for one in outcomes
        )

    async def take(
        self, request: web.BaseRequest, decode: Decode, dialect: Dialect, influx: bool = False
    ) -> web.StreamResponse:
        """Take a request in; `decode` makes records of its body. Steps 1 to 8."""
        connection = cast(HttpConnection, request.protocol)
        found = self._full() or await self._identity.of(request, connection, influx)  # 1, 2
        if isinstance(found, Problem):
            return self.refuse(request, dialect, found)
        if (wrong := fault(request, self.bounds.body_bytes)) is not None:  # 3
            return self.refuse(request, dialect, wrong)
        if not self._seats.take(found.user_id):
            return self.refuse(request, dialect, _TOO_MANY)
        incoming = IncomingBody(request, connection, self._bodies, found.user_id.encode())
        try:
            return await self._write(request, incoming, found, decode, dialect)
        finally:
            self._seats.free(found.user_id)
            incoming.release()

    async def _write(
        self, request: web.BaseRequest, incoming: IncomingBody, account: Account, decode: Decode, dialect: Dialect
    ) -> web.StreamResponse:
        bounds = self.bounds
        plain = await incoming.read(bounds.body_bytes, bounds.body_seconds)  # 4
        if isinstance(plain, Problem):
            return self.refuse(request, dialect, plain)
        trace = request.headers.get(TRACEPARENT)
        parent = trace.encode("ascii", "replace") if trace is not None else None
        arrival = Arrival(GATEWAY.encode(), int(time.time() * 1000), parent, bounds.payload_bytes)
        decoded = await decode(account, plain, arrival)  # 5
        if isinstance(decoded, Problem):
            return self.refuse(request, dialect, decoded)
        records, places, rejected, retry_after = self._sort(account, decoded)  # 6
        dead = self._dead(account, decoded, rejected, arrival) if rejected and bounds.keeps_rejected else []
        if records or dead:
            refused = await self._acks.of(records, dead, account.user_id)  # 7
            if refused is None:
                return self.refuse(request, dialect, NO_ACK)
            rejected += [RejectedItem(places[at], *why) for at, why in refused]
        return self._answer(dialect, len(decoded.items) - len(rejected), rejected, retry_after)  # 8

    def _full(self) -> Problem | None:
        """Why nothing can be taken now."""
        if self._intake.full:
            return BUSY
        return _AWAY if self._acks.hopeless else None

    def _sort(self, account: Account, decoded: Decoded) -> _Sorted:
        """The records within the limits, and what is rejected."""
        items = decoded.items
        limited = self._intake.has_limits or self._intake.crowded(account)
        if type(items) is RecordBlock and not limited:
            return _Sorted(items, range(len(items)), [], None)
        records = [item for item in items if type(item) is IngestRecord]
        if len(records) == len(items) and not limited:
            return _Sorted(records, range(len(items)), [], None)
        records, places, rejected = [], list[int](), list[RejectedItem]()
        retry_after: float | None = None
        for place, item in enumerate(items):
            if type(item) is not IngestRecord:
                rejected.append(RejectedItem(place, *cast(Rejection, item)))
            elif limited and (over := self._intake.over_limit(account, item.headers[0][1], len(item.value))):
                rejected.append(RejectedItem(place, Reason.RATE_LIMITED.value, over.detail))
                retry_after = max(retry_after or 0.0, over.retry_after)
            else:
                records.append(item)
                places.append(place)
        return _Sorted(records, places, rejected, retry_after)

    def _dead(
        self, account: Account, decoded: Decoded, rejected: list[RejectedItem], arrival: Arrival
    ) -> list[IngestRecord]:
        """The dead letters of items that are never taken."""
        refused = ((decoded.raw(one.index), Rejection(one.reason, one.error)) for one in rejected)
        return refused_items(refused, account.user_id, arrival.gateway, arrival.ingest_ms, self.bounds.topic)

    def _answer(
        self, dialect: Dialect, accepted: int, rejected: list[RejectedItem], retry_after: float | None
    ) -> web.StreamResponse:
        if not rejected:
            self._accepted.inc()
            return dialect.accepted(accepted, rejected, None)
        rejected.sort(key=lambda one: one.index)
        for reason, count in Counter([one.reason for one in rejected]).items():
            REJECTED.labels(GATEWAY, reason).inc(count)
        if accepted:
            self._partly.inc()
            return dialect.accepted(accepted, rejected, retry_after)
        self._rejected.inc()
        return dialect.refused(of_items(rejected, retry_after), rejected)

    def refuse(self, request: web.BaseRequest, dialect: Dialect, problem: Problem) -> web.StreamResponse:
        """The answer to a request that is refused whole."""
        unavailable = problem.status is HTTPStatus.SERVICE_UNAVAILABLE
        (self._unavailable if unavailable else self._rejected).inc()
        REJECTED.labels(GATEWAY, problem.reason).inc()
        answer = dialect.refused(problem)
        if not request.content.is_eof():  # what is left of its body is not read
            answer.force_close()
        return answer


_AWAY = Problem(
    HTTPStatus.SERVICE_UNAVAILABLE, "kafka_away", "Kafka does not answer: send the request again later", RETRY_SECONDS
)
_TOO_MANY = Problem(
    HTTPStatus.TOO_MANY_REQUESTS,
    "too_many_requests",
    "the account has as many requests under way as an account may have: wait for answers",
    BUSY_SECONDS,
)
NO_ACK = Problem(
    HTTPStatus.SERVICE_UNAVAILABLE,
    "no_ack",
    "Kafka did not acknowledge the request in time: send it again, repeats are stored once",
    RETRY_SECONDS,
)
