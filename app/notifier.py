"""iot-alerts -> MQTT users/<id>/alerts: the path of an alert on one screen.

    1 take records of the outbox, in order per device                        (Kafka consumer group of its own)
    2 note them in alert_history, leave out what was acknowledged before      (adapters/alert_history)
    3 publish with QoS 1 and wait for every PUBACK                            (adapters/mqtt)
    4 mark them sent
    5 commit the offset, last of all

Answers to refused rules and commands only take 3 and 5.
A crash between 3 and 4 repeats messages with the same (alert_id, status, repeat) and loses none; a crash anywhere else
repeats nothing. What cannot be an alert event is logged, counted and left out. An outage of any of the three is waited
out.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from prometheus_client import Counter

from app.adapters import alert_history, sqlstate
from app.adapters.alert_history import Key
from app.adapters.alert_records import REPEATS, Events, alert_events, answers
from app.adapters.closing import close_consumer
from app.adapters.database import Connection, connect
from app.adapters.kafka_access import access, start
from app.adapters.mqtt import MqttPublisher
from app.core.model import Record
from app.errors import IotStreamError
from app.gateways.backoff import delay
from app.settings import Settings

log = structlog.get_logger()
T = TypeVar("T")

PUBLISHED = Counter("iot_notifier_published", "Alert messages acknowledged by the MQTT broker", ["status"])
ANSWERS = Counter("iot_notifier_answers", "Answers to refused rules and commands, by what became of them", ["outcome"])
UNRECORDED = Counter("iot_notifier_unrecorded", "Alerts published though the database refuses their row")
FAILURES = Counter("iot_notifier_failures", "Steps that failed and were tried again", ["step"])

BATCH = 500
METADATA_MS = 10_000  # a topic created after the start is found this soon
MAX_POLL_MS = 24 * 3600 * 1000  # an outage of the broker is waited out between two polls
KAFKA_ERRORS = (KafkaError, OSError)


class _StoppedError(IotStreamError):
    """Told to stop while waiting out an outage."""


class Notifier:
    """Runs until told to stop; waits out every absence of Kafka, the database or the MQTT broker."""

    def __init__(self, settings: Settings, publisher: MqttPublisher, stop: asyncio.Event) -> None:
        self._settings, self._publisher, self._stop = settings, publisher, stop
        self._kafka = access(settings)
        self._connection: Connection | None = None
        self._consumer: Any = None

    def ready(self) -> Mapping[str, bool]:
        """What it needs, and whether that is there."""
        database = self._connection is not None and not self._connection.is_closed()
        return {"kafka": self._consumer is not None, "mqtt": self._publisher.connected, "database": database}

    async def run(self) -> None:
        """Take, publish, commit; returns once `stop` is set and the batch at hand is done."""
        try:
            while not self._stop.is_set():
                await self._insist("database", self._connected, sqlstate.DATABASE_ERRORS)  # kept open, for /ready
                taken = await self._insist("kafka_take", self._take, KAFKA_ERRORS)
                for partition, records in taken.items():
                    await self.notify(records)
                    await self._commit(partition, records[-1].offset + 1)
        except _StoppedError:
            log.info("notifier_stopped_waiting", note="what was taken and not published comes again")
        finally:
            if self._consumer is not None:
                await close_consumer(self._consumer)
            await self._disconnect()

    async def notify(self, records: Sequence[Record]) -> None:
        """Steps 2 to 4 for records of one partition; returns when each is published or known to have been."""
        await self._answer(answers(records))
        events = alert_events(records)
        attempt = 0
        while events:
            known = await self._note(events)
            REPEATS.inc(len(known))
            events = {key: event for key, event in events.items() if key not in known}
            messages = [(f"users/{event.user_id}/alerts", value) for event, value in events.values()]
            outcomes = dict(zip(events, await self._publisher.publish(messages), strict=True))
            acked = [key for key, refusal in outcomes.items() if refusal is None]
            await self._database(partial(alert_history.mark_sent, keys=acked))
            for _, status, _ in acked:
                PUBLISHED.labels(status).inc()
            refusals = {refusal for refusal in outcomes.values() if refusal}
            if not refusals:
                return
            log.error("notifier_refused", reasons=sorted(refusals), cure="let the account publish to users/+/alerts")
            events = {key: event for key, event in events.items() if outcomes[key]}
            await self._pause("mqtt_publish", attempt := attempt + 1)

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
            await self._database(lambda connection: alert_history.record(connection, list(events.values())))
        except sqlstate.DATABASE_ERRORS as error:  # of kind DATA: one of the rows
            if len(events) == 1:
                UNRECORDED.inc()
                log.error("notifier_unrecorded", alert_id=next(iter(events))[0], error=sqlstate.words(error))
                return set()
            known: set[Key] = set()
            for key, event in events.items():
                known |= await self._note({key: event})
            return known
        return await self._database(lambda connection: alert_history.already_sent(connection, list(events)))

    async def _database(self, call: Callable[[Connection], Awaitable[T]]) -> T:
        """Wait out an outage; raises sqlstate.DATABASE_ERRORS only when the data is at fault."""
        return await self._insist("database", lambda: self._on_connection(call), sqlstate.DATABASE_ERRORS)

    async def _on_connection(self, call: Callable[[Connection], Awaitable[T]]) -> T:
        try:
            return await call(await self._connected())
        except sqlstate.DATABASE_ERRORS as error:
            if sqlstate.classify(error) is not sqlstate.Failure.DATA:
                await self._disconnect()
            raise

    async def _connected(self) -> Connection:
        if self._connection is None or self._connection.is_closed():
            self._connection = await connect(self._settings, self._settings.notifier_client_id)
        return self._connection

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()

    async def _subscribe(self) -> Any:
        consumer = AIOKafkaConsumer(
            self._settings.kafka_alerts_topic,
            **self._kafka.options,
            group_id=f"{self._settings.group_id}-notifier",
            client_id=self._settings.notifier_client_id,
            group_instance_id=self._settings.notifier_client_id,  # after a kill it goes on at once, not after 10 s
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            metadata_max_age_ms=METADATA_MS,
            max_poll_interval_ms=MAX_POLL_MS,
        )
        try:
            await start(consumer, self._kafka)
        except BaseException:
            await close_consumer(consumer)
            raise
        return consumer

    async def _take(self) -> Mapping[Any, Sequence[Any]]:
        """Records by partition; a consumer that fails is replaced, as some of its errors last."""
        if self._consumer is None:
            self._consumer = await self._subscribe()
        try:
            taken: Mapping[Any, Sequence[Any]] = await self._consumer.getmany(timeout_ms=500, max_records=BATCH)
        except KafkaError:
            failed, self._consumer = self._consumer, None
            await close_consumer(failed)
            raise
        return taken

    async def _commit(self, partition: TopicPartition, offset: int) -> None:
        """A commit that fails costs a repeat, which alert_history drops."""
        try:
            await self._consumer.commit({partition: offset})
        except KafkaError as error:
            log.warning("notifier_commit_failed", partition=partition.partition, error=repr(error))

    async def _insist(self, step: str, call: Callable[[], Awaitable[T]], errors: tuple[type[BaseException], ...]) -> T:
        """Call until it succeeds. Raises the error of bad data, and _StoppedError when told to stop."""
        attempt = 0
        while True:
            try:
                return await call()
            except errors as error:
                if step == "database" and sqlstate.classify(error) is sqlstate.Failure.DATA:
                    raise
                attempt += 1
                level = log.warning if attempt < 5 or attempt % 10 == 0 else log.debug
                level("notifier_retry", step=step, attempt=attempt, error=sqlstate.words(error))
            await self._pause(step, attempt)

    async def _pause(self, step: str, attempt: int) -> None:
        FAILURES.labels(step).inc()
        try:
            await asyncio.wait_for(self._stop.wait(), delay(attempt))
        except TimeoutError:
            return
        raise _StoppedError(step)
