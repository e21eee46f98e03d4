"""Names and texts in line protocol."""

import pytest

from app.sinks.influx import escape


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("temp_1.a-b/c:d", "temp_1.a-b/c:d"),
        ("a b,c=d", "a\\ b\\,c\\=d"),
        ("a\\b", "a\\b"),  # not an escape there, so unchanged
        ("a\\", "a%5C"),  # would escape the next character
        ("a\\,b", "a%5C\\,b"),
        ("a\\\\b", "a%5C\\b"),
        ("a\nb\tc\r", "a\\nb\\tc\\r"),
        ('grad "°C" é', 'grad\\ "°C"\\ é'),
    ],
)
def test_names(text: str, written: str) -> None:
    assert escape.name(text) == written


@pytest.mark.parametrize(("text", "written"), [("a b,c=d", "a\\ b\\,c=d"), ("#no comment", "%23no\\ comment")])
def test_measurements(text: str, written: str) -> None:
    assert escape.measurement(text) == written


def test_texts() -> None:
    assert escape.quoted('a "b" \\c,d=e') == '"a \\"b\\" \\\\c,d=e"'
    assert escape.quoted("a\n\tb\r\\n") == '"a\\n\tb\\r\\\\n"'
    assert escape.quoted("") == '""'
