"""How many readings are stored, and after how long, while a run is under way: asked of the database again and again.

The time of a reading until its row is there is measured on a sample: a look asks for the sampled readings by their
primary key. So a time is too long by up to the pause between two looks, and never too short.
"""

import asyncio
import random
import time
from collections.abc import Sequence
from datetime import datetime

from app.core.model.times import moment
from app.loadtest.device import LoadDevice
from app.loadtest.latencies import Latencies
from app.loadtest.plan import LoadPlan
from app.loadtest.senders import Senders
from app.postgres.connect import Connection, connect
from app.postgres.queries import load_rows
from app.postgres.sqlstate import DATABASE_ERRORS, words
from app.runtime.retry import delay
from app.settings import Settings

LOOK = 0.02  # seconds between two looks, and at most a fifth of the time is spent looking
SAMPLES = 10  # new readings of a look
SAMPLES_MAX = 1000  # readings that are looked for at once
COUNT_SECONDS = 1.0
OLD_SECONDS = 60  # what is still not there then is counted less often
RARELY = 10

Key = tuple[datetime, str, str, int]


class StoredWatch:
    """Looks at the rows of one run. A database that is away costs figures, and not the run."""

    def __init__(self, settings: Settings, plan: LoadPlan, senders: Senders) -> None:
        self.rows = 0
        self.latencies, self.recent = Latencies(), Latencies()
        self.problem = ""  # why there are no figures now
        self._settings, self._plan, self._senders = settings, plan, senders
        self._sampled: dict[Key, float] = {}  # when each was due
        self._counts: dict[int, int] = {}  # rows by second
        self._open = 0  # the first second of which not all rows are there
        self._looks = 0

    def taken(self) -> Latencies:
        """The times since the last call."""
        found, self.recent = self.recent, Latencies()
        self.latencies.merge(found)
        return found

    async def run(self) -> None:
        """Look until cancelled; to be started once the run has begun."""
        self._open = self._plan.start_us // 1_000_000
        failures = 0
        while True:
            try:
                connection = await connect(self._settings, "iot-stream load watch", planned_anew=True)
                try:
                    failures, self.problem = 0, ""
                    await self._look(connection)
                finally:
                    connection.terminate()
            except DATABASE_ERRORS as error:
                self.problem, failures = words(error), failures + 1
                await asyncio.sleep(delay(failures))

    async def _look(self, connection: Connection) -> None:
        counted = 0.0
        while True:
            began = time.monotonic()
            self._sample()
            await self._ask(connection)
            if began - counted >= COUNT_SECONDS:
                counted = began
                await self._count(connection)
            await asyncio.sleep(max(LOOK, 4 * (time.monotonic() - began)))

    def _sample(self) -> None:
        devices = self._senders.devices
        for device in random.choices(devices, k=min(SAMPLES, SAMPLES_MAX - len(self._sampled))):
            if device.sent and device.sent not in device.refused:
                due = self._plan.schedule.due(self._plan.message(device.number, device.sent))
                self._sampled.setdefault(self._key(device, due), due)

    def _key(self, device: LoadDevice, due: float) -> Key:
        return moment(self._plan.at_us(due)), self._plan.user(device.number), device.name, device.sent

    async def _ask(self, connection: Connection) -> None:
        keys = list(self._sampled)
        if not keys:
            return
        places: Sequence[int] = await load_rows.seen(connection, keys)
        now = self._senders.clock()
        for place in places:
            self.recent.add(now - self._sampled.pop(keys[place]))

    async def _count(self, connection: Connection) -> None:
        now = time.time_ns() // 1_000_000_000
        self._looks += 1
        begin = self._open
        if now - begin > OLD_SECONDS and self._looks % RARELY:
            begin = now - OLD_SECONDS
        found = await load_rows.counted(
            connection, moment(begin * 1_000_000), moment((now + 1) * 1_000_000), self._plan.users, self._plan.pattern
        )
        self._counts.update(found)
        self.rows = sum(self._counts.values())
        self._close(now)

    def _close(self, now: int) -> None:
        """Leave out of the next look the seconds that are over, and of which all rows are there."""
        there = sum(count for second, count in self._counts.items() if second < self._open)
        while self._open < now:
            there += self._counts.get(self._open, 0)
            if there < self._plan.due_before((self._open + 1) * 1_000_000):
                return
            self._open += 1
