"""HTTP/2 by hand, as far as a call of gRPC needs it: what no client of gRPC would send, and all that comes back."""

import socket
import struct
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, END_HEADERS, ACK = 1, 4, 1
FRAME_MAX = 16384


class Frame(NamedTuple):
    """A frame that came in."""

    kind: int
    flags: int
    stream: int
    payload: bytes


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """As it is sent."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def header(name: str, value: str) -> bytes:
    """HPACK: a literal without indexing, both as they are."""
    return b"\x00" + _text(name) + _text(value)


def _text(text: str) -> bytes:
    data = text.encode()
    assert len(data) < 127, "the length takes one byte"
    return bytes([len(data)]) + data


class RawConnection:
    """One connection; each call is a stream of its own."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(5)
        self._socket.connect(str(path))
        self._buffer = b""
        self._stream = -1
        self.window = 65535  # of the connection
        self.stream_windows: dict[int, int] = {}
        self._initial = 65535
        self._socket.sendall(PREFACE + frame(SETTINGS, 0, 0))

    def close(self) -> None:
        """Gone."""
        self._socket.close()

    def call(self, method: str, **more: str) -> int:
        """Begin one: its stream. `more` are headers, `_` for `-`."""
        self._stream += 2
        headers = {":method": "POST", ":scheme": "http", ":path": method, ":authority": "x", "te": "trailers"}
        headers |= {"content-type": "application/grpc", "authorization": "Bearer good"}
        headers |= {name.replace("_", "-"): value for name, value in more.items()}
        block = b"".join(header(name, value) for name, value in headers.items() if value)
        self._socket.sendall(frame(HEADERS, END_HEADERS, self._stream, block))
        self.stream_windows[self._stream] = self._initial
        return self._stream

    def data(self, stream: int, payload: bytes, end: bool = False) -> int:
        """Send as much as the windows allow, and what they allow later; how much of it went out within two seconds."""
        sent = 0
        if not payload and end:
            self._socket.sendall(frame(DATA, END_STREAM, stream))
        while sent < len(payload):
            room = min(self.window, self.stream_windows[stream], FRAME_MAX, len(payload) - sent)
            if room <= 0:
                if self.read(2.0) is None:
                    return sent
                continue
            last = end and sent + room == len(payload)
            self._socket.sendall(frame(DATA, END_STREAM if last else 0, stream, payload[sent : sent + room]))
            sent += room
            self.window -= room
            self.stream_windows[stream] -= room
        return sent

    def read(self, seconds: float = 5.0) -> Frame | None:
        """The next frame; None: there is none within that time, or the connection is closed."""
        self._socket.settimeout(seconds)
        while len(self._buffer) < 9 or len(self._buffer) < 9 + int.from_bytes(self._buffer[:3], "big"):
            try:
                more = self._socket.recv(65536)
            except OSError:
                return None
            if not more:
                return None
            self._buffer += more
        size = int.from_bytes(self._buffer[:3], "big")
        kind, flags, stream = struct.unpack(">BBI", self._buffer[3:9])
        payload, self._buffer = self._buffer[9 : 9 + size], self._buffer[9 + size :]
        self._look(found := Frame(kind, flags, stream, payload))
        return found

    def trailers(self, stream: int) -> bytes:
        """The last headers of a stream, undecoded; empty: it was reset, or the connection closed."""
        while (found := self.read()) is not None:
            if found.stream == stream and found.kind == HEADERS and found.flags & END_STREAM:
                return found.payload
            if (found.kind == RST_STREAM and found.stream == stream) or found.kind == GOAWAY:
                return b""
        return b""

    def _look(self, found: Frame) -> None:
        """Windows, settings and pings."""
        if found.kind == WINDOW_UPDATE:
            more = int.from_bytes(found.payload, "big")
            if found.stream:
                self.stream_windows[found.stream] = self.stream_windows.get(found.stream, self._initial) + more
            else:
                self.window += more
        elif found.kind == SETTINGS and not found.flags & ACK:
            for at in range(0, len(found.payload), 6):
                name, value = struct.unpack(">HI", found.payload[at : at + 6])
                if name == 4:
                    for stream in self.stream_windows:
                        self.stream_windows[stream] += value - self._initial
                    self._initial = value
            with suppress(OSError):
                self._socket.sendall(frame(SETTINGS, ACK, 0))
        elif found.kind == PING and not found.flags & ACK:
            with suppress(OSError):
                self._socket.sendall(frame(PING, ACK, 0, found.payload))
