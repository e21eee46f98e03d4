"""Connections between processes and servers, and what is under way on them."""

import asyncio
from collections.abc import Callable
from typing import Any

import asyncpg
from aiokafka.errors import KafkaError

from tests.simulation.life import Life
from tests.simulation.world import World

WRITES = ("produce", "sql")


class Link:
    """A connection of a process to a server. What is under way when it closes has arrived, or never does."""

    def __init__(self, world: World, life: Life, server: str) -> None:
        self.world, self.life, self.server = world, life, server
        self.open = not life.dead
        self._under_way: list[Request] = []
        self.on_close: Callable[[], None] | None = None
        life.links[self] = None

    def call(self, what: str, apply: Callable[[], Any], seen: Callable[[], None] = lambda: None) -> asyncio.Future[Any]:
        """Ask the server for something; the answer, or an error after which the link is of no use.

        `seen` is called when the answer has reached the client.
        """
        world = self.world
        request = Request(self, what, apply, world.loop.create_future(), seen)
        if self.life.dead:
            request.answer.cancel()
            return request.answer
        if not self.open:
            request.answer.set_exception(self.failure())
            return request.answer
        world.note(self.life.name, f"> {what}")
        world.asked.add(world.loop.step)
        fate = world.fate(what)
        self._under_way.append(request)
        delay = world.random.random() * world.latency[self.server] + (3.0 if fate == "slow" else 0.0)
        world.later(delay, request.arrive, fate)
        return request.answer

    @property
    def writes(self) -> bool:
        """Whether something that changes a server is under way."""
        return any(request.what.startswith(WRITES) for request in self._under_way)

    def done(self, request: "Request") -> None:
        """The request has its answer."""
        self._under_way.remove(request)

    def failure(self) -> Exception:
        """The error of a connection that broke."""
        if self.server in self.world.down:
            return self.world.down[self.server]
        if self.server == "database":
            return ConnectionResetError("the connection was lost")
        kind: type[Exception] = self.world.random.choice(self.world.kafka_outages)
        return kind("the connection was lost")

    def close(self, under_way: str = "") -> None:
        """By the client, or because it died."""
        self.open = False
        self.life.links.pop(self, None)
        for request in self._under_way:
            arrives = under_way == "arrives" or (not under_way and self.world.random.random() < 0.5)
            if not request.arrived and arrives:
                request.carry_out()
            request.arrived = True
            if not self.life.dead and not request.answer.done():
                request.answer.set_exception(self.failure())
        self._under_way.clear()
        if self.on_close is not None:
            self.on_close()


class Request:
    """Something on its way to a server."""

    def __init__(
        self,
        link: Link,
        what: str,
        apply: Callable[[], Any],
        answer: asyncio.Future[Any],
        seen: Callable[[], None],
    ) -> None:
        self.link, self.what, self.apply, self.answer, self.seen = link, what, apply, answer, seen
        self.arrived = False

    def arrive(self, fate: str) -> None:
        """The request reaches the server, if anything does."""
        if self.arrived:
            return
        self.arrived = True
        result: Any = None
        error: Exception | None = None
        if self.link.server in self.link.world.down or fate == "lost":
            self.link.world.note(self.link.server, f"lost: {self.what} of {self.link.life.name}")
            error = self.link.failure()
        else:
            result, error = self.carry_out()
            if fate == "ack lost":
                error = self.link.failure()
        if fate == "slow answer":
            self.link.world.later(self.link.world.random.random() * 3, self.tell, result, error)
        else:
            self.tell(result, error)

    def carry_out(self) -> tuple[Any, Exception | None]:
        """The server does it."""
        self.link.world.note(self.link.server, f"{self.what} of {self.link.life.name}")
        try:
            return self.apply(), None
        except (asyncpg.PostgresError, KafkaError, OSError) as error:
            return None, error

    def tell(self, result: Any, error: Exception | None) -> None:
        """The answer reaches the client."""
        if not self.link.open:
            return
        self.link.done(self)
        if self.answer.done():
            return
        if error is not None:
            self.answer.set_exception(error)
        else:
            self.seen()
            self.answer.set_result(result)
