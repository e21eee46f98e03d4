"""One device of the load tester: its readings at QoS 1 in order, each again on the next connection until its PUBACK."""

from collections.abc import Callable, Iterator

from app.loadtest import wire
from app.loadtest.plan import LoadPlan, payload
from app.loadtest.tracers import Traced, Tracer
from app.loadtest.traffic import REFUSED, UNREADABLE_MAX, Traffic

WINDOW = 1000  # readings ahead of their PUBACKs, where the broker allows so many
Write = Callable[[bytes], None]


class LoadDevice:
    """What a device has sent, over all of its connections. Bounded by the broker's window, however many it has sent."""

    def __init__(
        self, plan: LoadPlan, number: int, traffic: Traffic, tracer: Tracer, clock: Callable[[], float]
    ) -> None:
        """`clock`: seconds since the start of the run."""
        self.number, self.name = number, plan.name(number)
        self.due = 0  # readings that are due
        self.sent = 0  # the last sequence id on its way
        self.refused: list[int] = []  # sequence ids that the broker has refused
        self._plan, self._traffic, self._tracer, self._clock = plan, traffic, tracer, clock
        self._topic = wire.topic_field(plan.topic(number))
        self._waiting: dict[
            int, tuple[int, float, Traced | None]
        ] = {}  # by packet id, in order: (sequence, due, trace)
        self._write: Write | None = None  # None: not connected
        self._window = 0

    @property
    def waiting(self) -> int:
        """Readings without a PUBACK."""
        return len(self._waiting)

    def unanswered(self) -> list[int]:
        """The sequence ids without a PUBACK: whether they arrived is not known."""
        return [sequence for sequence, _, _ in self._waiting.values()]

    def reading_due(self, due: float) -> None:
        """One more reading is due, since this time of the run."""
        self.due += 1
        if self._write and self.due == self.sent + 1 and len(self._waiting) < self._window:
            self._write(self._next(due))

    def connected(self, write: Write, window: int, kept: bool) -> None:
        """A connection is there: send again what has no PUBACK (marked so where the broker has `kept` the session),
        then what became due meanwhile.
        """
        self._write, self._window = write, min(WINDOW, window)
        repeats = [self._packet(sequence, due, traced) for sequence, due, traced in self._waiting.values()]
        self._traffic.resent += len(repeats)
        write(b"".join([wire.again(one) if kept else one for one in repeats] + list(self._room())))

    def lost(self) -> None:
        """The connection is gone."""
        self._write = None

    def answered(self, answers: list[wire.Puback]) -> None:
        """The broker's answers to readings; send as many as there is room for then."""
        now = self._clock()
        for packet_id, code in answers:
            if (found := self._waiting.pop(packet_id, None)) is None:
                continue
            sequence, due, traced = found
            self._traffic.ack(now - due, code)
            if code >= REFUSED and len(self.refused) < UNREADABLE_MAX:
                self.refused.append(sequence)
            if traced:
                if code >= REFUSED:
                    traced.span.fail("refused", f"PUBACK 0x{code:02x}")
                traced.span.end()
        if self._write and self.sent < self.due:
            self._write(b"".join(self._room()))

    def close(self) -> None:
        """End the spans of what has no PUBACK."""
        for _, _, traced in self._waiting.values():
            if traced:
                traced.span.fail("interrupted", "stopped before the broker's PUBACK")
                traced.span.end()

    def _room(self) -> Iterator[bytes]:
        while self.sent < self.due and len(self._waiting) < self._window:
            yield self._next(self._plan.schedule.due(self._plan.message(self.number, self.sent + 1)))

    def _next(self, due: float) -> bytes:
        self.sent = sequence = self.sent + 1
        self._traffic.sent += 1
        self._traffic.behind.add(self._clock() - due)
        body = payload(self.number, sequence, self._plan.at_us(due))
        traced = self._tracer.begin(self.number, sequence, len(body))
        number = wire.packet_id(sequence)
        self._waiting[number] = (sequence, due, traced)
        return wire.publish(self._topic, number, body, traced.properties if traced else wire.NO_PROPERTIES)

    def _packet(self, sequence: int, due: float, traced: Traced | None) -> bytes:
        """The packet of a reading once more, byte for byte."""
        body = payload(self.number, sequence, self._plan.at_us(due))
        properties = traced.properties if traced else wire.NO_PROPERTIES
        return wire.publish(self._topic, wire.packet_id(sequence), body, properties)
