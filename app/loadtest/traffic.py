"""What has happened on the connections of a run so far: counted here, by all of them."""

from collections import Counter
from collections.abc import Mapping

from app.loadtest.latencies import Latencies

NOBODY = 0x10  # PUBACK "no matching subscribers": the broker took the message and gave it to nobody
REFUSED = 0x80  # PUBACK reason codes from here on
UNREADABLE_MAX = 10_000  # readings kept one by one, because it is not known whether they arrived
_WORDS = {
    0x80: "unspecified error",
    0x83: "implementation specific error",
    0x87: "not authorized",
    0x90: "topic name invalid",
    0x91: "packet id in use",
    0x97: "quota exceeded",
    0x99: "payload format invalid",
}


class Traffic:
    """Counts of a run; `acks` are since its start, `recent` since whoever looks has looked last."""

    def __init__(self) -> None:
        self.sent = 0  # readings, each once
        self.resent = 0
        self.acked = 0
        self.nobody = 0  # acked, though nobody subscribes
        self.connected = 0  # connections that the broker has accepted and not lost
        self.reconnects = 0
        self.cut = 0  # connections that the profile has cut
        self.last_failure = ""  # of a connection, in words
        self.acks, self.recent = Latencies(), Latencies()
        self.behind = Latencies()  # how late readings went out: what this machine, and the broker's window, cost
        self._refused: Counter[int] = Counter()

    @property
    def refused(self) -> int:
        """Readings that the broker has refused."""
        return self._refused.total()

    def ack(self, seconds: float, code: int) -> None:
        """The broker has answered a message, so long after it was due."""
        if code >= REFUSED:
            self._refused[code] += 1
            return
        self.acked += 1
        if code == NOBODY:
            self.nobody += 1
        self.recent.add(seconds)

    def taken(self) -> Latencies:
        """The times since the last call."""
        found, self.recent = self.recent, Latencies()
        self.acks.merge(found)
        return found

    def refusals(self) -> Mapping[str, int]:
        """Refused readings by the broker's word."""
        return {_WORDS.get(code, f"0x{code:02x}"): count for code, count in self._refused.most_common()}
