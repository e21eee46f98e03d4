import re
from datetime import UTC, datetime
from xml.etree import ElementTree

import pytest

from app.loadtest.chart import POINTS_MAX, Axis, ChartLine, chart
from app.loadtest.findings import Findings, Sought
from app.loadtest.latencies import Latencies
from app.loadtest.progress import LoadSample
from app.loadtest.report import page
from tests.unit.loadtest.world import ledger

BEGAN = datetime(2026, 11, 21, 2, tzinfo=UTC)


def samples(count: int) -> list[LoadSample]:
    return [LoadSample(float(at), 200 * at, 199 * at, 190 * at, 90, 0.001, 0.004, 0.05, 0.2) for at in range(count)]


def times() -> Latencies:
    made = Latencies()
    for step in range(1, 1000):
        made.add(0.001 * step)
    return made


def test_the_page_needs_nothing_beside_itself_and_says_what_the_ledger_says() -> None:
    found = Findings(rows=11_999, stored=11_999, missing=Sought(1, ["<load> & 17"]))
    html = page(ledger(found), samples(60), times(), times(), BEGAN)
    assert not re.search(r"(src|href)=|url\(|@import|<script", html)
    assert "Not everything is there." in html
    assert "&lt;load&gt; &amp; 17" in html
    assert "<load>" not in html
    assert "2026-11-21 02:00:00 UTC" in html
    assert html.count("<svg") == 5
    for picture in re.findall(r"<svg.*?</svg>", html, re.S):
        ElementTree.fromstring(picture)


def test_a_run_without_a_database_or_a_second_has_a_page_too() -> None:
    html = page(ledger(None, problem="the database: away"), samples(1), Latencies(), Latencies(), BEGAN)
    assert "nothing was measured" in html
    assert "the database: away" in html


@pytest.mark.parametrize("log", [False, True])
def test_every_point_is_inside_the_chart_and_no_peak_is_lost(log: bool) -> None:
    points = [(float(x), 1.0 if x != 777 else 1e5) for x in range(1, 5000)]
    root = ElementTree.fromstring(
        chart("t", Axis("x", log), Axis("y", log), [ChartLine("a", "blue", points)])
        .removeprefix("<figure>")
        .removesuffix("</figure>")
    )
    drawn = next(one.attrib["points"] for one in root if one.tag == "polyline").split()
    assert len(drawn) <= POINTS_MAX
    places = [tuple(map(float, one.split(","))) for one in drawn]
    assert all(74 <= x <= 792.1 and 39.9 <= y <= 216.1 for x, y in places)
    assert min(y for _, y in places) == pytest.approx(40, abs=1)


def test_values_that_are_all_alike_have_a_chart() -> None:
    flat = [(float(x), 0.0) for x in range(3)]
    assert "<polyline" in chart("t", Axis("x"), Axis("y"), [ChartLine("a", "blue", flat)])
    assert "nothing was measured" in chart("t", Axis("x"), Axis("y", log=True), [ChartLine("a", "blue", flat)])
    same = [(float(x), 5.0) for x in range(3)]
    assert "<polyline" in chart("t", Axis("x"), Axis("y", log=True), [ChartLine("a", "blue", same)])
