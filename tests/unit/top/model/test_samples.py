"""Any bytes become samples or a ValueError, in a bounded time."""

import contextlib
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.top.model.samples import LINE_CHARACTERS, PAGE_BYTES, MetricSamples, parse
from tests.unit.top.deployments import WorkerPage


def test_a_worker_page() -> None:
    samples = parse(WorkerPage(stored={0: 7, 1: 8}, lag={0: 3, 1: 4}).text())
    assert samples.value("iot_rows_stored_total") == 15
    assert samples.value("iot_consumer_lag") is None, "the metric has labels"
    assert samples.by("iot_consumer_lag", "partition") == {"0": 3, "1": 4}
    assert samples.label("iot_build_info", "version") == "0.2.0"
    assert samples.has("iot_ledger")
    assert not samples.has("iot_bridge_")


@pytest.mark.parametrize(
    "page",
    [b"", b"<html>not metrics</html>", b"\xff\xfe\x00", b"{}", b"iot_x{ 1\n", b'iot_x{a="} 1\n', b"# HELP\n", b"a\n"],
)
def test_what_is_no_page(page: bytes) -> None:
    with pytest.raises(ValueError, match="no metrics page"):
        parse(page)


def test_numbers_that_are_none_are_left_out() -> None:
    samples = parse(b"iot_a_total NaN\niot_b_total +Inf\niot_c_total 1e308\niot_d_total 4\n")
    assert samples == MetricSamples({("iot_d_total", ()): 4.0})


def test_what_it_says_of_a_damaged_page_is_short_and_harmless() -> None:
    with pytest.raises(ValueError, match="no metrics page") as raised:
        parse(b'iot_x{a="\x1b[31m' + b"z" * 3000 + b"} 1\n")
    assert len(str(raised.value)) < 200
    assert "\x1b" not in str(raised.value)


@pytest.mark.parametrize(
    "line",
    [
        b'iot_x{a="' + b"\\" * 4000 + b'"} 1',
        b'iot_x{a="' + b'\\"' * 2000 + b'"} 1',
        b"iot_x{" + b'a="",' * 800 + b"} 1",
        b'iot_x{a="' + b"x" * 4000 + b'"} 1',
    ],
)
def test_the_largest_page_of_the_worst_lines_is_done_with_soon(line: bytes) -> None:
    """The page is read in a thread, and is of one address; still, the reading has to end."""
    began = time.process_time()
    with contextlib.suppress(ValueError):
        parse((line + b"\n") * (PAGE_BYTES // len(line)))
    assert time.process_time() - began < 20


def test_a_long_line_is_refused_unread() -> None:
    with pytest.raises(ValueError, match="a line of more than"):
        parse(b"iot_x " + b"1" * LINE_CHARACTERS)


@given(st.binary(max_size=300))
def test_any_bytes(page: bytes) -> None:
    assert read_or_refused(page)


@given(st.text(alphabet='iot_x{}=",\\ \n#T1.5eNaNYPEHL', max_size=80))
def test_what_looks_like_a_page(text: str) -> None:
    assert read_or_refused(text.encode())


def read_or_refused(page: bytes) -> bool:
    try:
        return bool(parse(page).values)
    except ValueError as error:
        return str(error).startswith("no metrics page")
