"""Heads of requests that a connection has sent before -> what they said; in, the bytes of a connection as they come.

A device sends the same head with each of its messages. The same bytes between the same two messages mean the same, so
that aiohttp's parser need not see them again. That is so only where a message begins: here is counted where that is,
and what cannot be counted with certainty (chunks, a head in two pieces, an upgrade) ends it for the connection.
"""

import re
from collections.abc import Callable

from aiohttp import HttpVersion11, hdrs, web
from msgspec import Struct

from app.gateways.record import IngestRecord
from app.gateways.telemetry_record import Arrival, Rejection
from app.ports import Account

RecordOf = Callable[[Account, str, str, bytes, Arrival], IngestRecord | Rejection]

# Of a connection: sixty heads of 300 bytes, one for each device and length of a body.
REMEMBERED_BYTES = 32 << 10
OVERHEAD = 250  # bytes that a head takes beside its own
FRUITLESS = 64  # heads in a row of which none came again: this connection's never do
_END, _LENGTH = b"\r\n\r\n", b"\r\ncontent-length:"
_ONCE = (hdrs.CONTENT_ENCODING, hdrs.EXPECT, "traceparent")  # whoever sends these is answered by way of aiohttp
# What proxies put into each head anew, and nobody here reads; a value that any parser takes.
_CHANGING = re.compile(rb"(\r\n(?:X-Request-ID|X-Correlation-ID|X-Amzn-Trace-Id|CF-Ray): )[!-~]{1,128}(?=\r\n)", re.I)


class KnownHead(Struct, frozen=True):
    """What a head says: whose the body is, and how long."""

    authorization: str
    length: int
    record_of: RecordOf  # of a body: telemetry_record.telemetry or node_telemetry, with the two ids of the path
    owner: str
    device: str


class KnownHeads:
    """Those of one connection, and where in its bytes it is."""

    __slots__ = ("_bytes", "_changing", "_fruitless", "_last", "_left", "held", "known")

    def __init__(self) -> None:
        self.known: dict[bytes, KnownHead] = {}
        self.held = b""  # a known head whose body is still to come; kept from the parser
        self._bytes = self._fruitless = 0  # of those that are known; how many were parsed since one came again
        self._changing = False  # whether there was one in which something is new each time
        self._left: int | None = 0  # bytes of a body that are to come; 0: a head begins next; None: nobody knows
        self._last: bytes | None = None  # the head of the only request under way

    @property
    def between(self) -> bool:
        """Whether what comes next begins a request for certain."""
        return self._left == 0

    def find(self, data: bytes) -> tuple[KnownHead, bytes] | None:
        """The head and the body, if these bytes are one request whole whose head is known; the parser need not see
        them. None: they are `held`, and to be given again in front of what comes, or else they are to be parsed.
        """
        if not self.between:
            return None
        end = data.find(_END) + 4
        head = self.known.get(data[:end]) or (self.known.get(same(data[:end])) if self._changing else None)
        if head is None:
            return None
        self._fruitless = 0
        rest = len(data) - end
        if not rest:
            self.held = data
        return (head, data[end:]) if rest == head.length else None

    def passed(self, data: bytes, alone: bool) -> None:
        """Note bytes that go to the parser; `alone`: nothing is under way, so that a head in them is the next one's."""
        at, size = 0, len(data)
        while at < size and self._left is not None:
            if self._left:
                step = min(self._left, size - at)
                self._left -= step
            else:
                self._fruitless += 1
                if self._fruitless > FRUITLESS:
                    self._forget()
                    self._left = self._last = None
                    return
                end = data.find(_END, at) + 4
                head = data[at:end]
                self._last = head if alone and not at else None
                self._left = body_length(head)
                step = len(head)
            at += step

    def learn(self, request: web.BaseRequest, record_of: RecordOf, owner: str, device: str) -> None:
        """Remember the head of the request that is under way, and was accepted: its path names these ids, its body is a
        message.
        """
        head, self._last = self._last, None
        if head is None or self._left is None or (key := same(head)) in self.known:
            return
        self._changing = self._changing or key != head
        headers = request.headers
        authorization, length = headers.get(hdrs.AUTHORIZATION), int(headers.get(hdrs.CONTENT_LENGTH, 0))
        if authorization is None or not length or any(name in headers for name in _ONCE):
            return
        if request.version != HttpVersion11:  # aiohttp answers in the version of a request
            return
        size = len(head) + OVERHEAD
        if self._bytes + size > REMEMBERED_BYTES:
            self._forget()
        if size <= REMEMBERED_BYTES:
            self.known[key] = KnownHead(authorization, length, record_of, owner, device)
            self._bytes += size

    def _forget(self) -> None:
        self.known.clear()
        self._bytes = 0


def same(head: bytes) -> bytes:
    """A head without the values that are new each time: those with the same rest say the same."""
    return _CHANGING.sub(rb"\1", head)


def body_length(head: bytes) -> int | None:
    """The bytes of the body behind the head of a POST; None where that is not certain, or it is no whole head."""
    if not head.startswith(b"POST ") or not head.endswith(_END):
        return None
    small = head.lower()
    lines = small.count(b"\r\n")
    if small.count(b"\n") != lines or small.count(b"\r") != lines or b"\r\n " in small or b"\r\n\t" in small:
        return None
    if b"transfer-encoding" in small or b"upgrade" in small:
        return None
    found = small.split(_LENGTH)
    if len(found) != 2:
        return None if len(found) > 2 else 0
    length = found[1].partition(b"\r\n")[0].strip(b" \t")
    return int(length) if length.isdigit() and len(length) < 10 else None
