"""iot-alerts -> a webhook: every alert event, in order per device, until its receiver has taken it.

A consumer group of its own: a receiver that is away keeps no MQTT message waiting. Users take turns, and an event that
the receiver does not take now keeps only its lane waiting; an event that the receiver never takes while it takes others
is left out in the end. A crash may repeat events that were taken since the last commit, with the same Idempotency-Key.
"""

import asyncio
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from zlib import crc32

import structlog
from msgspec import Struct

from app.core.delivery.fair_queue import FairQueue
from app.core.model.alert_event import AlertEvent, as_sent, is_late
from app.errors import PermanentError, TransientError
from app.kafka.access import kafka_away
from app.kafka.group_consumer import GroupConsumer
from app.notify import metrics
from app.notify.alert_records import read
from app.notify.retrying import RetryUntilStopped, StoppedError
from app.notify.webhook_client import WebhookClient
from app.postgres.queries.alert_history import Key, key
from app.runtime.retry import delay, log_level
from app.settings import Settings

log = structlog.get_logger()


AT_ONCE = 8  # requests
LANES = 4  # of a user, each with its devices: at most so many requests are for one user
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 60.0  # seconds
IN_HAND = 5_000  # events


class _Post(Struct, eq=False):
    """One event on its way, and where it was read; an event may have been read more than once."""

    event: AlertEvent
    text: bytes
    places: list[tuple[Any, int]]
    tries: int = 0
    strikes: int = 0  # failed tries, each after other events had been taken since the try before
    taken_before: int = 0  # taken, as of the last try


class WebhookSender:
    """Runs until stopped; waits out every absence of Kafka or the receiver."""

    def __init__(self, settings: Settings, hook: WebhookClient, stop: asyncio.Event) -> None:
        """`hook` is closed when the sender ends; `stop` ends it."""
        self._settings, self._hook, self._retry = settings, hook, RetryUntilStopped(stop)
        self._consumer = GroupConsumer(settings, "webhook", f"{settings.notifier_client_id}-webhook")
        metrics.show("webhook", self._consumer)
        self._turns: FairQueue[_Post] = FairQueue()
        self._in_hand: dict[Key, _Post] = {}
        self._waiting: dict[str, tuple[_Post, asyncio.TimerHandle]] = {}  # by lane
        self._there = asyncio.Event()
        self._taken = 0

    async def run(self) -> None:
        """Take, post, commit; returns once stopped: posts under way are then cancelled, and come again.

        Raises an ExceptionGroup of what is a bug.
        """
        try:
            async with asyncio.TaskGroup() as group:
                posting = [group.create_task(self._post_in_turn()) for _ in range(AT_ONCE)]
                try:
                    await self._take()
                except StoppedError:
                    log.info("webhook_stopped_waiting", note="what was taken and not committed is posted again")
                for task in posting:
                    task.cancel()
            await self._consumer.commit()
        finally:
            for _, timer in self._waiting.values():
                timer.cancel()
            await self._consumer.close()
            await self._hook.close()

    async def _take(self) -> None:
        while not self._retry.stopped:
            taken = await self._retry.on("kafka_take", self._consumer.take, kafka_away)
            for partition, records in taken.items():
                self._add(partition, records)
            self._there.set()
            await self._consumer.commit()
            while len(self._in_hand) > IN_HAND:
                await self._retry.rest("webhook", 0.05)
                await self._consumer.commit()

    def _add(self, partition: Any, records: Sequence[Any]) -> None:
        places = {record.offset for record in records}
        metrics.TAKEN.labels("webhook").inc(len(places))
        for found in read(records):
            if found.event is None:
                continue
            places.discard(found.offset)
            name = key(found.event)
            if one := self._in_hand.get(name):
                one.places.append((partition, found.offset))
                continue
            self._in_hand[name] = _Post(found.event, found.text, [(partition, found.offset)])
            self._turns.put(_lane(found.event), self._in_hand[name])
        for offset in places:
            self._consumer.done(partition, offset)

    async def _post_in_turn(self) -> None:
        """Post one event at a time. A lane that is posted is paused, so that its devices keep their order."""
        while True:
            while (taken := self._turns.take()) is None:
                self._there.clear()
                await self._there.wait()
            lane, one = taken
            self._turns.pause(lane)
            if await self._deliver(lane, one):
                self._settle(one)
                self._resume(lane)

    async def _deliver(self, lane: str, one: _Post) -> bool:
        """Whether the event is done: taken, refused, or left out; else the event waits, with its lane."""
        event, began = one.event, time.monotonic()
        try:
            late = is_late(event, datetime.now(UTC), self._settings.alert_delayed_after)
            await self._hook.post(f"{event.alert_id}-{event.status}-{event.repeat or 0}", as_sent(one.text, late=late))
        except PermanentError as error:
            metrics.WEBHOOK_SECONDS.labels("refused").observe(time.monotonic() - began)
            metrics.WEBHOOK_REFUSED.inc()
            log.error("webhook_refused", alert_id=event.alert_id, status=event.status, error=str(error))
            return True
        except TransientError as error:
            metrics.WEBHOOK_SECONDS.labels("failed").observe(time.monotonic() - began)
            return self._failed(lane, one, str(error))
        metrics.WEBHOOK_SECONDS.labels("taken").observe(time.monotonic() - began)
        metrics.WEBHOOK_POSTED.labels(event.status).inc()
        self._taken += 1
        for other, (waiting, timer) in list(self._waiting.items()):
            if not waiting.strikes:  # the receiver was away, and is back
                timer.cancel()
                self._resume(other)
        return True

    def _failed(self, lane: str, one: _Post, error: str) -> bool:
        one.tries += 1
        one.strikes += one.tries > 1 and self._taken > one.taken_before
        one.taken_before = self._taken
        metrics.FAILURES.labels("webhook").inc()
        if one.strikes >= self._settings.webhook_tries:
            metrics.WEBHOOK_LEFT_OUT.inc()
            cure = "the receiver takes other events: see why it does not take this event"
            event = one.event
            log.error("webhook_left_out", alert_id=event.alert_id, status=event.status, error=error, cure=cure)
            return True
        log.log(log_level(one.tries), "webhook_retry", attempt=one.tries, error=error)
        self._turns.back(lane, [one])
        seconds = delay(one.tries, FIRST_PAUSE, LONGEST_PAUSE)
        timer = asyncio.get_running_loop().call_later(seconds, self._resume, lane)
        self._waiting[lane] = one, timer
        return False

    def _resume(self, lane: str) -> None:
        """Try what waits in a lane again."""
        self._waiting.pop(lane, None)
        self._turns.resume(lane)
        self._there.set()

    def _settle(self, one: _Post) -> None:
        del self._in_hand[key(one.event)]
        for partition, offset in one.places:
            self._consumer.done(partition, offset)


def _lane(event: AlertEvent) -> str:
    return f"{event.user_id}/{crc32(event.device_id.encode()) % LANES}"
