"""How long our partitions are surely ours: in, what Kafka answers to our membership; out, a wait before each write.

A worker that was stalled (SIGSTOP, a swapping or suspended machine) for longer than its session wakes in the middle of
its work, and Kafka has given its partitions to others. The worker learns this with its next heartbeat; until then it
must write nothing. The broker counts a session from the arrival of a heartbeat, so a lease that is counted from before
the heartbeat was sent never lasts longer. Kafka may also be away for longer than a session, and nobody is expelled: so
the end of a lease is a reason to wait, and never a reason to drop anything.
"""

import asyncio
import math
import time
from collections.abc import Callable
from typing import Any

import structlog
from aiokafka.errors import KafkaError, RebalanceInProgressError
from aiokafka.protocol.group import HeartbeatRequest, SyncGroupRequest
from aiokafka.protocol.produce import ProduceRequest

from app.errors import TransientError
from app.kafka.group_coordinator import Send, wrap_requests
from app.ports import Lease
from app.runtime.interrupt import Interrupt

log = structlog.get_logger()

# Kafka's codes for "you are a member": a heartbeat during a rebalance prolongs the session as well.
MEMBER = (0, RebalanceInProgressError.errno)


def boottime() -> float:
    """Seconds of a clock that goes on while the process is stopped and, where there is one, the machine suspended."""
    return time.clock_gettime(_CLOCK)


_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)  # Linux has CLOCK_BOOTTIME


class SessionLease:
    """The lease of a member of a consumer group (app.ports.Lease). It begins with the member's first join."""

    def __init__(self, seconds: float, interrupt: asyncio.Event, clock: Callable[[], float] = boottime) -> None:
        """`seconds`: the session timeout. `ensure` is called in the loop of `interrupt`, the rest in any thread."""
        self._seconds, self._interrupt, self._clock = seconds, Interrupt(interrupt), clock
        self._until = self._ended = -math.inf
        self._waiting: dict[asyncio.Future[Any], None] = {}
        self._reported = False  # whether the end of the lease was reported

    def valid(self) -> bool:
        """Whether our partitions are surely nobody else's at this moment."""
        return self._clock() < self._until

    def left(self) -> float:
        """How long our partitions surely stay ours, in seconds."""
        return max(0.0, self._until - self._clock())

    async def ensure(self) -> None:
        """Return at once while the lease lasts; else wait until the lease is renewed.

        Raises TransientError when interrupted first: what was to be written is somebody else's, or comes again.
        """
        while not self.valid():
            await self._renewal()

    def renew(self, asked: float) -> None:
        """Kafka has answered that we are a member, to a request that was sent at `asked`, in seconds of our clock."""
        if asked <= self._ended:
            return
        self._until = asked + self._seconds
        self._reported = self._reported and not self.valid()
        for waiting in tuple(self._waiting):
            waiting.get_loop().call_soon_threadsafe(_settle, waiting)

    def end(self) -> None:
        """Kafka has answered that we are no member any more."""
        self._ended, self._until = self._clock(), -math.inf

    def follow(self, coordinator: Any) -> None:
        """Follow what an aiokafka GroupCoordinator hears of our membership; to be called before the first join."""
        reset = coordinator.reset_generation

        def observed(send: Send) -> Send:
            async def send_and_look(request: Any) -> Any:
                asked = self._clock()
                response = await send(request)
                if isinstance(request, HeartbeatRequest | SyncGroupRequest) and response.error_code in MEMBER:
                    self.renew(asked)
                return response

            return send_and_look

        def reset_and_end() -> None:
            self.end()
            reset()

        wrap_requests(coordinator, observed)
        coordinator.reset_generation = reset_and_end

    async def _renewal(self) -> None:
        renewed: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if not self._reported:
            self._reported = True
            log.warning("kafka_session_unsure", next="writing nothing until Kafka says whose our partitions are")
        self._waiting[renewed] = None  # before the look at the lease: the other thread renews, then looks who waits
        try:
            if not self.valid():
                await self._interrupt.first_of(renewed)
                if self._interrupt.is_set() and not self.valid():
                    raise TransientError("interrupted while Kafka may have given the partitions to others")
        finally:
            self._waiting.pop(renewed, None)


def guard(client: Any, lease: Lease) -> None:
    """Let a producer's aiokafka client ask for the lease right before each request that writes, also a repeated one.

    Messages wait in the client for the answer to the messages before: most stalls of a busy worker fall there.
    """
    send, close = client.send, client.close
    held: set[asyncio.Task[Any] | None] = set()

    async def send_held(node: int, request: Any, **options: Any) -> Any:
        if isinstance(request, ProduceRequest):
            task = asyncio.current_task()
            held.add(task)
            try:
                await lease.ensure()
            except (TransientError, asyncio.CancelledError) as interrupted:
                raise KafkaError(
                    "interrupted before the message was sent"
                ) from interrupted  # fails the messages, not the sender
            finally:
                held.discard(task)
        return await send(node, request, **options)

    async def close_held() -> None:
        for task in held:
            if task is not None:
                task.cancel()
        await close()

    client.send, client.close = send_held, close_held


def _settle(waiting: "asyncio.Future[Any]") -> None:
    if not waiting.done():
        waiting.set_result(None)
