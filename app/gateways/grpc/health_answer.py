"""How the gateway does: in, the intake, the last error, broker; out, the answer of GetHealth."""

import time
from datetime import datetime

from app.gateways.intake import Intake
from app.mqtt.reach import MqttReach
from app.protobuf.ingest_pb2 import GetHealthResponse
from app.runtime.last_error import LAST_ERROR
from app.runtime.version import VERSION


class HealthAnswer:
    """How one process does."""

    def __init__(self, intake: Intake, mqtt: MqttReach | None) -> None:
        """`mqtt` None: this process knows no broker, and its answer names none."""
        self._intake, self._mqtt = intake, mqtt
        self._began = time.monotonic()

    @property
    def serving(self) -> bool:
        """Whether batches are taken, and reach Kafka."""
        return self._intake.answered and not self._intake.full

    async def answer(self) -> bytes:
        """The bytes of a GetHealthResponse. Never raises."""
        made = GetHealthResponse(
            status=GetHealthResponse.STATUS_SERVING if self.serving else GetHealthResponse.STATUS_NOT_SERVING,
            queue_depth=self._intake.queue_depth,
            kafka_connected=self._intake.answered,
            version=VERSION,
            uptime_seconds=time.monotonic() - self._began,
        )
        flushes = self._intake.flushes
        if flushes.last is not None and flushes.mean_seconds is not None:
            made.last_flush_time_us = round(1_000_000 * flushes.last.at)
            made.last_flush_records = flushes.last.rows
            made.average_flush_seconds = flushes.mean_seconds
        if error := LAST_ERROR.shown:
            made.last_error = error["error"]
            made.last_error_time_us = round(1_000_000 * datetime.fromisoformat(error["at"]).timestamp())
        if self._mqtt:
            made.mqtt_connected = await self._mqtt.asked()
        return made.SerializeToString()
