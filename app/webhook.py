"""iot-alerts -> a webhook: every alert event, in order per device, until its receiver has taken it.

A consumer group of its own: a receiver that is away keeps no MQTT message waiting. A crash may repeat what was taken
since the last commit, with the same Idempotency-Key.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

import structlog
from prometheus_client import Counter
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_random_exponential

from app.adapters.alert_consumer import KAFKA_ERRORS, AlertConsumer
from app.adapters.alert_records import alert_events
from app.adapters.hook import Hook
from app.adapters.insistence import FAILURES, Insistence, StoppedError
from app.core.alerts import AlertEvent, as_told, is_late
from app.errors import PermanentError, TransientError
from app.settings import Settings

log = structlog.get_logger()

POSTED = Counter("iot_webhook_posted", "Alert events the webhook has taken", ["status"])
REFUSED = Counter("iot_webhook_refused", "Alert events the webhook refuses (400, 409, 413, 415, 422); left out")

AT_ONCE = 8  # devices
LONGEST_PAUSE = 60.0  # seconds


class WebhookSender:
    """Runs until told to stop; waits out every absence of Kafka or the receiver."""

    def __init__(self, settings: Settings, hook: Hook, stop: asyncio.Event) -> None:
        self._settings, self._hook, self._insist = settings, hook, Insistence(stop)
        self._consumer = AlertConsumer(settings, "webhook", f"{settings.notifier_client_id}-webhook")
        self._slots = asyncio.Semaphore(AT_ONCE)

    async def run(self) -> None:
        """Take, post, commit; returns once told to stop."""
        try:
            while not self._insist.stopped:
                taken = await self._insist.on("kafka_take", self._consumer.take, KAFKA_ERRORS)
                for partition, records in taken.items():
                    await self._send(records)
                    await self._consumer.commit(partition, records[-1].offset + 1)
        except StoppedError:
            log.info("webhook_stopped_waiting", note="what was taken and not committed is posted again")
        finally:
            await self._consumer.close()
            await self._hook.close()

    async def _send(self, records: Sequence[Any]) -> None:
        """All of them; those of a device one after another."""
        devices: dict[tuple[str, str], list[tuple[AlertEvent, bytes]]] = defaultdict(list)
        for event, text in alert_events(records).values():
            devices[event.user_id, event.device_id].append((event, text))
        ends = await asyncio.gather(*map(self._send_in_order, devices.values()), return_exceptions=True)
        for end in ends:
            if isinstance(end, BaseException):
                raise end

    async def _send_in_order(self, events: Sequence[tuple[AlertEvent, bytes]]) -> None:
        async with self._slots:
            for event, text in events:
                await self._deliver(event, text)

    async def _deliver(self, event: AlertEvent, text: bytes) -> None:
        """Post until it is taken or refused. Raises StoppedError when told to stop."""
        name = f"{event.alert_id}-{event.status}-{event.repeat or 0}"
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(TransientError),
            wait=wait_random_exponential(multiplier=0.5, max=LONGEST_PAUSE),
            sleep=partial(self._insist.rest, "webhook"),
            before_sleep=_log,
        )
        try:
            await retrying(self._post, name, event, text)
        except PermanentError as error:
            REFUSED.inc()
            log.error("webhook_refused", alert_id=event.alert_id, status=event.status, error=str(error))
            return
        POSTED.labels(event.status).inc()

    async def _post(self, name: str, event: AlertEvent, text: bytes) -> None:
        late = is_late(event, datetime.now(UTC), self._settings.alert_delayed_after)
        await self._hook.post(name, as_told(text, late=late))


def _log(state: RetryCallState) -> None:
    """Before each pause: the first failures of many, then every tenth."""
    FAILURES.labels("webhook").inc()
    level = logging.WARNING if state.attempt_number <= 3 or state.attempt_number % 10 == 0 else logging.DEBUG
    error = state.outcome.exception() if state.outcome else None
    log.log(level, "webhook_retry", attempt=state.attempt_number, error=str(error))
