"""Messages to the MQTT broker: in, messages of users; out, a PUBACK for each, or why the message is left out.

Users take turns, so that none waits for another's flood. A message that the broker ends the connection at, or refuses
while it takes others, is set aside with its user and tried alone (app.core.delivery.suspects): other users go on.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial

import structlog
from msgspec import Struct

from app.core.delivery.fair_queue import FairQueue
from app.core.delivery.suspects import Suspects
from app.core.model.alert_event import as_sent
from app.mqtt.connection import Connection
from app.mqtt.publisher import MqttPublisher
from app.notify import metrics
from app.notify.retrying import RetryUntilStopped, StoppedError
from app.runtime.interrupt import set_within
from app.runtime.retry import backoff
from app.runtime.tracing.context import TRACEPARENT
from app.runtime.tracing.tracing import NO_SPAN, TraceSpan

log = structlog.get_logger()


CURE = "let the account publish to users/+/alerts, users/+/alerts/errors and users/+/config/errors"
LOOK_SECONDS = 0.25  # between two looks at `stop`
OTHERS_SECONDS = 0.1  # other users have the connection for so long between two trials
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 10.0  # seconds before a suspect is tried again
NARROWED = 8  # fewer messages ahead after a connection that ended, so that the message to blame is found sooner


class Message(Struct, eq=False):
    """A message; `settled` is called once: with None when the broker has acked the message, else with why it is left
    out.
    """

    user_id: str  # the user whose turn the message takes
    topic: str
    text: bytes  # the payload; of an alert event its JSON without `delayed`
    settled: Callable[[str | None], None]
    time: datetime | None = None  # of an alert event, aware; lets the message say that it is sent late
    patient: bool = True  # False: the message is left out after one refusal
    late: bool = False  # whether the last sending was late
    sent_at: float = 0.0  # by time.monotonic
    span: TraceSpan = NO_SPAN  # goes with the message as a user property


class Publishing:
    """The messages of one account, over one connection at a time."""

    def __init__(self, publisher: MqttPublisher, retry: RetryUntilStopped, probe: str, delayed_after: float) -> None:
        """`probe`: the topic to which something is sent where only a suspect is left, to see if the broker is well.

        `delayed_after`: seconds after an event's time from which on its message says that it is late.
        """
        self._publisher, self._retry = publisher, retry
        self._delayed_after = timedelta(seconds=delayed_after)
        self._turns: FairQueue[Message] = FairQueue()
        self._suspects: Suspects[Message] = Suspects(partial(backoff, first=FIRST_PAUSE, longest=LONGEST_PAUSE))
        self._refused: defaultdict[str, list[Message]] = defaultdict(list)  # sent before their suspect was known
        self._sent: dict[int, Message] = {}  # without a PUBACK, in their order
        self._probe = Message("", probe, b"{}", lambda _: None)
        self._probed = False
        self._changed = asyncio.Event()
        self._count, self._ahead, self._took, self._others_until = 0, 1 << 16, 0, 0.0
        metrics.SUSPECTS.set_function(lambda: len(self._suspects))
        metrics.CONNECTED.set_function(lambda: float(publisher.connected))

    @property
    def connected(self) -> bool:
        """Whether the broker has accepted the connection."""
        return self._publisher.connected

    @property
    def suspects(self) -> int:
        """How many messages are set aside because the broker may not be able to take them."""
        return len(self._suspects)

    def put(self, message: Message) -> None:
        """Have a message published, after the other messages of its user; returns at once. The messages that wait
        here are not bounded: the caller counts what is not settled.
        """
        self._turns.put(message.user_id, message)
        self._changed.set()

    async def run(self) -> None:
        """Publish until stopped, connecting again whenever the connection ends. Always ends by raising StoppedError,
        once nothing is on its way any more, or at the end of the connection.
        """
        while True:
            connection = await self._publisher.connect()
            self._suspects.connected()
            self._took, self._others_until = 0, time.monotonic() + OTHERS_SECONDS
            connection.closed.add_done_callback(lambda _: self._changed.set())
            while not connection.closed.done():
                if self._retry.stopped and not self._sent and (self._turns.idle or len(self._suspects)):
                    raise StoppedError("mqtt_publish")
                self._changed.clear()
                self._send(connection)
                await self._change()
            self._lost(connection.closed.result())
            if self._retry.stopped:
                raise StoppedError("mqtt_publish")

    async def _change(self) -> None:
        waits = self._suspects.waits(time.monotonic())
        seconds = LOOK_SECONDS if waits is None else max(0.01, min(LOOK_SECONDS, waits))
        await set_within(self._changed, seconds)

    def _send(self, connection: Connection) -> None:
        """What may go out now."""
        if self._suspects.trial:
            return
        now = time.monotonic()
        one = self._suspects.next(now)
        if one and (self._turns.idle or now >= self._others_until):
            if self._sent:
                return  # a suspect is tried when nothing else is on the way
            if not self._suspects.proven(one) and not self._probed:
                self._probed = True
                self._publish(connection, self._probe)
                return
            self._probed = False
            self._suspects.begin(one)
            self._publish(connection, one.message)
            return
        while len(self._sent) < min(self._ahead, connection.ahead) and (taken := self._turns.take()):
            self._publish(connection, taken[1])

    def _publish(self, connection: Connection, message: Message) -> None:
        self._count += 1
        number, text = self._count, message.text
        if message.time is not None:
            message.late = datetime.now(UTC) - message.time > self._delayed_after
            text = as_sent(text, late=message.late)
        self._sent[number], message.sent_at = message, time.monotonic()
        properties = [(TRACEPARENT, context.traceparent.decode())] if (context := message.span.context) else []
        acked = partial(self._acked, number)
        if impossible := connection.publish(message.topic, text, acked, properties):
            del self._sent[number]
            if self._suspects.trial:
                self._suspects.taken()
                self._resume(message.user_id)
            self._leave_out(message, impossible)
            self._changed.set()

    def _acked(self, number: int, refusal: str | None) -> None:
        """The PUBACK of a message."""
        self._changed.set()
        if (message := self._sent.pop(number, None)) is None:
            return
        self._took += refusal is None
        metrics.PUBLISH_SECONDS.observe(time.monotonic() - message.sent_at)
        if refusal is not None:
            metrics.FAILURES.labels("mqtt_publish").inc()
            message.span.event("refused", {"reason": refusal})
            log.error("notifier_refused", topic=message.topic, reason=refusal, cure=CURE)
        if message is self._probe:
            if refusal is None:
                self._suspects.took()
                self._probed = False
        elif (trial := self._suspects.trial) and trial.message is message:
            self._tried(message, refusal)
        elif refusal is None:
            if message.user_id not in self._suspects:
                self._suspects.took()
            self._ahead = min(1 << 16, self._ahead + 1)
            message.settled(None)
        elif not message.patient:
            message.settled(refusal)
        elif message.user_id in self._suspects:
            self._refused[message.user_id].append(message)
        else:
            self._set_aside(message, refusal)

    def _tried(self, message: Message, refusal: str | None) -> None:
        """How a trial ended."""
        now = time.monotonic()
        self._others_until = now + OTHERS_SECONDS
        if refusal is None:
            self._suspects.taken()
            self._resume(message.user_id)
            message.settled(None)
        elif self._suspects.failed(refusal, now):
            self._resume(message.user_id)
            self._leave_out(message, refusal)

    def _lost(self, reason: str) -> None:
        """The connection ended: messages without PUBACK are sent again, but for the first of them, which is suspect."""
        unanswered = [message for message in self._sent.values() if message is not self._probe]
        self._sent.clear()
        self._publisher.ended(reason, self._took)
        if self._suspects.trial:
            self._tried(unanswered[0], reason)
            return
        if unanswered and not self._retry.stopped:
            self._ahead = max(1, min(self._ahead, len(unanswered)) // NARROWED)
        back: defaultdict[str, list[Message]] = defaultdict(list)
        for message in unanswered:
            back[message.user_id].append(message)
        first = next((one for one in unanswered if one.user_id not in self._suspects), None)
        for user, messages in back.items():
            self._turns.back(user, [one for one in messages if one is not first])
        if first:
            self._set_aside(first, reason)

    def _set_aside(self, message: Message, why: str) -> None:
        self._suspects.suspect(message.user_id, message, why, time.monotonic())
        self._turns.pause(message.user_id)

    def _resume(self, user_id: str) -> None:
        """Go on with what its user got after the suspect."""
        self._turns.back(user_id, self._refused.pop(user_id, []))
        self._turns.resume(user_id)

    def _leave_out(self, message: Message, why: str) -> None:
        metrics.LEFT_OUT.inc()
        cure = (
            "the broker takes other messages: look at its log, its limits and its rules for this topic; docs/alerts.md"
        )
        log.error("notifier_left_out", topic=message.topic, bytes=len(message.text), reason=why, cure=cure)
        message.settled(why)
