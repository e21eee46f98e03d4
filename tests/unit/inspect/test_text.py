"""Text for a terminal: nothing that it would act on, and JSON that says the same all the same."""

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.inspect.text import DUMPED, SHOWN, hex_dump, is_text, json_line, raw_json, shown, time_of

HOSTILE = "\x1b]0;owned\x07 \x9b31m \u202e \x00 \x7f \r\n \U000e0001 ü 漢"


def harmless(text: str) -> bool:
    """Whether no character of it is a control, a format or an unassigned one."""
    return not any(unicodedata.category(char) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp") for char in text)


@given(st.one_of(st.binary(), st.text()))
def test_nothing_that_a_terminal_acts_on_comes_through(value: bytes | str) -> None:
    assert harmless(shown(value))


def test_what_is_harmless_stays_and_the_rest_is_escaped() -> None:
    assert harmless(shown(HOSTILE))
    assert "ü 漢" in shown(HOSTILE)
    assert r"\x1b]0;owned\x07" in shown(HOSTILE)
    assert shown("x" * (SHOWN + 1)).endswith(f"... ({SHOWN + 1} characters)")


@given(st.dictionaries(st.text(), st.one_of(st.text(), st.integers(-(2**63), 2**64 - 1), st.none())))
def test_json_is_harmless_and_says_the_same(value: dict[str, object]) -> None:
    line = json_line(value)
    assert harmless(line)
    assert json.loads(line) == value


def test_json_of_others_stays_what_it_is() -> None:
    payload = b'{"a" : 1.10,\n "big": 12345678901234567890123, "b": "\xc2\x9b31m"}'
    raw = raw_json(payload)
    assert raw is not None
    assert bytes(raw) == b'{"a":1.10,"big":12345678901234567890123,"b":"\xc2\x9b31m"}'
    assert json_line({"payload": raw}) == r'{"payload":{"a":1.10,"big":12345678901234567890123,"b":"\u009b31m"}}'


@pytest.mark.parametrize("payload", [b"", b"{", b"NaN", b"\xff", b"{}{}", b"[" * 100_000, b'"\xff"', b"\x00"])
def test_what_is_no_json_is_none(payload: bytes) -> None:
    assert raw_json(payload) is None


def test_which_payloads_are_text() -> None:
    assert is_text("t = 21,5 °C\r\n".encode())
    assert not is_text(b"\x1b[2J")
    assert not is_text(b"\xff\xfe")


def test_a_hex_dump() -> None:
    assert list(hex_dump(b"\x00\x1b[2J binary \xff and more")) == [
        "00000000  00 1b 5b 32 4a 20 62 69 6e 61 72 79 20 ff 20 61  |..[2J binary . a|",
        "00000010  6e 64 20 6d 6f 72 65                             |nd more|",
    ]
    long = list(hex_dump(bytes(DUMPED + 1)))
    assert (len(long), long[-1]) == (DUMPED // 16 + 1, f"... ({DUMPED + 1} bytes)")


def test_times_that_no_calendar_has() -> None:
    assert time_of(1_795_230_000_123) == "2026-11-21T03:00:00.123Z"
    assert time_of(2**63 - 1) is None
    assert time_of(-1) == "1969-12-31T23:59:59.999Z"
    assert time_of(-(2**63)) is None
