"""Lines on their way by a way that answers as a test says: the mark never passes a line that is not settled."""

import asyncio
import io
import json
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pytest

from app.client.failures import GatewayRefusedError
from app.client.lines.json_items import Owner
from app.client.lines.push import LinePush
from app.client.lines.report import PushReport
from app.client.lines.resume import Mark, read_mark
from app.client.lines.source import Lines
from app.client.pace import Pace
from app.client.sent_batch import Acked, Item, RefusedItem, SentBatch
from app.errors import PermanentError
from app.protobuf.events_pb2 import Event
from app.protobuf.metrics_pb2 import Metric
from tests.waiting import until


class Answers:
    """An AckedStream that answers when `answer` is called, or at once."""

    def __init__(self, at_once: bool = True, refuse: Iterable[int] = (), fail: Exception | None = None) -> None:
        self.put_batches: deque[SentBatch] = deque()
        self.items: list[Item] = []
        self._acks: asyncio.Queue[Acked | None] = asyncio.Queue()
        self._at_once, self._refuse, self._fail = at_once, set(refuse), fail
        self._first = self._open = 0
        self._ended = self.closed = False

    async def put(self, batch: SentBatch) -> None:
        if self._fail:
            raise self._fail
        self.put_batches.append(batch)
        self.items += batch.items
        self._open += 1
        if self._at_once:
            self.answer(0)

    def answer(self, index: int) -> None:
        """Settle one of the batches that wait."""
        batch = self.put_batches[index]
        del self.put_batches[index]
        refused = [
            RefusedItem(batch._first + place, "bad_id", "no", item)
            for place, item in enumerate(batch.items)
            if batch._first + place in self._refuse
        ]
        self._acks.put_nowait(Acked(batch._first, len(batch.items) - len(refused), refused, batch.items))
        self._open -= 1
        self._look()

    def end(self) -> None:
        self._ended = True
        self._look()

    def _look(self) -> None:
        if self._ended and not self._open:
            self._acks.put_nowait(None)

    async def next_ack(self) -> Acked | None:
        if self._fail:
            raise self._fail
        return await self._acks.get()

    def left(self) -> Sequence[Item]:
        return []

    async def close(self) -> None:
        self.closed = True


PACE = Pace(batch_items=3, linger=0.01)
EVENT = b'{"user_id":"u","device_id":"d","sequence_id":%d,"timestamp":1795226400}\n'
METRIC = b'{"node_id":"n","sensor_id":"s","value":%d}\n'


def pushed(
    data: bytes, events: Answers, metrics: Answers | None = None, mark: Mark | None = None, path: Path | None = None
) -> tuple[PushReport, LinePush, io.StringIO]:
    """A whole run."""
    refused = io.StringIO()
    report = PushReport(refused)
    streams: dict[type[Item], Callable[[], Answers]] = {Event: lambda: events}
    if metrics:
        streams[Metric] = lambda: metrics
    push = LinePush(streams, PACE, Owner(), report)
    begin = mark or Mark()
    source = io.BytesIO(data)
    source.seek(begin.offset)
    asyncio.run(push.run(Lines(source, begin.line, begin.offset), begin, path))
    return report, push, refused


def test_lines_of_both_kinds_arrive_in_their_order() -> None:
    events, metrics = Answers(), Answers()
    data = b"".join(EVENT % number if number % 3 else METRIC % number for number in range(100))
    report, push, _ = pushed(data, events, metrics)
    assert [item.sequence_id for item in events.items] == [number for number in range(100) if number % 3]
    assert [item.value for item in metrics.items if isinstance(item, Metric)] == list(range(0, 100, 3))
    assert (report.accepted, report.refused) == (100, 0)
    assert (push.mark.line, push.mark.offset) == (101, len(data))
    assert events.closed
    assert metrics.closed


def test_refused_lines_are_named_with_their_text() -> None:
    data = b"\xef\xbb\xbf" + EVENT % 0 + b"\n  \r\n{bad\n" + EVENT % 1 + METRIC % 5 + EVENT % 2
    report, push, refused = pushed(data, Answers(refuse=[1]))
    assert (report.accepted, dict(report.reasons)) == (2, {"bad_json": 1, "other_way": 1, "bad_id": 1})
    said = [json.loads(line) for line in refused.getvalue().splitlines()]
    assert sorted((one["line"], one["reason"]) for one in said) == [(4, "bad_json"), (5, "bad_id"), (6, "other_way")]
    assert {one["line"]: one["text"] for one in said}[5] == (EVENT % 1).decode().rstrip("\n")
    assert push.mark.offset == len(data)
    assert report.line().startswith("2 accepted, 3 refused (")
    assert report.first_refused == f"line {said[0]['line']}: {said[0]['error']}"


def test_the_mark_waits_for_the_first_line_that_is_open(tmp_path: Path) -> None:
    events, metrics = Answers(at_once=False), Answers()
    data = b"".join(EVENT % number for number in range(9)) + METRIC % 1 + b"bad\n" + METRIC % 2
    path = tmp_path / "mark"

    async def run() -> None:
        push = LinePush({Event: lambda: events, Metric: lambda: metrics}, PACE, Owner(), PushReport())
        running = asyncio.ensure_future(push.run(Lines(io.BytesIO(data)), Mark(), path))
        await until(lambda: len(events.put_batches) == 3 and len(metrics.items) == 2)
        assert push.mark.line == 1
        events.answer(1)
        await asyncio.sleep(0.01)
        assert push.mark.line == 1, "the batch after an open one counts for nothing yet"
        events.answer(0)
        await until(lambda: push.mark.line == 7)
        assert push.mark.offset == len(EVENT % 0) * 6
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    asyncio.run(run())
    mark = read_mark(path)
    assert (mark.line, mark.offset) == (7, len(EVENT % 0) * 6), "also after Ctrl-C"
    again = Answers()
    pushed(data, again, Answers(), mark, path)
    assert [item.sequence_id for item in again.items] == [6, 7, 8]
    assert read_mark(path).offset == len(data)


def test_a_line_without_a_break_at_the_end_is_a_line() -> None:
    data = EVENT % 0 + (EVENT % 1).rstrip(b"\n")
    report, push, _ = pushed(data, Answers())
    assert (report.accepted, push.mark.offset) == (2, len(data))


def test_what_ends_a_stream_ends_the_run(tmp_path: Path) -> None:
    failing = Answers(fail=GatewayRefusedError("the gateway refuses: who?"))
    path = tmp_path / "mark"
    with pytest.raises(GatewayRefusedError, match="who"):
        pushed(EVENT % 0 * 10000, failing, Answers(), path=path)
    assert read_mark(path).line == 1
    assert failing.closed


def test_a_source_that_is_no_ndjson_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.client.lines.source.LINE_MAX", 1000)
    monkeypatch.setattr("app.client.lines.source.BLOCK", 100)
    with pytest.raises(PermanentError, match="line 2 has more than"):
        pushed(EVENT % 0 + b"[" * 5000, Answers())
