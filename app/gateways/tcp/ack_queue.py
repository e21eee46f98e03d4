"""Lines between their reading and their ack, in the order they came; out, the answers to the sender."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from app.gateways.gateway_metrics import REJECTED, REQUESTS
from app.gateways.intake import Intake, Refused
from app.gateways.tcp.answers import acked, refused
from app.gateways.tcp.lines import TakenLines

LINE_OVERHEAD = 64  # bytes a line counts beside its own, so that empty ones are bounded too
ACCEPTED, PARTLY, NOTHING = (REQUESTS.labels("tcp", outcome) for outcome in ("accepted", "partly", "rejected"))


class _Submitted(NamedTuple):
    taken: TakenLines
    last: int  # number of the last of its lines
    size: int
    done: "asyncio.Future[Refused]"


class AckQueue:
    """The lines of one connection. Kafka's acks come in order, so that one number says how far they came."""

    def __init__(self, intake: Intake, answered: Callable[[bytes], None], lost: Callable[[], None]) -> None:
        """`answered` is called with each answer to the sender, `lost` when no answer will follow."""
        self._intake, self._answered, self._lost = intake, answered, lost
        self._waiting: deque[_Submitted] = deque()
        self.size = 0  # bytes that are not acknowledged

    def __bool__(self) -> bool:
        """Whether anything is not acknowledged."""
        return bool(self._waiting)

    def add(self, taken: TakenLines, last: int, size: int) -> None:
        """Submit lines up to number `last`, of `size` bytes; what is settled goes to `answered` later, never within
        this call.
        """
        size += sum(map(len, taken.refusals))
        done = self._intake.submit(taken.records, taken.dead, taken.user)
        self._waiting.append(_Submitted(taken, last, size, done))
        self.size += size
        done.add_done_callback(self._settle)

    def _settle(self, _: "asyncio.Future[Refused]") -> None:
        """Answer all lines that are settled: refusals in the order of their lines, then how far Kafka's acks came."""
        refusals: list[bytes] = []
        last = 0
        while self._waiting and self._waiting[0].done.done():
            one = self._waiting.popleft()
            self.size -= one.size
            if one.done.cancelled() or one.done.exception() is not None:
                self._waiting.clear()  # the process stops: what comes behind has no ack either
                self._lost()
                break
            refusals += self._refusals(one)
            last = one.last
        if last:
            self._answered(b"".join(refusals) + acked(last))

    def _refusals(self, one: _Submitted) -> list[bytes]:
        taken, refusals = one.taken, one.taken.refusals
        if too_large := one.done.result():
            for at, rejection in too_large:
                REJECTED.labels("tcp", rejection.reason).inc()
                refusals.append(refused(taken.numbers[at], rejection))
        if not refusals:
            ACCEPTED.inc()
        else:
            (PARTLY if len(taken.records) > len(too_large) else NOTHING).inc()
        return refusals
