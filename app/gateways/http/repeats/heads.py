"""Known heads of requests of a connection: in, the bytes of the connection; out, the parsed head for known bytes.

A device sends the same head with each of its messages. Equal bytes at the start of a request mean the same, so that
aiohttp's parser can be skipped. KnownHeads counts bytes to find the start of each request; where the count is uncertain
(chunks, a head in two pieces, an upgrade), the connection uses the parser alone from then on.
"""

import re
from collections.abc import Callable

from aiohttp import HttpVersion11, hdrs, web
from msgspec import Struct

from app.gateways.record import IngestRecord
from app.gateways.telemetry_record import Arrival, Rejection
from app.ports import Account

RecordOf = Callable[[Account, str, str, bytes, Arrival], IngestRecord | Rejection]

# Per connection: sixty heads of 300 bytes, one head for each device and length of a body.
REMEMBERED_BYTES = 32 << 10
OVERHEAD = 250  # bytes of memory per head in addition to the head itself
FRUITLESS = 64  # consecutive heads without a repeat, after which the connection uses the parser alone
_END, _LENGTH = b"\r\n\r\n", b"\r\ncontent-length:"
_ONCE = (hdrs.CONTENT_ENCODING, hdrs.EXPECT, "traceparent")  # requests with these headers go through aiohttp
# Headers with a new value in each request, added by proxies and not used here; the value is valid for any parser.
_CHANGING = re.compile(rb"(\r\n(?:X-Request-ID|X-Correlation-ID|X-Amzn-Trace-Id|CF-Ray): )[!-~]{1,128}(?=\r\n)", re.I)


class KnownHead(Struct, frozen=True):
    """The content of a head: authorization, length of the body, owner and device."""

    authorization: str
    length: int
    record_of: RecordOf  # telemetry_record.telemetry or node_telemetry, called with the body and the path's two ids
    owner: str
    device: str


class KnownHeads:
    """The known heads of one connection, and the position within its requests."""

    __slots__ = ("_bytes", "_changing", "_fruitless", "_last", "_left", "held", "known")

    def __init__(self) -> None:
        self.known: dict[bytes, KnownHead] = {}
        self.held = b""  # a known head whose body is not received yet; withheld from the parser
        self._bytes = self._fruitless = 0  # bytes of the known heads; heads parsed since the last repeat
        self._changing = False  # whether a head had a value of _CHANGING
        self._left: int | None = 0  # remaining bytes of the body; 0: a head begins next; None: unknown
        self._last: bytes | None = None  # the head of the only request in progress

    @property
    def between(self) -> bool:
        """Whether the next byte certainly begins a request."""
        return self._left == 0

    def find(self, data: bytes) -> tuple[KnownHead, bytes] | None:
        """(head, body) if `data` is exactly one request with a known head, which the parser can skip.

        None: parse `data`; but when `held` is set, pass `held` again in front of the next bytes.
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
        """Note bytes that go to the parser; `alone`: no request is in progress, so a head in `data` is the next."""
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
        """Remember the head of the accepted request in progress: its path names these ids, its body is a message."""
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
    """A head without the values of _CHANGING; heads that are equal without them mean the same."""
    return _CHANGING.sub(rb"\1", head)


def body_length(head: bytes) -> int | None:
    """The bytes of the body after the head of a POST; None for an uncertain length or an incomplete head."""
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
