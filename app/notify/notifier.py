"""iot-alerts -> MQTT users/<id>/alerts: the path of an alert on one screen.

    1 take records of the outbox, in order per device                        (Kafka consumer group of its own)
    2 note them in alert_history, leave out what was acknowledged before      (postgres/queries/alert_history.py)
    2a leave out what is above the user's budget, for a digest a minute       (postgres/queries/alert_budget.py)
    3 publish with QoS 1, users in turn, and wait for the PUBACK of each      (app.notify.publishing)
    4 mark as sent what was acknowledged meanwhile, and as held what is for a digest
    5 commit the offsets up to the first record that is not done, last of all

Steps 2 and 4 take all records that wait at once, and step 1 goes on while messages are on their way: no user waits for
another's flood. Records in hand are bounded. Answers to refused rules and commands only take 2a, 3 and 5, and those
above the budget are counted alone: they are dead letters too. A crash between 3 and 4 repeats messages with the same
(alert_id, status, repeat) and loses none; a crash anywhere else repeats nothing. What cannot be an alert event is
logged, counted and left out. An outage of any of the three is waited out.
"""

import asyncio
import math
import time
from collections import Counter as Count
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import structlog

from app.core.delivery.budget import Budget
from app.kafka.access import kafka_away
from app.kafka.group_consumer import GroupConsumer
from app.notify import metrics
from app.notify.alert_records import AlertRecord, read
from app.notify.digests import Digests
from app.notify.history import note
from app.notify.in_hand import InHand, Place
from app.notify.publishing import Message, Publishing
from app.notify.retrying import RetryingDatabase, RetryUntilStopped, StoppedError, until_stopped
from app.notify.spans import NotifySpans
from app.postgres.queries import alert_budget, alert_history
from app.postgres.queries.alert_history import Key, key
from app.runtime.flushes import Flushes
from app.settings import Settings

log = structlog.get_logger()

IN_HAND, IN_HAND_BYTES = 5_000, 32 << 20  # messages on their way
OPEN = 100_000  # records that cannot be committed, because a record before them is on its way
STOP_SECONDS = 3.0  # for messages on their way at the end, while the broker takes them
LAST_TRIES = 0.2  # seconds between two tries to mark what is acknowledged, at the end


class Notifier:
    """Runs until stopped; waits out every absence of Kafka, the database or the MQTT broker."""

    def __init__(
        self, settings: Settings, publishing: Publishing, retry: RetryUntilStopped, spans: NotifySpans
    ) -> None:
        self._publishing, self._retry, self._spans = publishing, retry, spans
        self._consumer = GroupConsumer(settings, "notifier", settings.notifier_client_id)
        metrics.show("notifier", self._consumer)
        self.flushes = Flushes()  # of rounds of alerts that were marked as sent
        self._database = RetryingDatabase(settings, settings.notifier_client_id, retry)
        self._marks = RetryingDatabase(settings, f"{settings.notifier_client_id}-marks", retry)
        self._digests = Digests(settings, publishing, retry)
        self._budget = settings.alerts_per_minute
        self._answers = Budget(max(1, self._budget // 2), alert_budget.INTERVAL)  # the rest is for alerts alone
        self._in_hand: dict[Key, InHand] = {}
        self._bytes, self._per_user = 0, Count[str]()
        self._sent: list[Key] = []
        self._left_out: list[tuple[Key, str]] = []
        self._above: dict[Key, tuple[str, Place]] = {}  # to be held back
        self._holding = Count[str]()
        self._done: list[Place] = []
        self._settled = asyncio.Event()
        self._ending = False

    def ready(self) -> Mapping[str, bool]:
        """Whether there is a connection to each server, and, as `messages`, whether none is set aside as a suspect."""
        return {
            "kafka": self._consumer.connected,
            "mqtt": self._publishing.connected,
            "database": self._database.connected,
            "messages": not self._publishing.suspects,
        }

    @property
    def queue_depth(self) -> int:
        """Records taken from the alert topic and not yet done with."""
        return self._consumer.open

    async def run(self) -> None:
        """Take, publish, commit; returns once stopped, after STOP_SECONDS twice at most. Raises an ExceptionGroup of
        bugs.
        """
        try:
            async with asyncio.TaskGroup() as group:
                publishing = group.create_task(until_stopped(self._publishing.run()))
                rest = [group.create_task(until_stopped(steps)) for steps in (self._mark(), self._digests.run())]
                await until_stopped(self._take())
                await asyncio.wait([publishing], timeout=STOP_SECONDS)
                self._ending = True
                self._settled.set()
                await asyncio.wait(rest, timeout=STOP_SECONDS)
                for task in (publishing, *rest):
                    task.cancel()
            if self._in_hand:
                log.info("notifier_stopped_waiting", note="what was taken and not published comes again")
        finally:
            await self._consumer.close()
            for database in (self._database, self._marks, self._digests):
                database.close()

    async def _take(self) -> None:
        while not self._retry.stopped:
            await self._database.open()  # kept open, for /ready
            taken = await self._retry.on("kafka_take", self._consumer.take, kafka_away)
            if taken:
                metrics.TAKEN.labels("notifier").inc(sum(map(len, taken.values())))
                await self.notify(taken)
            while len(self._in_hand) > IN_HAND or self._bytes > IN_HAND_BYTES or self._consumer.open > OPEN:
                await self._retry.rest("in_hand", 0.02)

    async def notify(self, taken: Mapping[Any, Sequence[Any]]) -> None:
        """Steps 2 and 2a for records by partition, in offset order. Raises StoppedError: then none of them is done."""
        events: dict[Key, tuple[AlertRecord, Place]] = {}
        since, answers = time.time_ns(), list[tuple[AlertRecord, Place]]()
        places = {(partition, record.offset) for partition, records in taken.items() for record in records}
        for partition, records in taken.items():
            for found in read(records):
                place = (partition, found.offset)
                if found.event is None:
                    answers.append((found, place))
                elif one := self._in_hand.get(key(found.event)):  # read again, after a failure of the consumer
                    one.places.append(place)
                elif key(found.event) in events:
                    metrics.REPEATS.inc()
                    continue
                else:
                    events[key(found.event)] = found, place
                    continue
                places.discard(place)
        known = await note(self._database, {name: found for name, (found, _) in events.items()})
        fresh = {name: one for name, one in events.items() if not known.get(name)}
        metrics.REPEATS.inc(len(events) - len(fresh))
        left = await self._left([*fresh.values(), *answers])
        for name, (found, place) in fresh.items():
            places.discard(place)
            left[found.user_id] -= 1
            if left[found.user_id] >= 0 or name not in known:
                self._publish(name, found, place, since)
            else:
                self._above[name] = found.user_id, place
                self._holding[found.user_id] += 1
        for found, place in answers:
            left[found.user_id] -= 1
            if self._answered(found.user_id, left[found.user_id]):
                self._answer(found, place)
            else:
                metrics.ANSWERS.labels("over_budget").inc()
                places.add(place)
        self._done += places
        self._settled.set()

    async def _left(self, asked: Sequence[tuple[AlertRecord, Place]]) -> dict[str, float]:
        """Step 2a: how many messages each of the users may still get now."""
        users = {found.user_id for found, _ in asked}
        if not self._budget or not users:
            return dict.fromkeys(users, math.inf)
        budget_left = await self._database.ask(partial(alert_budget.left, users=users, budget=self._budget))
        now = time.monotonic()
        return {
            user: 0.0 if self._holding[user] else left - self._per_user[user] - self._answers.spent(user, now)
            for user, left in budget_left.items()
        }

    def _answered(self, user_id: str, left: float) -> bool:
        """Whether one more answer is sent. One a minute always is: a user who mends rules in a storm must know."""
        now = time.monotonic()
        if left < 0 and self._answers.spent(user_id, now):
            return False
        return not self._budget or self._answers.spend(user_id, now)

    def _publish(self, name: Key, found: AlertRecord, place: Place, since: int) -> None:
        assert found.event
        settled, span = partial(self._on_settled, name), self._spans.begin(found, since)
        message = Message(found.user_id, found.topic, found.text, settled, time=found.event.event_time, span=span)
        self._in_hand[name] = InHand(found, message, place, since)
        self._bytes += len(found.text)
        self._per_user[found.user_id] += 1
        self._publishing.put(message)

    def _on_settled(self, name: Key, left_out: str | None) -> None:
        """An event is acknowledged, or left out: both are noted before its offset is."""
        one = self._in_hand[name]
        self._spans.end(one.message.span, one.found, one.since, left_out)
        if left_out is None:
            self._sent.append(name)
            metrics.PUBLISHED.labels(name[1]).inc()
            metrics.DELAYED.inc(one.message.late)
        else:
            self._left_out.append((name, left_out))
        self._settled.set()

    def _answer(self, found: AlertRecord, place: Place) -> None:
        """Publish an answer; an answer that the broker refuses is left out, so that alerts do not wait for it."""

        def settled(refusal: str | None) -> None:
            metrics.ANSWERS.labels("refused" if refusal else "published").inc()
            self._done.append(place)
            self._settled.set()

        self._publishing.put(Message(found.user_id, found.topic, found.text, settled, patient=False))

    async def _mark(self) -> None:
        """Until all is marked at the end; what a stop finds waiting for the database is tried again."""
        while not self._ending or self._settled.is_set():
            await self._settled.wait()
            try:
                await self._mark_once()
            except StoppedError:
                await asyncio.sleep(LAST_TRIES)

    async def _mark_once(self) -> None:
        """Steps 4 and 5, for all that was settled since the last time. Raises StoppedError, and nothing is lost."""
        self._settled.clear()
        began = time.monotonic()
        sent, left_out, above, done = self._sent, self._left_out, self._above, self._done
        self._sent, self._left_out, self._above, self._done = [], [], {}, []
        try:
            await self._marks.ask(partial(alert_history.mark_sent, keys=sent))
            await self._marks.ask(partial(alert_history.leave_out, reasons=left_out))
            metrics.HELD.inc(len(await self._marks.ask(partial(alert_budget.hold, keys=list(above)))))
        except StoppedError:
            self._sent += sent
            self._left_out += left_out
            self._above |= above
            self._done += done
            self._settled.set()
            raise
        for name in [*sent, *(name for name, _ in left_out)]:
            one = self._in_hand.pop(name)
            self._bytes -= len(one.found.text)
            _less(self._per_user, one.found.user_id)
            done += one.places
        for user_id, place in above.values():
            _less(self._holding, user_id)
            done.append(place)
        for partition, offset in done:
            self._consumer.done(partition, offset)
        await self._consumer.commit()
        if sent:
            self.flushes.add(len(sent), time.monotonic() - began)


def _less(counts: "Count[str]", user_id: str) -> None:
    counts[user_id] -= 1
    if not counts[user_id]:
        del counts[user_id]
