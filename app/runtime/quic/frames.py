"""Bytes of a stream, in pieces as they come -> frames: 4 bytes of length, big-endian, and so many bytes."""

from typing import NamedTuple

from app.runtime.quic.contract import LENGTH_BYTES

TOO_LARGE, MALFORMED = "too_large", "malformed"


class FrameFault(NamedTuple):
    """Why no frame follows: for a program (TOO_LARGE, MALFORMED) and for a person."""

    reason: str
    error: str


class FrameReader:
    """The reader of one stream. A length is judged as soon as its 4 bytes are there, before memory is set aside."""

    def __init__(self, max_bytes: int) -> None:
        """`max_bytes` is the largest length a frame may have, without its 4 bytes of length."""
        self._max = max_bytes
        self._buffer = bytearray()
        self.declared = 0  # length of the frame that is not yet whole; 0: not known
        self.fault: FrameFault | None = None  # None: all was well so far

    @property
    def pending(self) -> int:
        """Bytes held of a frame that is not yet whole."""
        return len(self._buffer)

    def feed(self, data: bytes) -> list[bytes]:
        """The bodies of the frames that are whole now, without their length, in order. What is wrong is in `fault`, and
        then nothing is read any more. Never raises.
        """
        if self.fault:
            return []
        frames: list[bytes] = []
        buffer = self._buffer
        buffer += data
        self.declared = 0
        while len(buffer) >= LENGTH_BYTES:
            length = int.from_bytes(buffer[:LENGTH_BYTES], "big")
            if not 0 < length <= self._max:
                self._refuse(length)
                break
            if len(buffer) < LENGTH_BYTES + length:
                self.declared = length
                break
            frames.append(bytes(buffer[LENGTH_BYTES : LENGTH_BYTES + length]))
            del buffer[: LENGTH_BYTES + length]
        return frames

    def finish(self) -> None:
        """The stream is at its end; an end within a frame is the fault MALFORMED."""
        if self._buffer and not self.fault:
            came = len(self._buffer) - LENGTH_BYTES
            found = f"{came} bytes of {self.declared} came" if self.declared else "its length is cut off"
            self.stop(FrameFault(MALFORMED, f"the stream ends within a frame: {found}"))

    def stop(self, fault: FrameFault) -> None:
        """Read nothing more, because of `fault`, and let go of the bytes held."""
        self.fault = fault
        self.declared = 0
        self._buffer.clear()

    def _refuse(self, length: int) -> None:
        if length:
            self.stop(FrameFault(TOO_LARGE, f"a frame of {length} bytes, {self._max} at most"))
        else:
            self.stop(FrameFault(MALFORMED, "a frame of no bytes: a batch has at least one"))


def framed(body: bytes) -> bytes:
    """A frame that holds `body`, its length before it. Raises OverflowError for a body of 4 GiB or more."""
    return len(body).to_bytes(LENGTH_BYTES, "big") + body
