"""One connection of a sender: whose it is, its streams, what of it awaits Kafka's ack, and whether it may send more.

    1 the handshake is complete: its certificate is an account's, or the connection ends     (mutual, names)
    2 frames come on streams, and wait while the account is not known or there is no room    (stream)
    3 a frame becomes records, which are submitted                                           (batch)
    4 once Kafka has them, the answer goes out, in the order of the stream's frames          (stream)

A sender is held by its windows, which do not grow while he may not send: connection.py.
"""

import asyncio
import time
from functools import partial

from aioquic.quic.events import HandshakeCompleted, QuicEvent, StreamDataReceived, StreamReset

from app.gateways.gateway_metrics import REFUSED_LOGINS
from app.gateways.intake import RECORD_OVERHEAD, Refused
from app.gateways.quic.batch import GATEWAY, FrameBatch, RefusedBatch, accepted
from app.gateways.quic.connection import GatewayConnection
from app.gateways.quic.names import Names, names
from app.gateways.quic.site import Site
from app.gateways.quic.stream import TOO_SLOW, FrameStream, OwedAnswer
from app.ports import Account, Refusal
from app.runtime.peers import grouped
from app.runtime.quic.contract import CloseCode
from app.runtime.quic.link import Link

_CODES = {
    Refusal.BAD_CREDENTIALS: (CloseCode.NOT_AN_ACCOUNT, "the certificate's common name is no account's"),
    Refusal.SLOWED_DOWN: (CloseCode.SLOWED_DOWN, "too many failures: wait before the next"),
    Refusal.UNAVAILABLE: (CloseCode.UNAVAILABLE, "accounts cannot be asked now: connect again"),
}
NOBODY = "the certificate has no common name, or several"
ENDED = "the certificate has ended"
TOO_MANY = "the account has as many connections as an account may have: IOT_QUIC_ACCOUNT_CONNECTIONS"
SLOW = "a frame took longer than IOT_GATEWAY_HEADER_SECONDS"


class QuicPeer:
    """A sender's connection, from its first datagram to its end."""

    def __init__(self, site: Site, address: str) -> None:
        """`address`: of the peer, without its port. `begin` comes next."""
        self.quic: GatewayConnection
        self.link: Link
        self.ids: set[bytes] = set()
        self.account: Account | None = None
        self.greeted = False  # the handshake is complete
        self.unacked = 0  # bytes of memory of what awaits Kafka's ack
        self.opened_at = asyncio.get_running_loop().time()
        self.group = grouped(address)
        self._site, self._address = site, address
        self._streams: dict[int, FrameStream] = {}
        self._refused: set[int] = set()  # streams that are answered for good, and on which more may come
        self._names: Names | None = None
        self._asked_at = 0.0
        self._asking: asyncio.Task[None] | None = None
        self._waiting: asyncio.Task[None] | None = None
        self._closing = False

    def begin(self, quic: GatewayConnection, link: Link) -> None:
        """Take the connection, which is there now."""
        self.quic, self.link = quic, link

    def window(self) -> int:
        """How many bytes ahead it may send; 0: it is held."""
        return 0 if self._held() else self._site.share.window

    def handle(self, event: QuicEvent) -> None:
        """Take an event of the connection, but for its end."""
        if isinstance(event, StreamDataReceived):
            self._received(event)
        elif isinstance(event, HandshakeCompleted):
            self._greet()
        elif isinstance(event, StreamReset):
            self._refused.discard(event.stream_id)
            if stream := self._streams.get(event.stream_id):
                stream.reset()
                self._work()

    def close(self, code: CloseCode, words: str) -> None:
        """End the connection, and say why; a second call does nothing."""
        if not self._closing:
            self._closing = True
            self.quic.close(error_code=code, reason_phrase=words)
            self.link.soon()

    def ended(self) -> None:
        """Let go of all: the connection is gone; what was submitted is written all the same."""
        self._closing = True
        for task in (self._asking, self._waiting):
            if task:
                task.cancel()
        for stream in self._streams.values():
            stream.release()
        self._streams.clear()
        if self.account:
            self._site.share.left(self.account.user_id)
            self._site.crowd.forget(self.account, self._work)
            self._site.turns.forget(self.account.user_id, self._work)
            self.account = None

    def look(self, now: float) -> None:
        """Once a second, by the loop's clock: end what takes too long, and what has ended meanwhile."""
        if self._names is None or self._closing:
            return
        if time.time() >= self._names.ends:
            self.close(CloseCode.CERTIFICATE_ENDED, ENDED)
            return
        if now - self._asked_at > self._site.again_seconds and (self._asking is None or self._asking.done()):
            self._ask(self._names)
        held = self._held()
        for stream in [one for one in self._streams.values() if one.late(now, self._site.frame_seconds, held)]:
            stream.refuse(RefusedBatch(TOO_SLOW, SLOW, retry_after=1.0))
        self._work()

    def _greet(self) -> None:
        self.greeted = True
        self.quic.settle()
        certificate = self.quic.client_certificate
        self._names = names(certificate) if certificate else None
        if self._names is None:
            REFUSED_LOGINS.labels(GATEWAY, Refusal.BAD_CREDENTIALS.value).inc()
            self.close(CloseCode.NOT_AN_ACCOUNT, NOBODY)
        else:
            self._ask(self._names)

    def _ask(self, who: Names) -> None:
        self._asked_at = asyncio.get_running_loop().time()
        self._asking = asyncio.create_task(self._log_in(who), name="quic-login")

    async def _log_in(self, who: Names) -> None:
        """Take the account of the certificate, now or anew; without one the connection ends."""
        try:
            async with asyncio.timeout(self._site.frame_seconds):
                answer = await self._site.accounts.by_certificate(who.user, who.device, self._address)
        except TimeoutError:
            answer = Refusal.UNAVAILABLE
        if self._closing or (answer is Refusal.UNAVAILABLE and self.account):
            return
        if isinstance(answer, Refusal):
            self.close(*_CODES[answer])
        elif self.account is None and not self._site.share.joined(answer.user_id):
            self.close(CloseCode.TOO_MANY_CONNECTIONS, TOO_MANY)
        else:
            self.account = answer
            self._work()

    def _received(self, event: StreamDataReceived) -> None:
        if self._closing:
            return
        if event.stream_id in self._refused:
            if event.end_stream:
                self._refused.discard(event.stream_id)
            return
        stream = self._streams.get(event.stream_id)
        if stream is None:
            site, owner = self._site, self._names.user if self._names else self.group
            stream = FrameStream(self.quic, event.stream_id, site.frame_bytes, site.reserve, owner)
            self._streams[event.stream_id] = stream
        stream.received(event.data, event.end_stream, self.link.heard_at, self._go_on)
        if stream.frames or event.end_stream or stream.fault():
            self._work()
        elif self.quic.starved:
            self._go_on()

    def _work(self) -> None:
        """Take the frames that may be taken, write the answers that are ready."""
        account = self.account
        for number, stream in list(self._streams.items()):
            if account:
                self._take_all(stream, account)
            if account and (fault := stream.fault()):
                stream.refuse(fault)
            if stream.send():
                self.link.soon()
            if stream.over:
                del self._streams[number]
                if not stream.ended:
                    self._refused.add(number)
        self._go_on()

    def _take_all(self, stream: FrameStream, account: Account) -> None:
        """The frames that may be taken in this turn."""
        turns, who = self._site.turns, account.user_id
        while stream.frames and self._roomy(account):
            if not turns.has(who):
                turns.wait(who, self._work)
                return
            frame = stream.take()
            turns.use(who, len(frame))
            self._take(stream, account, frame)

    def _take(self, stream: FrameStream, account: Account, frame: bytes) -> None:
        """One frame, to Kafka or refused."""
        answer = stream.owed()
        batch = self._site.batches.read(account, frame)
        if isinstance(batch, RefusedBatch):
            stream.refuse(batch, answer)
            return
        size = len(frame) + RECORD_OVERHEAD * (len(batch.records) + len(batch.dead))
        self.unacked += size
        done = self._site.intake.submit(batch.records, batch.dead, account.user_id)
        done.add_done_callback(partial(self._written, account, answer, batch, size))

    def _written(
        self, account: Account, answer: OwedAnswer, batch: FrameBatch, size: int, done: "asyncio.Future[Refused]"
    ) -> None:
        """Kafka has the batch, or the process stops before it has: then there is no answer."""
        self.unacked -= size
        if done.cancelled() or done.exception() is not None:
            return
        answer.body = accepted(batch, done.result())
        self._site.turns.use(account.user_id, len(answer.body))
        if not self.link.ended:
            self._work()
        self._site.crowd.wake(account)

    def _roomy(self, account: Account) -> bool:
        """Whether a frame may be taken: what is under way is bounded, and nothing new begins in a stop."""
        site = self._site
        if self.unacked >= site.unacked_bytes or site.stopping or self._closing:
            return False
        return not (site.intake.full or site.intake.crowded(account))

    def _held(self) -> bool:
        return (
            self.account is None
            or not self._roomy(self.account)
            or any([stream.frames or stream.waits for stream in self._streams.values()])
        )

    def _go_on(self) -> None:
        """Grant what could not be granted before, or wait for room."""
        if self.link.ended:
            return
        intake, account = self._site.intake, self.account
        if self.quic.starved and not self._held():
            self.link.soon()
        if account and intake.crowded(account):
            self._site.crowd.wait(account, self._work)
        if intake.full and (self._waiting is None or self._waiting.done()):
            self._waiting = asyncio.create_task(self._await_room(), name="quic-room")

    async def _await_room(self) -> None:
        await self._site.intake.room()
        self._work()
