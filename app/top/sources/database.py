"""Open alerts, and one device: in, the settings; out, what the database knows, or why it does not answer."""

import asyncio
import time
from datetime import UTC, datetime

from msgspec import Struct

from app.postgres.connect import Connection, connect
from app.postgres.queries.alert_lists import OpenAlert, newest_open, open_alerts
from app.postgres.queries.latest import LatestReading, LatestStatus, latest_readings, latest_status
from app.postgres.sqlstate import DATABASE_ERRORS, words
from app.settings import Settings
from app.top.model.answers import AlertsAnswer
from app.top.model.programs import plain_text
from app.top.model.snapshot import AlertRow

SECONDS = 5.0  # for an answer
NEWEST = 200  # alerts that are listed
READINGS = 10  # of a device


class DeviceAnswer(Struct, frozen=True):
    """Readings and alerts of one device; `problem` when the database does not answer."""

    user: str
    device: str
    status: LatestStatus | None = None
    readings: tuple[LatestReading, ...] = ()  # the newest first
    alerts: tuple[AlertRow, ...] = ()
    problem: str = ""


class DatabaseSource:
    """One connection, opened again after a failure; one question at a time."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._connection: Connection | None = None
        self._one_at_a_time = asyncio.Lock()

    async def ask(self) -> AlertsAnswer:
        """The number of open alerts, and the newest of them, NEWEST at most; `problem` where the database does not
        answer within SECONDS. Never raises for an outage.
        """
        try:
            async with self._one_at_a_time, asyncio.timeout(SECONDS):
                count, newest = await newest_open(await self._connected(), NEWEST)
        except DATABASE_ERRORS as error:
            return AlertsAnswer(time.monotonic(), problem=await self._failed(error))
        return AlertsAnswer(time.monotonic(), count, tuple(map(_row, newest)))

    async def device(self, user: str, device: str) -> DeviceAnswer:
        """The last READINGS readings of a device, its status and its open alerts; `problem` where the database does not
        answer within twice SECONDS. Never raises for an outage.
        """
        try:
            async with self._one_at_a_time, asyncio.timeout(2 * SECONDS):
                connection = await self._connected()
                status = await latest_status(connection, user, device)
                alerts = [one for one in await open_alerts(connection, user, None) if one.device_id == device]
                readings = await latest_readings(connection, user, device, READINGS, SECONDS)
        except DATABASE_ERRORS as error:
            return DeviceAnswer(user, device, problem=await self._failed(error))
        return DeviceAnswer(user, device, status, tuple(readings), tuple(map(_row, alerts)))

    async def close(self) -> None:
        """Drop the connection; safe before the first question, and twice."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()

    async def _connected(self) -> Connection:
        if self._connection is None or self._connection.is_closed():
            self._connection = await connect(self._settings, "iot-stream top")
        return self._connection

    async def _failed(self, error: BaseException) -> str:
        await self.close()
        return f"the database: {plain_text(words(error), 100)}"


def _row(alert: OpenAlert) -> AlertRow:
    return AlertRow(
        plain_text(alert.severity, 20),
        plain_text(f"{alert.user_id}/{alert.device_id}", 200),
        plain_text(alert.rule_id, 60),
        plain_text(alert.state, 20),
        max(0.0, (datetime.now(UTC) - alert.first_seen).total_seconds()),
        plain_text(alert.message, 200),
        plain_text(alert.alert_id, 100),
        alert.value,
    )
