"""iot-alerts -> the channels of users: each event to each of them that takes it, in order, until it has it.

A consumer group of its own: a service that is away keeps no MQTT message waiting, and only its own lane, which is one
channel of one user. Users have the budget that they have over MQTT, on each channel; what is above it comes as one
message once there is room, and of a storm some events are only counted there. A crash may repeat what was sent since
the last commit.
"""

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import structlog
from msgspec import Struct

from app.core.delivery.budget import Budget
from app.core.delivery.fair_queue import FairQueue
from app.core.model.alert_event import AlertEvent
from app.errors import PermanentError, TransientError
from app.kafka.access import kafka_away
from app.kafka.group_consumer import GroupConsumer
from app.notify import metrics
from app.notify.alert_records import read
from app.notify.channels.apprise_client import AppriseClient, tone_of
from app.notify.channels.channel import Channel
from app.notify.channels.channel_book import ChannelBook
from app.notify.channels.message_text import one_event, several_events
from app.notify.channels.shares import Shares
from app.notify.retrying import RetryUntilStopped, StoppedError
from app.runtime.retry import delay, log_level
from app.settings import Settings

log = structlog.get_logger()

AT_ONCE, OF_ONE = 8, 2  # messages; of one user, and to one URL
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0  # seconds
INTERVAL = 60.0  # seconds of a budget
LANE_MAX, IN_HAND = 500, 20_000  # deliveries that wait: of one channel of one user, and of all, which the lanes share


class _Record(Struct, eq=False):
    """Where an event was read, and to how many channels it has to go yet."""

    place: tuple[Any, int]
    open: int


class _Delivery(Struct, eq=False):
    """One event on its way to one channel."""

    event: AlertEvent
    channel: Channel
    record: _Record


class _Lane(Struct, eq=False):
    """How one channel of one user does."""

    tries: int = 0
    strikes: int = 0  # failed tries, each after other messages had been taken since the try before
    taken_before: int = 0
    digest_due: bool = False  # the budget was spent, or it is the last try: what waits goes as one message
    unlisted: int = 0  # events beside those that wait, of which the next message says only how many they are


class ChannelSender:
    """Runs until stopped; waits out every absence of Kafka, the database or a service."""

    def __init__(self, settings: Settings, client: AppriseClient, book: ChannelBook, stop: asyncio.Event) -> None:
        """`client` and `book` are closed when the sender ends; `stop` ends it."""
        self._settings, self._client, self._book, self._retry = settings, client, book, RetryUntilStopped(stop)
        self._consumer = GroupConsumer(settings, "channels", f"{settings.notifier_client_id}-channels")
        metrics.show("channels", self._consumer)
        self._turns: FairQueue[_Delivery] = FairQueue()
        self._shares = Shares(OF_ONE)
        self._refused: dict[str, str] = {}  # by lane: why its last message was refused
        self._lanes: dict[str, _Lane] = {}  # of lanes that wait or have failed
        self._budget = Budget(settings.alerts_per_minute, INTERVAL) if settings.alerts_per_minute else None
        self._there = asyncio.Event()
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._taken = 0

    async def run(self) -> None:
        """Take, send, commit; returns once stopped: what is under way then comes again. Raises an ExceptionGroup of
        what is a bug.
        """
        try:
            async with asyncio.TaskGroup() as group:
                sending = [group.create_task(self._send_in_turn()) for _ in range(AT_ONCE)]
                try:
                    await self._take()
                except StoppedError:
                    log.info("channels_stopped_waiting", note="what was taken and not committed is sent again")
                for task in sending:
                    task.cancel()
            await self._consumer.commit()
        finally:
            for timer in self._timers.values():
                timer.cancel()
            await self._consumer.close()
            self._client.close()
            self._book.close()

    async def _take(self) -> None:
        while not self._retry.stopped:
            taken = await self._retry.on("kafka_take", self._consumer.take, kafka_away)
            await self._book.refresh()
            for partition, records in taken.items():
                self._add(partition, records)
            self._there.set()
            await self._consumer.commit()

    def _add(self, partition: Any, records: Sequence[Any]) -> None:
        places = {record.offset: record.timestamp for record in records}
        metrics.TAKEN.labels("channels").inc(len(places))
        for found in read(records):
            if found.event is None or not (channels := self._book.of(found.event, places[found.offset])):
                continue
            del places[found.offset]
            record = _Record((partition, found.offset), len(channels))
            for channel in channels:
                self._put(f"{found.user_id}\0{channel.url}", _Delivery(found.event, channel, record))
        for offset in places:
            self._consumer.done(partition, offset)

    def _put(self, name: str, made: _Delivery) -> None:
        """Have the event wait in its lane, or only count it there: no user's storm keeps other users waiting."""
        if self._turns.waiting(name) < max(1, min(LANE_MAX, IN_HAND // (self._turns.lanes + 1))):
            self._turns.put(name, made)
            return
        lane = self._lanes.setdefault(name, _Lane())
        if not lane.unlisted:
            log.warning("channel_storm", user_id=made.event.user_id, scheme=made.channel.scheme)
        lane.digest_due, lane.unlisted = True, lane.unlisted + 1
        metrics.CHANNEL_MESSAGES.labels("counted").inc()
        self._settle(made.record)

    async def _send_in_turn(self) -> None:
        """Send one message at a time. A lane that is sent to is paused, so that events keep their order."""
        while True:
            while (taken := self._turns.take()) is None:
                self._there.clear()
                await self._there.wait()
            name, first = taken
            self._turns.pause(name)
            keys = f"user {first.event.user_id}", f"url {first.channel.url}"
            if not self._shares.enter(name, *keys):
                self._turns.back(name, [first])
                continue
            try:
                await self._send(name, first)
            finally:
                for other in self._shares.leave(*keys):
                    self._resume(other)

    async def _send(self, name: str, first: _Delivery) -> None:
        lane = self._lanes.setdefault(name, _Lane())
        if not lane.tries and self._budget is not None and not self._budget.spend(name, time.monotonic()):
            log.info("channel_budget_spent", user_id=first.event.user_id, scheme=first.channel.scheme)
            lane.digest_due = True
            self._turns.back(name, [first])
            self._rest(name, INTERVAL)
            return
        waiting, unlisted = [first], 0
        if lane.digest_due:
            waiting += self._turns.take_all(name)
            unlisted, lane.unlisted = lane.unlisted, 0
        if not await self._deliver(name, lane, waiting, unlisted):
            lane.unlisted += unlisted
            return
        del self._lanes[name]
        if lane.unlisted:  # the storm went on meanwhile
            self._lanes[name] = _Lane(digest_due=True, unlisted=lane.unlisted)
        for one in waiting:
            self._settle(one.record)
        self._resume(name)

    async def _deliver(self, name: str, lane: _Lane, waiting: list[_Delivery], unlisted: int) -> bool:
        """Whether these events are done: taken, refused or left out; else they wait, with their lane."""
        events, channel = [one.event for one in waiting], waiting[0].channel
        count = len(events) + unlisted
        title, body = one_event(events[0]) if count == 1 else several_events(events, unlisted)
        what: dict[str, object] = {
            "user_id": events[0].user_id,
            "scheme": channel.scheme,
            "alert_id": events[0].alert_id,
            "events": count,
        }
        try:
            await self._client.send(channel, title, body, tone_of(events[-1].status, events[-1].severity))
        except PermanentError as error:
            metrics.CHANNEL_MESSAGES.labels("refused").inc()
            if self._refused.get(name) != str(error):
                self._refused[name] = str(error)
                log.error("channel_refused", error=str(error), note="later messages are refused without a line", **what)
            return True
        except TransientError as error:
            return self._failed(name, lane, waiting, str(error), what)
        metrics.CHANNEL_MESSAGES.labels("taken").inc()
        self._refused.pop(name, None)
        self._taken += 1
        return True

    def _failed(self, name: str, lane: _Lane, waiting: list[_Delivery], error: str, what: dict[str, object]) -> bool:
        lane.tries += 1
        lane.strikes += lane.tries > 1 and self._taken > lane.taken_before
        lane.taken_before = self._taken
        metrics.FAILURES.labels("channel").inc()
        if lane.strikes >= self._settings.webhook_tries:
            metrics.CHANNEL_MESSAGES.labels("left_out").inc()
            cure = "other channels take their messages: see why this one does not"
            log.error("channel_left_out", error=error, cure=cure, **what)
            return True
        log.log(log_level(lane.tries), "channel_retry", attempt=lane.tries, error=error, **what)
        lane.digest_due |= lane.strikes + 1 >= self._settings.webhook_tries
        self._turns.back(name, waiting)
        self._rest(name, delay(lane.tries, FIRST_PAUSE, LONGEST_PAUSE))
        return False

    def _rest(self, name: str, seconds: float) -> None:
        """Try what waits in a lane again after so long."""
        self._timers[name] = asyncio.get_running_loop().call_later(seconds, self._resume, name)

    def _resume(self, name: str) -> None:
        self._timers.pop(name, None)
        self._turns.resume(name)
        self._there.set()

    def _settle(self, record: _Record) -> None:
        record.open -= 1
        if not record.open:
            self._consumer.done(*record.place)
