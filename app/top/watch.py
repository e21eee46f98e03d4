"""The looking: in, addresses and settings; out, Snapshots, each after the time that its caller gives.

A question to one source goes on when other sources have answered, and its answer comes into a later Snapshot; so a
process that hangs holds up neither other processes nor the screen.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from typing import Any, Generic, TypeVar

from app.settings import Settings
from app.top.model.answers import AlertsAnswer, GroupAnswer, PageAnswer
from app.top.model.deployment import Deployment
from app.top.model.snapshot import Snapshot
from app.top.sources import pages
from app.top.sources.database import DatabaseSource, DeviceAnswer
from app.top.sources.group import GroupSource

T = TypeVar("T")

EVERYBODY = 20.0  # seconds; longer than any source takes to fail


class Asked(Generic[T]):
    """One source, asked again once it has answered, never twice at a time."""

    def __init__(self, ask: Callable[[], Coroutine[Any, Any, T]]) -> None:
        self._ask = ask
        self._task: asyncio.Task[T] | None = None
        self.answer: T | None = None

    def begin(self) -> "asyncio.Task[T]":
        """The task of the question under way, or of a new one."""
        if self._task is None:
            self._task = asyncio.create_task(self._ask())
        return self._task

    def collect(self) -> T | None:
        """The newest answer; None: no answer yet. Raises what the question raised, which is a bug: an outage is an
        answer.
        """
        if self._task is not None and self._task.done():
            task, self._task = self._task, None
            self.answer = task.result()
        return self.answer

    async def cancel(self) -> None:
        """Give up the question under way."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})


class Watch:
    """A deployment, looked at from outside. Use as `async with`."""

    def __init__(self, urls: Sequence[str], kafka: Settings | None = None, database: Settings | None = None) -> None:
        """`urls` of processes, without /metrics; `kafka`, `database`: settings with their addresses, or None."""
        self._urls = list(dict.fromkeys(urls))
        self._group = GroupSource(kafka) if kafka else None
        self._database = DatabaseSource(database) if database else None
        self._model = Deployment()
        self._pages: list[Asked[PageAnswer]] = []
        self._members: Asked[GroupAnswer] | None = None
        self._alerts: Asked[AlertsAnswer] | None = None
        self._open = AsyncExitStack()

    @property
    def knows_devices(self) -> bool:
        """Whether a database can be asked about a device."""
        return self._database is not None

    async def __aenter__(self) -> "Watch":
        client = await self._open.enter_async_context(pages.session())

        def of(url: str) -> Callable[[], Coroutine[Any, Any, PageAnswer]]:
            return lambda: pages.ask(client, url)

        self._pages = [Asked(of(url)) for url in self._urls]
        if group := self._group:
            self._open.push_async_callback(group.close)
            self._members = Asked(lambda: group.ask(times=not self._workers_say_lag()))
        if database := self._database:
            self._open.push_async_callback(database.close)
            self._alerts = Asked(database.ask)
        for one in (*self._pages, self._members, self._alerts):
            if one is not None:
                self._open.push_async_callback(one.cancel)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._open.aclose()

    async def look(self, patience: float) -> Snapshot:
        """The state of the deployment, as far as it is known within `patience` seconds; a source that has not answered
        by then counts with its answer before. Never raises for an outage.
        """
        sources = [*self._pages, *(one for one in (self._members, self._alerts) if one is not None)]
        if sources:
            tasks = {one.begin() for one in sources}
            await asyncio.wait(tasks, timeout=patience)
        now = time.monotonic()
        return await asyncio.to_thread(  # a page may be large, and keys are answered meanwhile
            self._model.take,
            now,
            time.time(),
            [one.collect() or _silent(url, now) for url, one in zip(self._urls, self._pages, strict=True)],
            self._members.collect() if self._members else None,
            self._alerts.collect() if self._alerts else None,
        )

    async def device(self, user: str, device: str) -> DeviceAnswer:
        """What the database knows of a device; `problem` says why where it does not answer, or no database is named."""
        if self._database is None:
            return DeviceAnswer(user, device, problem="no database is named: set IOT_DATABASE_URL")
        return await self._database.device(user, device)

    def _workers_say_lag(self) -> bool:
        answers = [one.answer for one in self._pages]
        return any(one and one.samples and one.samples.has("iot_consumer_lag_seconds") for one in answers)


def _silent(url: str, now: float) -> PageAnswer:
    return PageAnswer(url, now, problem="no answer yet")
