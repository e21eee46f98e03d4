"""Records as they arrive -> those that may come in; what is over a limit is marked, or dropped if nobody waits for it.

A message of QoS 1 over a limit becomes a dead letter, and is acknowledged once Kafka has that: PUBACKs go out in order,
so that holding back one user's would hold back everybody's. One of QoS 0 is dropped and counted. What the broker sends
again was judged the first time.
"""

import asyncio
import time

from prometheus_client import Gauge

from app.core.ingress.heavy_hitters import HeavyHitters
from app.core.ingress.limits import Ingress, IngressLimits
from app.core.model.records import Kind
from app.gateways.metrics import LIMITED, TOP_BYTES, TOP_LIMITED, TOP_MESSAGES
from app.gateways.record import IngestRecord, own_output

USERS = 20  # named in a metric; all others are one
NAME_MAX = 64  # characters
TELL_SECONDS = 1.0
OF_A_DEVICE = (Kind.TELEMETRY, Kind.STATUS)


class Admission:
    """The limits, and who counts for most. Without a limit it is False, and costs nothing."""

    def __init__(self, limits: IngressLimits) -> None:
        self._ingress = Ingress(limits)
        self._sums = {TOP_MESSAGES: HeavyHitters(), TOP_BYTES: HeavyHitters(), TOP_LIMITED: HeavyHitters()}
        self._telling: asyncio.TimerHandle | None = None

    def __bool__(self) -> bool:
        return bool(self._ingress)

    def admit(self, records: list[IngestRecord]) -> list[IngestRecord]:
        """The records without those that are dropped; the others over a limit say which (`over`)."""
        now = time.monotonic()
        if self._telling is None:
            self._telling = asyncio.get_running_loop().call_later(TELL_SECONDS, self._show)
        return [record for record in records if self._may_go_on(record, now)]

    def _may_go_on(self, record: IngestRecord, now: float) -> bool:
        if record.written or record.again or own_output(record):
            return True
        topic, size = record.headers[0][1], len(record.value)
        user = account(topic)
        record.over = self._ingress.fault(user, topic if record.kind in OF_A_DEVICE else None, size, now)
        name = user.decode("utf-8", "replace")[:NAME_MAX]
        self._sums[TOP_MESSAGES].add(name, 1)
        self._sums[TOP_BYTES].add(name, size)
        if record.over is None:
            return True
        self._sums[TOP_LIMITED].add(name, 1)
        LIMITED.labels("dead_lettered" if record.packet_id else "dropped").inc()
        return record.packet_id > 0

    def _show(self) -> None:
        self._telling = None
        for gauge, sums in self._sums.items():
            show(gauge, sums)


def show(gauge: Gauge, sums: HeavyHitters) -> None:
    """The largest by name, and the rest as `other`."""
    top = sums.top(USERS)
    gauge.clear()
    for name, amount in top:
        gauge.labels(name if name != "other" else "other (a user)").set(amount)
    gauge.labels("other").set(sums.total - sum(amount for _, amount in top))


def account(topic: bytes) -> bytes:
    """The user or node whose topic it is: the broker lets each account publish below its own name alone."""
    levels = topic.split(b"/", 2)
    return levels[1] if len(levels) > 1 and levels[0] in (b"users", b"iot") else levels[0]
