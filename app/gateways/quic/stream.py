"""One stream of a sender: frames in, answers out in the order of their frames, and when it ends."""

from collections import deque
from collections.abc import Callable

from msgspec import Struct

from app.gateways.quic.batch import RefusedBatch, refusal
from app.gateways.quic.connection import GatewayConnection
from app.gateways.quic.reserve import Claim, Reserve
from app.runtime.quic.contract import StreamCode
from app.runtime.quic.frames import FrameFault, FrameReader, framed

SMALL = 16 << 10  # a frame up to this size needs no claim
TOO_SLOW = "too_slow"


class OwedAnswer(Struct):
    """The answer to one frame; it goes out once it has a body, and all before it have gone."""

    body: bytes | None = None


class FrameStream:
    """A stream between its connection and whoever takes its frames."""

    def __init__(self, quic: GatewayConnection, number: int, max_bytes: int, reserve: Reserve, owner: str) -> None:
        """`owner`: whose the memory counts as."""
        """`number` is the stream's; `max_bytes`: of a frame, without its length; `reserve`: the memory for
        large ones.
        """
        self.frames: deque[bytes] = deque()  # whole, and not yet taken
        self.refused = False  # nothing more is taken of it
        self.ended = False  # the sender's side
        self._quic, self._number, self._reserve, self._owner = quic, number, reserve, owner
        self._reader = FrameReader(max_bytes)
        self._answers: deque[OwedAnswer] = deque()
        self._claim: Claim | None = None  # of the frame that is not yet whole
        self._claims: deque[Claim | None] = deque()  # of those that are
        self._begun_at: float | None = None  # when the frame that is not yet whole began, as far as it is the sender's

    @property
    def waits(self) -> bool:
        """Whether the frame under way needs memory that is not there yet."""
        return self._claim is not None and not self._claim.granted

    @property
    def over(self) -> bool:
        """Whether nothing more is taken of it, and every frame that was is answered, the one that is cut off too."""
        last = self.refused or (self.ended and self.fault() is None)
        return last and not self.frames and not self._answers

    def received(self, data: bytes, ended: bool, now: float, wake: Callable[[], None]) -> None:
        """Take a piece of the stream, at `now` of the loop's clock; `ended`: it is the last. `wake` is called when
        memory that it has to wait for is there.
        """
        self.ended = self.ended or ended
        if self.refused:
            return
        whole = self._reader.feed(data)
        for frame in whole:
            self.frames.append(frame)
            self._claims.append(self._claim)  # the first is the one that was under way
            self._claim = None
        if ended:
            self._reader.finish()
        if not self._reader.pending:
            self._begun_at = None
        elif whole or self._begun_at is None:
            self._begun_at = now
        self._keep_claim(wake)

    def reset(self) -> None:
        """Note that the sender gave it up: what is not whole is gone."""
        self.ended, self._begun_at = True, None
        self._reader.stop(FrameFault("", ""))
        self._drop()
        if not self.frames:
            self.refused = True

    def take(self) -> bytes:
        """Take the next frame, without its length; its memory is the taker's concern from now on. Raises IndexError
        without one.
        """
        if claim := self._claims.popleft():
            self._reserve.give(claim)
        return self.frames.popleft()

    def owed(self) -> OwedAnswer:
        """The answer of one more frame that is taken, to get its body later."""
        made = OwedAnswer()
        self._answers.append(made)
        return made

    def refuse(self, refused: RefusedBatch, answer: OwedAnswer | None = None) -> None:
        """Take nothing more: this is the last answer, in the place of `answer`, or behind all others."""
        self.refused = True
        self.frames.clear()
        (answer or self.owed()).body = refusal(refused)
        self._reader.stop(FrameFault(refused.reason, refused.error))
        self._begun_at = None
        self.release()
        if not self.ended:
            self._quic.stop_stream(self._number, StreamCode.REFUSED)

    def fault(self) -> RefusedBatch | None:
        """What is wrong with the frame that would follow, once all before it are taken; None: nothing."""
        found = self._reader.fault
        return RefusedBatch(*found) if found and found.reason and not self.frames and not self.refused else None

    def late(self, now: float, seconds: float, held: bool) -> bool:
        """Whether a frame has been under way for more than so many seconds at `now`; not while we hold up its sender
        (`held`).
        """
        if self._begun_at is None:
            return False
        if held:
            self._begun_at = now
        return now - self._begun_at > seconds

    def send(self) -> bool:
        """Write the answers that are ready; whether there was anything to do."""
        ready: list[bytes] = []
        while self._answers and (body := self._answers[0].body) is not None:
            ready.append(framed(body))
            self._answers.popleft()
        if not (ready or self.over):
            return False
        if self._quic.writable(self._number):
            self._quic.send_stream_data(self._number, b"".join(ready), end_stream=self.over)
        return True

    def release(self) -> None:
        """Give back all memory that was claimed: nothing more comes of it."""
        self._drop()
        for claim in self._claims:
            if claim:
                self._reserve.give(claim)
        self._claims.clear()

    def _drop(self) -> None:
        if self._claim:
            self._reserve.give(self._claim)
            self._claim = None

    def _keep_claim(self, wake: Callable[[], None]) -> None:
        if self._reader.declared > SMALL and not self._claim:
            self._claim = self._reserve.claim(self._owner, self._reader.declared, wake)
