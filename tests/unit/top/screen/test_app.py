"""The screen as a person uses it: real pages over HTTP in; keys in; what is on the terminal out."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import DataTable, Input, RichLog, Sparkline, Static, TabbedContent

from app.top.model.snapshot import Snapshot
from app.top.notes import Notes
from app.top.screen.app import TopApp
from app.top.screen.details import DeviceScreen, HelpScreen, PartitionScreen
from app.top.screen.head import Head
from app.top.screen.tables import SnapshotTable
from app.top.text.headline import Piece
from app.top.watch import Watch
from tests.unit.top.deployments import Served, WorkerPage, bridge_page, serving

INTERVAL = 0.2
STORED = {0: 100, 1: 300, 2: 200, 10: 0}
LAG = {0: 5, 1: 50, 2: 1, 10: 0}


@asynccontextmanager
async def screen(size: tuple[int, int] = (80, 24), **options: Any) -> AsyncIterator[tuple[TopApp, Pilot[None], Served]]:
    """A worker with four partitions, a bridge, and the screen that looks at them."""
    worker, bridge = WorkerPage(stored=STORED, lag=LAG, online=7), bridge_page(600)
    async with (
        serving(metrics=(200, worker.text()), ready=(200, b"{}")) as one,
        serving(metrics=(200, bridge)) as two,
        Watch([one.url, two.url]) as watch,
    ):
        app = TopApp(watch, INTERVAL, **options)
        async with app.run_test(size=size) as pilot:
            await until(pilot, lambda: [row[1] for row in cells(app, "programs")] == ["up", "up"])
            yield app, pilot, one


async def until(pilot: Pilot[None], true: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not true():
            await pilot.pause(0.02)


def head(app: TopApp) -> str:
    return str(app.screen_stack[0].query_one(Head).content)


def cells(app: TopApp, table: str = "partitions") -> list[list[str]]:
    found = app.screen_stack[0].query_one(f"#{table}", SnapshotTable)
    return [[str(cell) for cell in found.get_row_at(n)] for n in range(found.row_count)]


def partitions(app: TopApp) -> list[str]:
    return [row[0] for row in cells(app)]


async def test_programs_partitions_and_totals_are_there() -> None:
    async with screen() as (app, pilot, one):
        assert "received 600" in head(app)
        assert "online 7" in head(app)
        assert "difference 0" in head(app)
        assert [row[:2] for row in cells(app, "programs")] == [["worker 1", "up"], ["bridge", "up"]]
        assert [row[:2] for row in cells(app)] == [["0", "5"], ["1", "50"], ["2", "1"], ["10", "0"]]
        one.pages["/metrics"] = (200, WorkerPage(stored={**STORED, 0: 160}, lag=LAG, lost=2, breaker=1).text())
        await until(pilot, lambda: "difference 2" in head(app))
        assert "breaker OPEN" in head(app)
        one.pages["/metrics"] = (500, b"")
        await until(pilot, lambda: "worker 1 down: /metrics answers 500" in head(app))
        assert "difference 2" in head(app), "what was counted stays"


async def test_sorting() -> None:
    async with screen() as (app, pilot, _):
        await pilot.press("s", "s")
        assert partitions(app) == ["1", "0", "2", "10"], "by lag, the largest first"
        await pilot.press("r")
        assert partitions(app) == ["10", "2", "0", "1"]
        await pilot.press("up")
        await pilot.pause(3 * INTERVAL)
        assert partitions(app) == ["10", "2", "0", "1"], "the next look keeps the order"
        assert app.query_one("#partitions", SnapshotTable).selected == "2", "and the cursor stays on its row"


async def test_filter() -> None:
    async with screen() as (app, pilot, _):
        await pilot.press("slash", *"brid")
        assert [row[0] for row in cells(app, "programs")] == ["bridge"]
        assert partitions(app) == []
        await pilot.press("enter", "down")
        assert app.focused is app.query_one("#partitions")
        assert "filter brid" in head(app)
        await pilot.press("escape")
        assert len(cells(app, "programs")) == 2
        await pilot.press("slash", "q")
        assert app.query_one("#filter", Input).value == "q", "a letter is a letter there"
        await pilot.press("escape")
        assert partitions(app) == ["0", "1", "2", "10"]


async def test_into_a_partition_and_back() -> None:
    async with screen() as (app, pilot, one):
        await pilot.press("down", "enter")
        assert isinstance(app.screen, PartitionScreen)
        facts = app.screen.query_one("#facts", Static)
        assert "50 records" in str(facts.content)
        one.pages["/metrics"] = (200, WorkerPage(stored=STORED, lag={**LAG, 1: 77}).text())
        await until(pilot, lambda: "77 records" in str(facts.content))
        curve = app.screen.query_one("#lag-curve", Sparkline).data
        assert curve is not None
        assert (curve[0], curve[-1]) == (50, 77)
        await pilot.press("escape")
        assert isinstance(app.screen_stack[-1], type(app.screen_stack[0]))
        assert len(app.screen_stack) == 1


async def test_a_look_that_ends_while_a_partition_is_being_opened() -> None:
    async with screen() as (app, pilot, _):
        table = app.query_one("#partitions", SnapshotTable)
        app.on_data_table_row_selected(DataTable.RowSelected(table, 1, table.ordered_rows[1].key))
        app.on_resize()  # draws what the look has found
        await until(pilot, lambda: app.screen.is_mounted)
        assert "50 records" in str(app.screen.query_one("#facts", Static).content)


async def test_pause_stops_the_drawing_and_not_the_looking() -> None:
    async with screen() as (app, pilot, one):
        await pilot.press("p")
        assert "PAUSED" in head(app)
        one.pages["/metrics"] = (200, WorkerPage(stored={0: 900}).text())
        await pilot.pause(4 * INTERVAL)
        assert "received 600" in head(app)
        await pilot.press("p")
        await until(pilot, lambda: "received 900" in head(app))
        assert "PAUSED" not in head(app)


async def test_tabs_and_help() -> None:
    async with screen() as (app, pilot, _):
        await pilot.press("2")
        assert app.query_one(TabbedContent).active == "tab-books"
        assert cells(app, "books")[1] == ["1", "300", "300", "0", "0", "0", "0"]
        await pilot.press("enter")
        assert isinstance(app.screen, PartitionScreen)
        await pilot.press("escape", "question_mark")
        assert isinstance(app.screen, HelpScreen)
        await pilot.press("x")
        assert len(app.screen_stack) == 1


async def test_a_device_by_name() -> None:
    async with screen() as (app, pilot, _):
        await pilot.press("d", *"u1", "enter")
        assert len(app.screen_stack) == 2, "half a name is none"
        await pilot.press("slash", *"d1", "enter")
        assert isinstance(app.screen, DeviceScreen)
        text = app.screen.query_one("#device", Static)
        await until(pilot, lambda: "no database is named" in str(text.content))
        await pilot.press("escape")
        assert len(app.screen_stack) == 1


async def test_notes_and_warnings() -> None:
    notes = Notes()
    notes.add("worker started again [red]")
    options: dict[str, Any] = {
        "notes": notes,
        "warnings": lambda: ["not running: kafka"],
        "title": [Piece("", "ready")],
    }
    async with screen(**options) as (app, pilot, _):
        assert "ready  not running: kafka" in head(app)
        await pilot.press("5")
        log = app.query_one("#log", RichLog)
        await until(pilot, lambda: len(log.lines) == 1)
        notes.add("alert FIRING u1/d1")
        await until(pilot, lambda: len(log.lines) == 2)
        assert "[red]" in log.lines[0].text


@pytest.mark.parametrize("key", ["q", "ctrl+c"])
async def test_quit(key: str) -> None:
    async with screen() as (app, pilot, _):
        await pilot.press(key)
        await until(pilot, lambda: not app.is_running)
    assert app.return_code == 0


async def test_ctrl_c_quits_from_wherever() -> None:
    async with screen() as (app, pilot, _):
        await pilot.press("slash", "ctrl+c")
        await until(pilot, lambda: not app.is_running)


async def test_it_ends_when_stopped() -> None:
    stopped = threading.Event()
    async with screen(stopped=stopped) as (app, pilot, _):
        stopped.set()
        await until(pilot, lambda: not app.is_running)
    assert app.return_code == 0


class BrokenWatch(Watch):
    """With a bug."""

    async def look(self, patience: float) -> Snapshot:
        """Never answers."""
        secret = f"in a variable {patience}"
        raise ZeroDivisionError(len(secret))


async def test_a_bug_ends_it_and_is_shown_without_what_is_in_variables(capsys: pytest.CaptureFixture[str]) -> None:
    async with BrokenWatch([]) as watch:
        app = TopApp(watch, INTERVAL)
        await app.run_async(headless=True)
    assert app.return_code == 1
    said = capsys.readouterr().err
    assert "ZeroDivisionError" in said
    assert "in a variable 0.2" not in said


@pytest.mark.parametrize("size", [(60, 20), (80, 24), (120, 40), (30, 8)])
async def test_any_size(size: tuple[int, int]) -> None:
    async with screen(size) as (app, pilot, _):
        assert len(cells(app)) == 4
        assert max(map(len, head(app).splitlines()[1:])) <= max(size[0], 30)
        await pilot.resize_terminal(100, 30)
        await until(pilot, lambda: "difference" in [str(column.label) for column in _columns(app)])


def _columns(app: TopApp) -> list[Any]:
    return list(app.query_one("#partitions", SnapshotTable).columns.values())
