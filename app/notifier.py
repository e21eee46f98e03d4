"""iot-alerts -> MQTT users/<id>/alerts: the path of an alert on one screen.

    1 take records of the outbox, in order per device                        (Kafka consumer group of its own)
    2 note them in alert_history, leave out what was acknowledged before      (adapters/alert_history)
    2a hold back what is above the user's budget, for a digest a minute       (adapters/storms)
    3 publish with QoS 1 and wait for every PUBACK                            (adapters/mqtt)
    4 mark them sent
    5 commit the offset, last of all

Answers to refused rules and commands only take 3 and 5.
A crash between 3 and 4 repeats messages with the same (alert_id, status, repeat) and loses none; a crash anywhere else
repeats nothing. What cannot be an alert event is logged, counted and left out. An outage of any of the three is waited
out.
"""

import asyncio
import time
from collections import Counter as Count
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial

import structlog
from prometheus_client import Counter

from app.adapters import alert_history, sqlstate, storms
from app.adapters.alert_consumer import KAFKA_ERRORS, AlertConsumer
from app.adapters.alert_history import Key
from app.adapters.alert_records import REPEATS, Events, alert_events, answers
from app.adapters.insistence import Insistence, StoppedError
from app.adapters.mqtt import MqttPublisher
from app.adapters.patient_database import PatientDatabase
from app.core.alerts import as_told, is_late
from app.core.digest import Held, digest
from app.core.model import Record
from app.settings import Settings

log = structlog.get_logger()

PUBLISHED = Counter("iot_notifier_published", "Alert messages acknowledged by the MQTT broker", ["status"])
DELAYED = Counter("iot_notifier_delayed", "Those of them that said they were `delayed`")
ANSWERS = Counter("iot_notifier_answers", "Answers to refused rules and commands, by what became of them", ["outcome"])
UNRECORDED = Counter("iot_notifier_unrecorded", "Alerts published though the database refuses their row")
HELD = Counter("iot_notifier_held", "Alerts above a user's budget, which are told in a digest")

DIGEST_SECONDS = 1.0  # how often it is asked who is due
CURE = "let the account publish to users/+/alerts"


class Notifier:
    """Runs until told to stop; waits out every absence of Kafka, the database or the MQTT broker."""

    def __init__(self, settings: Settings, publisher: MqttPublisher, stop: asyncio.Event) -> None:
        self._settings, self._publisher = settings, publisher
        self._consumer = AlertConsumer(settings, "notifier", settings.notifier_client_id)
        self._insist = Insistence(stop)
        self._database = PatientDatabase(settings, settings.notifier_client_id, self._insist)
        self._asked = 0.0  # when it was last asked who is due, monotonic

    def ready(self) -> Mapping[str, bool]:
        """What it needs, and whether that is there."""
        return {
            "kafka": self._consumer.connected,
            "mqtt": self._publisher.connected,
            "database": self._database.connected,
        }

    async def run(self) -> None:
        """Take, publish, commit; returns once `stop` is set and the batch at hand is done."""
        try:
            while not self._insist.stopped:
                await self._database.open()  # kept open, for /ready
                taken = await self._insist.on("kafka_take", self._consumer.take, KAFKA_ERRORS)
                for partition, records in taken.items():
                    await self.notify(records)
                    await self._consumer.commit(partition, records[-1].offset + 1)
                await self._tell_digests()
        except StoppedError:
            log.info("notifier_stopped_waiting", note="what was taken and not published comes again")
        finally:
            await self._consumer.close()
            self._database.close()

    async def notify(self, records: Sequence[Record]) -> None:
        """Steps 2 to 4 for records of one partition; returns when each is published, held or known to have been."""
        await self._answer(answers(records))
        events = alert_events(records)
        if not events:
            return
        known = await self._note(events)
        REPEATS.inc(len(known))
        events = {key: event for key, event in events.items() if key not in known}
        held = await self._hold(events)
        await self._publish({key: event for key, event in events.items() if key not in held})

    async def _publish(self, events: Events) -> None:
        """Steps 3 and 4, until the broker has taken each of them."""
        attempt = 0
        while events:
            await self._online()
            now, after = datetime.now(UTC), self._settings.alert_delayed_after
            late = {key for key, (event, _) in events.items() if is_late(event, now, after)}
            messages = [
                (f"users/{event.user_id}/alerts", as_told(text, late=key in late))
                for key, (event, text) in events.items()
            ]
            outcomes = dict(zip(events, await self._publisher.publish(messages), strict=True))
            acked = [key for key, refusal in outcomes.items() if refusal is None]
            await self._database.ask(partial(alert_history.mark_sent, keys=acked))
            DELAYED.inc(len(late.intersection(acked)))
            for _, status, _ in acked:
                PUBLISHED.labels(status).inc()
            events = {key: event for key, event in events.items() if outcomes[key]}
            if events:
                log.error("notifier_refused", reasons=sorted({r for r in outcomes.values() if r}), cure=CURE)
                await self._insist.pause("mqtt_publish", attempt := attempt + 1)

    async def _online(self) -> None:
        """Messages are made when there is a connection: those that waited for it say so."""
        while not await self._publisher.online(1.0):
            if self._insist.stopped:
                raise StoppedError("mqtt_connect")

    async def _hold(self, events: Events) -> set[Key]:
        """Step 2a: the keys of those that are held back."""
        budget = self._settings.alerts_per_minute
        if not budget or not events:
            return set()
        users = Count(event.user_id for event, _ in events.values())
        left = await self._database.ask(partial(storms.left, users=users, budget=budget))
        above = []
        for key, (event, _) in events.items():
            left[event.user_id] -= 1
            if left[event.user_id] < 0:
                above.append(key)
        held = await self._database.ask(partial(storms.hold, keys=above))
        HELD.inc(len(held))
        return held

    async def _tell_digests(self) -> None:
        if not self._settings.alerts_per_minute or time.monotonic() < self._asked + DIGEST_SECONDS:
            return
        self._asked = time.monotonic()
        for user in await self._database.ask(storms.due):
            held = await self._database.ask(partial(storms.held, user_id=user))
            if held:
                await self._tell(user, held)

    async def _tell(self, user: str, held: Sequence[Held]) -> None:
        """One digest; a crash before it is marked tells it again, with the same digest_id."""
        attempt = 0
        while True:
            await self._online()
            (refusal,) = await self._publisher.publish([(f"users/{user}/alerts", digest(user, held))])
            if refusal is None:
                break
            log.error("notifier_refused", reasons=[refusal], cure=CURE)
            await self._insist.pause("mqtt_publish", attempt := attempt + 1)
        keys = [(one.alert_id, one.status, one.repeat) for one in held]
        await self._database.ask(partial(alert_history.mark_sent, keys=keys))
        PUBLISHED.labels("DIGEST").inc()

    async def _answer(self, messages: Sequence[tuple[str, bytes]]) -> None:
        """Publish answers; one that the broker refuses is left out, so that alerts do not wait for it."""
        outcomes = await self._publisher.publish(messages) if messages else []
        for refusal in outcomes:
            ANSWERS.labels("refused" if refusal else "published").inc()
        if refusals := {refusal for refusal in outcomes if refusal}:
            cure = "let the account publish to users/+/config/errors and users/+/alerts/errors"
            log.error("notifier_answers_refused", reasons=sorted(refusals), cure=cure)

    async def _note(self, events: Events) -> set[Key]:
        """Record the events; returns those that were acknowledged before."""
        try:
            await self._database.ask(lambda connection: alert_history.record(connection, list(events.values())))
        except sqlstate.DATABASE_ERRORS as error:  # of kind DATA: one of the rows
            if len(events) == 1:
                UNRECORDED.inc()
                log.error("notifier_unrecorded", alert_id=next(iter(events))[0], error=sqlstate.words(error))
                return set()
            known: set[Key] = set()
            for key, event in events.items():
                known |= await self._note({key: event})
            return known
        return await self._database.ask(lambda connection: alert_history.already_sent(connection, list(events)))
