"""The transport of a connection: is read or not, takes answers, and closes so that the last of them arrives."""

import asyncio

WRITE_HIGH_BYTES = 64 << 10  # of answers that the sender has not taken; then nothing more of it is read
# With TLS the loop reads ahead, and forgets all that when the other side ends while the protocol has paused: so lines
# are kept here instead, up to as much as the loop would keep.
AHEAD_BYTES = 256 << 10
# For the other side to take the last answers and close: whoever closes with something unread resets the connection, and
# the answers are gone.
LINGER_SECONDS = 2.0


class Wire:
    """The transport of one connection."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()
        self.reading = True
        self.ended = False  # the other side has sent all it will
        self.full_since: float | None = None  # since when the sender has not taken its answers

    def attach(self, transport: asyncio.Transport) -> None:
        """Take the transport of a connection that was made."""
        self._transport = transport
        transport.set_write_buffer_limits(WRITE_HIGH_BYTES)

    @property
    def can_half_close(self) -> bool:
        """Whether one side may have ended while the other goes on; with TLS it may not."""
        return self._transport is not None and self._transport.can_write_eof()

    @property
    def ahead(self) -> int:
        """Bytes that are read before reading may pause."""
        return 0 if self.can_half_close else AHEAD_BYTES

    def detach(self) -> None:
        """Let go of the transport, which is gone; nothing has an effect any more."""
        self._transport, self.ended, self.full_since = None, True, None

    def read(self, wanted: bool) -> bool:
        """Read or pause, as `wanted`; whether reading begins again by this."""
        if self._transport is None or self._transport.is_closing() or wanted is self.reading or self.ended:
            return False
        self.reading = wanted
        if wanted:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()
        return wanted

    def full(self, is_full: bool) -> None:
        """Note whether the sender takes its answers."""
        self.full_since = self._loop.time() if is_full else None

    def write(self, answer: bytes) -> None:
        """Write an answer; nothing is done where the connection is gone or closing."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(answer)

    def close(self, last: bytes | None) -> None:
        """Write the last word (None: there is none); then wait LINGER_SECONDS for the other side to close, and throw
        away what it still sends.
        """
        if self._transport is None or self._transport.is_closing():
            return
        if last:
            self._transport.write(last)
        if self.ended:
            self._transport.close()
            return
        if self.can_half_close:
            try:
                self._transport.write_eof()
            except OSError:  # the other side has reset the connection, and nobody has noticed yet
                self._transport.abort()
                return
        self.read(True)
        self._loop.call_later(LINGER_SECONDS, self._close)

    def abort(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()

    def _close(self) -> None:
        if self._transport is None:
            return
        if self._transport.get_write_buffer_size():
            self._transport.abort()  # who has not taken it by now will not
        else:
            self._transport.close()
