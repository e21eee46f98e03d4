"""Messages with a known head: the checks of writes.py without a parser and a task.

Repeats makes the same checks as writes.py, in the same order; a message that needs any special handling goes to
writes.py, before it is counted or stored here. The answer follows Kafka's ack.
"""

import asyncio
import time
from collections.abc import Sequence
from functools import partial
from http import HTTPStatus

from app.core.model.records import Reason
from app.errors import TransientError
from app.gateways.gateway_metrics import REJECTED, REQUESTS
from app.gateways.http.acks import Acks
from app.gateways.http.connection import HttpConnection
from app.gateways.http.problem import ACCEPTED, ONE, Problem, RejectedItem, answer_head, of_items, problem_json
from app.gateways.http.repeats.heads import KnownHead
from app.gateways.http.writes import GATEWAY, NO_ACK, WriteBounds
from app.gateways.intake import Intake, Refused
from app.gateways.listener import AccountSeats
from app.gateways.record import IngestRecord
from app.gateways.room import Room
from app.gateways.telemetry_record import Arrival

_BY = GATEWAY.encode()


class Repeats:
    """Takes in the messages with a known head of all connections of one gateway."""

    def __init__(self, intake: Intake, acks: Acks, bodies: Room, bounds: WriteBounds, seats: AccountSeats) -> None:
        """The arguments are the same objects as those of Writes."""
        self._intake, self._acks, self._bodies, self._bounds, self._seats = intake, acks, bodies, bounds, seats
        self._accepted, self._rejected, self._unavailable = (
            REQUESTS.labels(GATEWAY, one) for one in ("accepted", "rejected", "unavailable")
        )

    def take(self, connection: HttpConnection, head: KnownHead, body: bytes) -> bool:
        """Take a message in and answer after Kafka's ack; False: the message must go through writes.py."""
        known, bounds, bodies, intake = connection.known, self._bounds, self._bodies, self._intake
        if known is None or known[0] != head.authorization or connection.began >= known[2]:
            return False
        if intake.full or self._acks.hopeless or len(body) > bounds.body_bytes:
            return False
        account = known[1]
        user = account.user_id.encode()
        if bodies.full or bodies.over_share(user) or intake.crowded(account):
            return False
        arrival = Arrival(_BY, int(time.time() * 1000), None, bounds.payload_bytes)
        record = head.record_of(account, head.owner, head.device, body, arrival)
        if type(record) is not IngestRecord or not self._seats.take(account.user_id):
            return False
        if intake.has_limits and (over := intake.over_limit(account, record.headers[0][1], len(body))):
            self._seats.free(account.user_id)
            item = RejectedItem(0, Reason.RATE_LIMITED.value, over.detail)
            self._refuse(connection, of_items([item], over.retry_after), [item])
            return True
        bodies.take(user, len(body))
        done = self._acks.begin([record], [], account.user_id)
        done.add_done_callback(partial(self._answer, connection, account.user_id, user, len(body)))
        return True

    def _answer(
        self, connection: HttpConnection, user_id: str, user: bytes, size: int, done: "asyncio.Future[Refused]"
    ) -> None:
        self._acks.end(done)
        self._seats.free(user_id)
        self._bodies.give(user, size)
        if done.cancelled() or isinstance(done.exception(), TransientError):
            self._refuse(connection, NO_ACK)
        elif refused := done.result():
            item = RejectedItem(0, *refused[0][1])
            self._refuse(connection, of_items([item], None), [item])
        else:
            self._accepted.inc()
            connection.answer(ACCEPTED, ONE)

    def _refuse(self, connection: HttpConnection, problem: Problem, rejected: Sequence[RejectedItem] = ()) -> None:
        unavailable = problem.status is HTTPStatus.SERVICE_UNAVAILABLE
        (self._unavailable if unavailable else self._rejected).inc()
        REJECTED.labels(GATEWAY, problem.reason).inc()
        connection.answer(answer_head(problem), problem_json(problem, rejected))
