"""A file or a pipe -> blocks of lines as they come, read in a thread: a line that is awaited holds up no task."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import BinaryIO, NamedTuple

BLOCK = 256 << 10
AHEAD = 4  # blocks that are read and not yet taken
LINE_MAX = 4 << 20  # bytes; a gateway takes no message of more (IOT_GATEWAY_BODY_MAX_BYTES)


class Line(NamedTuple):
    """One line, without its end."""

    number: int  # from 1
    start: int  # its first byte in the source
    after: int  # the first byte behind it, and behind its line break
    text: bytes


class Lines:
    """The lines of one source, from its present position on. A line of more than LINE_MAX bytes ends the reading:
    `overlong` has its number.
    """

    def __init__(self, source: BinaryIO, number: int = 1, start: int = 0) -> None:
        """`number` and `start`: of the first line, where the source stands now."""
        self._source, self._number, self._start = source, number, start
        self._rest = b""
        self.overlong: int | None = None

    async def blocks(self) -> AsyncIterator[list[Line]]:
        """The lines, in their order, some at a time as they come, until the source ends; what follows its last line
        break is a line too. Raises OSError of the source.
        """
        loop, found = asyncio.get_running_loop(), asyncio.Queue[bytes | OSError]()
        room = threading.Semaphore(AHEAD)

        def read() -> None:
            data: bytes | OSError = b"-"
            while data and not isinstance(data, OSError):
                room.acquire()
                try:
                    data = self._source.read1(BLOCK)  # type: ignore[attr-defined]  # BinaryIO has no read1; files and pipes have
                except OSError as error:
                    data = error
                with suppress(RuntimeError):  # the loop is gone, and with it the tasks that waited
                    loop.call_soon_threadsafe(found.put_nowait, data)

        threading.Thread(target=read, name="lines", daemon=True).start()  # at the end of the process it is not joined
        while data := await found.get():
            room.release()
            if isinstance(data, OSError):
                raise data
            if lines := self._cut(data):
                yield lines
            if self.overlong:
                return
        if self._rest:
            yield [Line(self._number, self._start, self._start + len(self._rest), self._rest)]

    def _cut(self, data: bytes) -> list[Line]:
        *texts, self._rest = (self._rest + data).split(b"\n")
        lines = []
        for text in texts:
            after = self._start + len(text) + 1
            lines.append(Line(self._number, self._start, after, text))
            self._number += 1
            self._start = after
        if len(self._rest) > LINE_MAX:
            self.overlong = self._number
        return lines
