"""Records as they arrive -> those that may come in; a record over a limit is marked, or dropped if nobody waits for
its ack.

A message of QoS 1 over a limit becomes a dead letter, and is acknowledged once Kafka has the dead letter: PUBACKs go
out in order, so that holding back the PUBACKs of one user would hold back everybody's. A message of QoS 0 is dropped
and counted. What the broker sends again was judged the first time.
"""

import asyncio
import time
from typing import NamedTuple

from prometheus_client import Counter, Gauge

from app.core.ingress.heavy_hitters import HeavyHitters
from app.core.ingress.limits import Ingress, IngressLimits
from app.core.model.records import Kind
from app.gateways.record import IngestRecord, own_output
from app.settings import Settings

USERS = 20  # named in a metric; all others are one
NAME_MAX = 64  # characters
SHOW_SECONDS = 1.0  # from one setting of the gauges to the next
OF_A_DEVICE = (Kind.TELEMETRY, Kind.STATUS)


class AdmissionMetrics(NamedTuple):
    """Where admission is counted: a bridge and the gateways have metrics of their own."""

    limited: Counter  # by what became of it, or by limit
    messages: Gauge  # by user, as the next two
    bytes: Gauge
    over: Gauge


class Limited(NamedTuple):
    """What of an account is refused for now: `detail` says which limit, `retry_after` when it has room, in seconds."""

    detail: str
    retry_after: float


def ingress_limits(settings: Settings) -> IngressLimits:
    """What users and devices may bring in, of the settings IOT_INGRESS_*: messages and bytes a second, and seconds'
    worth of them at once.
    """
    return IngressLimits(
        user_messages=settings.ingress_user_messages,
        user_bytes=settings.ingress_user_bytes,
        device_messages=settings.ingress_device_messages,
        device_bytes=settings.ingress_device_bytes,
        burst=settings.ingress_burst,
    )


class Admission:
    """The limits, and who counts for most. Without a limit an Admission is False, and costs nothing."""

    def __init__(self, limits: IngressLimits, metrics: AdmissionMetrics | None = None) -> None:
        """`metrics` None: nothing is counted in metrics."""
        self._ingress = Ingress(limits)
        self._metrics = metrics
        self._messages, self._bytes, self._over = HeavyHitters(), HeavyHitters(), HeavyHitters()
        self._timer: asyncio.TimerHandle | None = None

    def __bool__(self) -> bool:
        return bool(self._ingress)

    def admit(self, records: list[IngestRecord]) -> list[IngestRecord]:
        """The records without those that are dropped, in their order; the others over a limit say which (`over`). Each
        is counted.
        """
        now = time.monotonic()
        self._show_later()
        return [record for record in records if self._may_go_on(record, now)]

    def _may_go_on(self, record: IngestRecord, now: float) -> bool:
        if record.written or record.again or own_output(record):
            return True
        topic, size = record.headers[0][1], len(record.value)
        user = account(topic)
        record.over = self._ingress.fault(user, topic if record.kind in OF_A_DEVICE else None, size, now)
        name = user.decode("utf-8", "replace")[:NAME_MAX]
        self._messages.add(name, 1)
        self._bytes.add(name, size)
        if record.over is None:
            return True
        self._over.add(name, 1)
        if self._metrics:
            self._metrics.limited.labels("dead_lettered" if record.packet_id else "dropped").inc()
        return record.packet_id > 0

    def limited(self, user: str, topic: bytes, size: int) -> Limited | None:
        """Which limit a message of `user` (an account's name) to a device's `topic` is over, with `size` bytes of
        payload; None: it may come in, and has been counted.
        """
        if not self._ingress:
            return None
        now = time.monotonic()
        owner = account(topic)
        detail = self._ingress.fault(owner, topic, size, now)
        if detail is None:
            return None
        self.refused(user)
        return Limited(detail, self._ingress.wait(owner, topic, size, now))

    def refused(self, user: str, limit: str = "rate") -> None:
        """Count one more message of this user over a limit; `limit` is the label of the metric."""
        self._show_later()
        self._over.add(user[:NAME_MAX], 1)
        if self._metrics:
            self._metrics.limited.labels(limit).inc()

    def count(self, user: str, messages: int, size: int) -> None:
        """Count so many messages of this user's that came in, with `size` bytes of payload together."""
        self._show_later()
        self._messages.add(user[:NAME_MAX], messages)
        self._bytes.add(user[:NAME_MAX], size)

    def _show_later(self) -> None:
        if self._timer is None and self._metrics:
            self._timer = asyncio.get_running_loop().call_later(SHOW_SECONDS, self._show)

    def _show(self) -> None:
        self._timer = None
        if self._metrics:
            show(self._metrics.messages, self._messages)
            show(self._metrics.bytes, self._bytes)
            show(self._metrics.over, self._over)


def show(gauge: Gauge, sums: HeavyHitters) -> None:
    """Set a gauge to the largest sums by name, USERS at most, and the rest as `other`."""
    top = sums.top(USERS)
    gauge.clear()
    for name, amount in top:
        gauge.labels(name if name != "other" else "other (a user)").set(amount)
    gauge.labels("other").set(sums.total - sum(amount for _, amount in top))


def account(topic: bytes) -> bytes:
    """The user or node whose topic it is: the broker lets each account publish below its own name alone."""
    levels = topic.split(b"/", 2)
    return levels[1] if len(levels) > 1 and levels[0] in (b"users", b"iot") else levels[0]
