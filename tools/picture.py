"""The picture in the README: a moment such as `make run` shows, drawn by the screen itself, as SVG.

`make docs` draws docs/screen.svg anew; a test compares.
"""

import asyncio

from app.top.model.snapshot import AlertRow, BooksTotal, PartitionRow, ProgramRow, Snapshot, Totals
from app.top.screen.app import TopApp
from app.top.text.headline import Piece
from app.top.watch import Watch
from tools.documents import DOCS

PICTURE = DOCS / "screen.svg"
SIZE = (90, 27)  # columns and lines

_TITLE = (Piece("", "iot-stream run"), Piece("kafka", "127.0.0.1:9092"), Piece("postgres", "127.0.0.1:5432/iot"),
          Piece("mqtt", "127.0.0.1:1883"))  # fmt: skip
_LAST = ("8,993", "notifier", "Filter", "partition")  # in the head, the tables and the foot: drawn in turns
_MEGABYTE = 1 << 20
_PER_SECOND = (4.3, 4.6, 12.0, 4.9, 9.8, 14.7, 4.9, 10.7, 9.8, 9.8, 4.9, 11.6)
_MOMENT = Snapshot(
    at=1_795_251_600.0,
    totals=Totals(102.0, 100.0, 4.0, 0.9, 0.125, 0.418, "closed", 12.0, 2, 20.0),
    books=BooksTotal(8993.0, 8976.0, 0.0, 0.0, 17.0, 0.0),
    programs=(
        ProgramRow("worker 1", "127.0.0.1:9002", True, "", "0.1.0", 102.0, 0.18, 103.0 * _MEGABYTE, 98.0, True),
        ProgramRow("bridge", "127.0.0.1:9000", True, "", "0.1.0", 100.0, 0.07, 57.0 * _MEGABYTE, 98.0, True),
        ProgramRow("notifier", "127.0.0.1:9001", True, "", "0.1.0", 0.0, 0.0, 66.0 * _MEGABYTE, 98.0, True),
    ),
    partitions=tuple(
        PartitionRow(number, float(number % 3 == 1), 0.9 if number % 3 == 1 else 0.0, rate, "worker 1",
                     rate * 98, rate * 98)
        for number, rate in enumerate(_PER_SECOND)
    ),
    dead_letters={"bad_json": 8.0, "bad_time": 4.0, "not_an_object": 5.0},
    alert_events={"FIRING": 12.0, "RESOLVED": 10.0},
    group="iot-worker: Stable, 1 member",
    alerts=(
        AlertRow("critical", "demo/truck-3", "temperature", "FIRING", 41.0, "truck-3 has 84.5", "a", 84.5),
        AlertRow("warning", "demo/van-1", "door", "ACKED", 12.0, "door is open", "b"),
    ),
)  # fmt: skip


class StillWatch(Watch):
    """Sees the same moment at each look."""

    async def look(self, patience: float) -> Snapshot:
        """The moment; `patience` is not needed."""
        return _MOMENT


async def drawn() -> str:
    """The screen as SVG; the same text each time."""
    app = TopApp(StillWatch([]), 3600.0, title=_TITLE)
    async with app.run_test(size=SIZE) as pilot:
        while not all(word in app.export_screenshot() for word in _LAST):
            await pilot.pause(0.02)
        await pilot.wait_for_scheduled_animations()
        return app.export_screenshot(title="make run")


if __name__ == "__main__":
    PICTURE.write_text(asyncio.run(drawn()))
    print(f"drawn: {PICTURE}")
