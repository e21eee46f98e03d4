"""A Watch over real HTTP: nobody waits for one that hangs, and what answers late is seen later."""

import time

import pytest

from app.local.servers.common import free_port
from app.top.sources import pages
from app.top.watch import Watch
from tests.unit.top.deployments import WorkerPage, serving


async def test_one_that_hangs_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "SECONDS", 4.0)
    async with (
        serving(metrics=(200, None)) as stuck,
        serving(metrics=(200, WorkerPage(stored={0: 5}).text())) as well,
        Watch([stuck.url, well.url, f"http://127.0.0.1:{free_port()}"]) as watch,
    ):
        began = time.monotonic()
        found = await watch.look(0.3)
        assert time.monotonic() - began < 3.5, "less than it takes to give one up"
        assert [row.up for row in found.programs] == [False, True, False]
        assert [row.problem for row in found.programs] == ["no answer yet", "", "Connection refused"]
        found = await watch.look(20)
        assert found.programs[0].problem == "no answer within 4 s"
        well.pages["/metrics"] = (200, WorkerPage(stored={0: 30}).text())
        stuck.pages["/metrics"] = (200, WorkerPage(stored={1: 7}).text())
        found = await watch.look(5)
    assert [row.up for row in found.programs] == [True, True, False]
    assert found.books.rows == 37
    assert (found.totals.rows_per_second or 0) > 0


async def test_the_same_address_twice_is_one_program() -> None:
    async with serving(metrics=(200, WorkerPage(stored={0: 5}).text())) as well, Watch([well.url, well.url]) as watch:
        found = await watch.look(5)
    assert (len(found.programs), found.books.rows) == (1, 5)


async def test_leaving_ends_what_is_under_way() -> None:
    async with serving(metrics=(200, None)) as stuck:
        async with Watch([stuck.url]) as watch:
            await watch.look(0.1)
            began = time.monotonic()
        assert time.monotonic() - began < pages.SECONDS - 0.5


async def test_a_device_without_a_database() -> None:
    async with Watch([]) as watch:
        assert (await watch.device("u", "d")).problem == "no database is named: set IOT_DATABASE_URL"
        assert (await watch.look(0.1)).programs == ()
