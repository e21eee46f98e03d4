"""Batches of metrics -> the QUIC gateway, each repeated until its answer: in, MetricBatch; out, a future of its answer.

A batch without an answer is kept, up to a bound, and sent again, in order, over the next connection: a repeat falls on
the primary key of the rows. Numbers of batches are the sender's own.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from types import TracebackType

import structlog
from aioquic.quic.configuration import QuicConfiguration
from msgspec import Struct

from app.client.quic.session import QuicSession, open_session
from app.errors import PermanentError, TransientError
from app.protobuf.metrics_pb2 import BatchAck, MetricBatch
from app.runtime.retry import delay, log_level

log = structlog.get_logger()

MAX_BYTES = 8 << 20  # of batches that are not answered
STEADY_SECONDS = 5.0  # a connection that lived so long resets the back-off

Failed = Callable[[int, float, str], None]  # failures in a row, seconds until the next try, why


def log_failure(failures: int, pause: float, why: str) -> None:
    """Log that a connection is tried again in `pause` seconds, after so many failures in a row (1: the first)."""
    log.log(log_level(failures), "quic_disconnected", reason=why, failures=failures, wait_seconds=round(pause, 2))


class _Unanswered(Struct):
    """A batch that is kept."""

    body: bytes
    answer: "asyncio.Future[BatchAck]"
    sent: bool = False


class QuicSender:
    """Sends batches of metrics. Use a sender with `async with`, and `send` from one task."""

    def __init__(
        self,
        address: tuple[str, int],
        configuration: QuicConfiguration,
        max_bytes: int = MAX_BYTES,
        failed: Failed = log_failure,
    ) -> None:
        """`address`: host and port; `configuration`: of credentials.py; `max_bytes` bounds the batches that are kept,
        the last batch may go beyond; `failed` is called before each wait, as `log_failure`.
        """
        self.connections = self.repeated = 0  # for the report
        self._address, self._configuration, self._max, self._failed = address, configuration, max_bytes, failed
        self._kept: dict[int, _Unanswered] = {}
        self._bytes = 0
        self._next = 1
        self._session: QuicSession | None = None
        self._stream = -1
        self._again: asyncio.TimerHandle | None = None
        self._changed = asyncio.Event()
        self._failure: PermanentError | None = None
        self._running: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "QuicSender":
        """Begin to connect."""
        self._running = asyncio.create_task(self._run(), name="quic-sender")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close; batches without an answer by then are dropped, so `flush` before."""
        if self._running:
            self._running.cancel()
            await asyncio.wait([self._running])
        self._close(TransientError("the sender was closed before the answer"))

    @property
    def unanswered(self) -> int:
        """The number of batches that are kept, as they have no answer."""
        return len(self._kept)

    async def send(self, batch: MetricBatch) -> "asyncio.Future[BatchAck]":
        """Take a batch, once there is room for it; its `batch_id` is set here.

        The future is done once the gateway has answered: with `refusal` set when the whole batch was refused for ever.
        Raises PermanentError when the gateway will never take us; so does every future then. A future raises
        TransientError when the sender is closed before its answer.
        """
        while self._bytes >= self._max:
            await self._wait()
        if self._failure:
            raise self._failure
        batch.batch_id, self._next = self._next, self._next + 1
        kept = _Unanswered(batch.SerializeToString(), asyncio.get_running_loop().create_future())
        self._kept[batch.batch_id] = kept
        self._bytes += len(kept.body)
        if self._session and self._stream >= 0:
            kept.sent = True
            self._session.send(self._stream, kept.body)
        return kept.answer

    async def flush(self) -> None:
        """Return once all is answered. Raises PermanentError when the gateway will never take us."""
        while self._kept:
            await self._wait()
        if self._failure:
            raise self._failure

    async def _wait(self) -> None:
        if self._failure:
            raise self._failure
        self._changed.clear()
        await self._changed.wait()

    async def _run(self) -> None:
        attempt = 0
        while self._failure is None:
            started = time.monotonic()
            why, for_ever = await self._connection()
            if for_ever:
                host, port = self._address
                self._failure = PermanentError(f"{host}:{port}: {why}")
                self._close(self._failure)
                return
            attempt = 1 if time.monotonic() - started > STEADY_SECONDS else attempt + 1
            wait = delay(attempt - 1)
            self._failed(attempt, wait, why)
            await asyncio.sleep(wait)

    async def _connection(self) -> tuple[str, bool]:
        """Connect, send what is kept, and go on until the connection ends: why, and whether that is for ever."""
        session = None
        try:
            session = await open_session(self._address, self._configuration, self._answered)
            if not session.closed.done():
                self._session = session
                self.connections += 1
                self._begin()
            return await asyncio.shield(session.closed)
        except (OSError, TransientError) as error:
            return str(error), False
        finally:
            self._session, self._stream = None, -1
            if self._again:
                self._again.cancel()
                self._again = None
            if session:
                session.close()

    def _begin(self) -> None:
        """Open a new stream, and send all kept batches on it, in order."""
        self._again = None
        if self._session:
            self._stream = self._session.open_stream()
            for kept in self._kept.values():
                self.repeated += kept.sent
                kept.sent = True
                self._session.send(self._stream, kept.body)

    def _answered(self, stream: int, answer: BatchAck) -> None:
        if stream != self._stream:
            return  # an answer on a stream that was ended: all its batches were sent again
        if answer.HasField("refusal"):
            self._refused(answer)
        else:
            self._done(answer.batch_id, answer)

    def _refused(self, answer: BatchAck) -> None:
        """No later batch on this stream is taken: begin another stream, without the batch if it is refused for ever.

        Answers come in the order of batches, so an answer without a number is for the first batch that is kept.
        """
        after = answer.refusal.retry_after_ms / 1000
        number = answer.batch_id or next(iter(self._kept), 0)
        if self._session:
            self._session.forget_stream(self._stream)
        self._stream = -1
        if not after:
            self._done(number, answer)
        log.warning("quic_batch_refused", batch=number, reason=answer.refusal.reason, error=answer.refusal.error)
        self._again = asyncio.get_running_loop().call_later(after, self._begin)

    def _done(self, number: int, answer: BatchAck) -> None:
        kept = self._kept.pop(number, None)
        if kept:
            self._bytes -= len(kept.body)
            if not kept.answer.done():
                kept.answer.set_result(answer)
        self._changed.set()

    def _close(self, error: PermanentError | TransientError) -> None:
        """Fail all kept batches: they will not be answered."""
        for kept in self._kept.values():
            if not kept.answer.done():
                kept.answer.set_exception(error)
                kept.answer.exception()  # retrieved: perhaps no task waits
        self._kept.clear()
        self._bytes = 0
        self._changed.set()

    @property
    def figures(self) -> Mapping[str, int]:
        """The figures of a report: connections made, batches sent again, batches without an answer."""
        return {"connections": self.connections, "repeated": self.repeated, "unanswered": self.unanswered}
