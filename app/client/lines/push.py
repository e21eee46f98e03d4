"""Lines of JSON -> a gateway, by whatever way: a line is accepted, or refused with its reason; the mark follows."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from pathlib import Path

from app.client.acked_stream import AckedStream
from app.client.feeding import Feeder
from app.client.lines.json_items import Owner, item_of
from app.client.lines.open_lines import OpenLines
from app.client.lines.report import PushReport
from app.client.lines.resume import HEAD, Mark, moved, write_mark
from app.client.lines.source import LINE_MAX, Line, Lines
from app.client.pace import Pace
from app.client.sent_batch import Acked, Item
from app.core.model.fault import Fault
from app.errors import PermanentError

MARK_SECONDS = 1.0  # at most what was sent in this time is sent twice after a crash
QUEUED = 100  # items that are read and in no batch yet, of either kind
OTHER_WAY = "other_way"  # a good line that this way cannot carry
_MARK = b"\xef\xbb\xbf"  # of UTF-8, which some editors begin a file with

Streams = Mapping[type[Item], Callable[[], AckedStream]]  # the kinds that a way carries, and how a stream is begun


class _Kind:
    """The lines of one kind on their way."""

    def __init__(self, stream: AckedStream, pace: Pace) -> None:
        self.stream, self.open = stream, OpenLines()
        self.queue: asyncio.Queue[Item | None] = asyncio.Queue(QUEUED)
        self._feeder = Feeder(stream, pace)

    async def feed(self) -> None:
        """Until the queue ends."""
        await self._feeder.feed(self._items())

    async def _items(self) -> AsyncIterator[Item]:
        while (item := await self.queue.get()) is not None:
            yield item


class LinePush:
    """Pushes the lines of one source, once."""

    def __init__(self, streams: Streams, pace: Pace, owner: Owner, report: PushReport) -> None:
        self._streams, self._pace, self._owner, self._report = streams, pace, owner, report
        self._kinds: dict[type[Item], _Kind] = {}
        self._mark, self._head = Mark(), b""
        self._next = 1, 0  # number and first byte of the line that is looked at next

    @property
    def mark(self) -> Mark:
        """Where to go on after a crash: all lines before it are settled."""
        opened = [line for kind in self._kinds.values() if (line := kind.open.first)]
        first = min(opened, default=None, key=lambda line: line.number)
        number, start = (first.number, first.start) if first else self._next
        return moved(self._mark, number, start, self._head)

    async def run(self, lines: Lines, mark: Mark, path: Path | None) -> None:
        """Push until the source ends and each line is settled; `lines` begin at `mark`, which is kept in the file
        `path` as it moves, every MARK_SECONDS (None: nowhere).

        Raises NotAckedError, GatewayRefusedError, PermanentError (also for a line of more than LINE_MAX bytes), and
        OSError of the source. The mark is true then too.
        """
        self._mark, self._next = mark, (mark.line, mark.offset)
        self._kinds = {kind: _Kind(begin(), self._pace) for kind, begin in self._streams.items()}
        work = [asyncio.ensure_future(self._read(lines))]
        for kind in self._kinds.values():
            work += [asyncio.ensure_future(kind.feed()), asyncio.ensure_future(self._settle(kind))]
        try:
            await self._all(work, path)
        finally:
            for one in work:
                one.cancel()
            await asyncio.gather(*work, return_exceptions=True)
            for kind in self._kinds.values():
                await kind.stream.close()
            if path:
                write_mark(path, self.mark)

    async def _all(self, work: Iterable[asyncio.Future[None]], path: Path | None) -> None:
        """Wait until all tasks are done, or one has failed; meanwhile the mark is written."""
        pending = set(work)
        while pending:
            done, pending = await asyncio.wait(
                pending, timeout=MARK_SECONDS if path else None, return_when=asyncio.FIRST_EXCEPTION
            )
            for one in done:
                one.result()
            if path:
                write_mark(path, self.mark)

    async def _read(self, lines: Lines) -> None:
        async for block in lines.blocks():
            for line in block:
                await self._take(line)
                self._next = line.number + 1, line.after
        if lines.overlong:
            raise PermanentError(f"line {lines.overlong} has more than {LINE_MAX} bytes: is the file NDJSON?")
        for kind in self._kinds.values():
            await kind.queue.put(None)

    async def _take(self, line: Line) -> None:
        text = line.text.removeprefix(_MARK) if line.number == 1 else line.text
        if len(self._head) < HEAD and line.start == len(self._head):
            self._head += line.text + b"\n"
        if not text.strip():
            return
        item = item_of(text, self._owner)
        if isinstance(item, Fault):
            self._report.refuse(line, item.reason, item.detail)
        elif kind := self._kinds.get(type(item)):
            kind.open.put(line)
            await kind.queue.put(item)
        else:
            self._report.refuse(line, OTHER_WAY, f"this way carries no {type(item).__name__.lower()}: use another way")

    async def _settle(self, kind: _Kind) -> None:
        while (acked := await kind.stream.next_ack()) is not None:
            self._count(kind, acked)

    def _count(self, kind: _Kind, acked: Acked) -> None:
        for index, reason, error, _ in acked.refused:
            self._report.refuse(kind.open.at(index), reason, error)
        self._report.accept(acked.accepted)
        kind.open.settle(acked.first, len(acked.items))
