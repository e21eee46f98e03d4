"""Each form of the line protocol, and what is said of each that is wrong."""

import pytest

from app.core.decode.influx_line import PRECISIONS, InfluxPoint, LineFault, Precision, read_line, seconds
from app.core.model.records import Reason


def fields(line: str) -> dict[str, str]:
    """The fields of a good line, as JSON."""
    found = read_line(line)
    assert isinstance(found, InfluxPoint), found
    return found.fields


def fault(line: str) -> LineFault:
    """What is wrong with a bad line."""
    found = read_line(line)
    assert isinstance(found, LineFault), found
    return found


def test_a_whole_line() -> None:
    line = 'cpu,host=a,region=eu\\ west usage=0.5,cores=4i,ok=t,name="core \\"0\\"" 1764475200000000000'
    assert read_line(line) == InfluxPoint(
        "cpu",
        {"host": "a", "region": "eu west"},
        {"usage": "0.5", "cores": "4", "ok": "true", "name": '"core \\"0\\""'},
        "1764475200000000000",
    )


@pytest.mark.parametrize(
    ("value", "json"),
    [
        ("1", "1"),
        ("-0.50", "-0.50"),
        ("+1.5", "1.5"),
        ("1.", "1"),
        (".5", "0.5"),
        ("-.5e-3", "-0.5e-3"),
        ("007.25", "7.25"),
        ("1E+20", "1e+20"),
        ("123456789012345678901234567890", "123456789012345678901234567890"),
        ("80i", "80"),
        ("-9223372036854775808i", "-9223372036854775808"),
        ("+007i", "7"),
        ("18446744073709551615u", "18446744073709551615"),
        *[(word, "true") for word in ("t", "T", "true", "True", "TRUE")],
        *[(word, "false") for word in ("f", "F", "false", "False", "FALSE")],
        ('""', '""'),
        ('"a,b=c d"', '"a,b=c d"'),
        ('"\\\\ \\n \\""', '"\\\\ \\\\n \\""'),
        ('"two\nlines"', '"two\\nlines"'),
        ('"é日"', '"é日"'),
    ],
)
def test_values(value: str, json: str) -> None:
    assert fields(f"m a={value}") == {"a": json}


@pytest.mark.parametrize(
    ("value", "reason", "words"),
    [
        ("NaN", "bad_line", "a is NaN, which is no number"),
        ("-inf", "bad_line", "a is -inf, which is no number"),
        ("+Infinity", "bad_line", "no number"),
        ("", "bad_line", "a is empty"),
        ("yes", "bad_line", "a is yes; send a number"),
        ("tRUE", "bad_line", "a is tRUE"),
        ("1.5i", "bad_line", "a is 1.5i"),
        ("0x10", "bad_line", "a is 0x10"),
        ("1_000", "bad_line", "a is 1_000"),
        ("i", "bad_line", "a is i"),
        (".", "bad_line", "a is ."),
        ("e5", "bad_line", "a is e5"),
        ("\u0661", "bad_line", "a is \u0661"),
        ("9223372036854775808i", "out_of_range", "does not fit into 64 bits with a sign"),
        ("-1u", "out_of_range", "does not fit into 64 bits without a sign"),
        ("1" * 5000 + "i", "out_of_range", "does not fit"),
        ("1e309", "out_of_range", "beyond what a double can hold"),
    ],
)
def test_values_that_are_none(value: str, reason: str, words: str) -> None:
    found = fault(f"m a={value}")
    assert found.reason == reason
    assert words in found.error


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (",host=a f=1", "no measurement"),
        ("m", "there is no field"),
        ("m ", "there is no field"),
        ("m,host f=1", "a tag is missing its name or ="),
        ("m,=a f=1", "a tag is missing its name or ="),
        ("m,host= f=1", "the tag host has no value"),
        ("m,host=a=b f=1", "the tag host has an = in its value"),
        ("m,host=a,host=b f=1", "the tag host stands twice"),
        ("m f", "a field is missing its name or = at f"),
        ("m =1", "a field is missing its name or ="),
        ("m f=1,", "a field is missing its name or = at the end of the line"),
        ('m f="a"b', "b behind the text of f"),
        ('m f="a', "the text of f has no closing quote"),
    ],
)
def test_lines_that_are_none(line: str, words: str) -> None:
    found = fault(line)
    assert found.reason == "bad_line"
    assert words in found.error


def test_escapes_are_those_of_the_documentation() -> None:
    found = read_line("a\\,b\\ c\\=d,t\\,\\=\\ =v\\x\\\\,u=\\\\ f\\=\\,\\ =1,g=2")
    assert isinstance(found, InfluxPoint)
    # \= is none in a measurement, \x and a pair of backslashes are none outside of a text.
    assert found.measurement == "a,b c\\=d"
    assert found.tags == {"t,= ": "v\\x\\\\", "u": "\\\\"}
    assert found.fields == {"f=, ": "1", "g": "2"}


def test_blanks_around_are_left_out() -> None:
    assert read_line(" \tm,a=b \t f=1   5 \r") == InfluxPoint("m", {"a": "b"}, {"f": "1"}, "5")


def test_of_a_repeated_field_the_last_counts() -> None:
    assert fields("m a=1,a=2") == {"a": "2"}


@pytest.mark.parametrize("time", ["x", "1.5", "+5", "5 6", "-", "0x5"])
def test_times_that_are_none(time: str) -> None:
    assert fault(f"m a=1 {time}").reason == Reason.BAD_TIME


def test_a_nul_is_refused() -> None:
    assert fault('m a="\0"').reason == Reason.NUL_CHARACTER


@pytest.mark.parametrize(
    ("time", "precision", "json"),
    [
        ("1764475200123456789", "ns", "1764475200.123456789"),
        ("1764475200123456", "us", "1764475200.123456"),
        ("1764475200123", "ms", "1764475200.123"),
        ("1764475200", "s", "1764475200"),
        ("29407920", "m", "1764475200"),
        ("-1", "h", "-3600"),
        ("-1", "n", "-0.000000001"),
        ("-1500", "ms", "-1.500"),
        ("00012", "u", "0.000012"),
        ("-0", "ns", "0.000000000"),
        ("9223372036854775806", "ns", "9223372036.854775806"),
    ],
)
def test_times_are_seconds(time: str, precision: str, json: str) -> None:
    assert seconds(time, PRECISIONS[precision]) == json


@pytest.mark.parametrize(
    ("time", "precision"), [("9223372036854775807", "ns"), ("9223372037", "s"), ("9" * 5000, "ns")]
)
def test_times_that_influxdb_cannot_keep(time: str, precision: str) -> None:
    found = seconds(time, PRECISIONS[precision])
    assert isinstance(found, LineFault)
    assert found.reason == Reason.BAD_TIME


def test_both_ways_of_naming_a_precision_are_known() -> None:
    assert {PRECISIONS[name] for name in ("n", "u", "ms", "s", "m", "h")} == set(Precision)
    assert [PRECISIONS[name].value for name in ("ns", "us", "ms", "s")] == [1, 10**3, 10**6, 10**9]
