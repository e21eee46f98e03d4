"""The meaning of a server's answers."""

import pytest

from app.sinks.influx.answers import unavailable, words


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"error":"database not found: \\"x\\""}', 'database not found: "x"'),
        (b'{"code":"invalid","message":"unable to parse"}', "unable to parse"),
        (b"404 page not found\n", "404 page not found"),
        (b"", ""),
        (b'{"error":3}', '{"error":3}'),
        (b"\xff\x1b[31m", "\ufffd\\x1b[31m"),
    ],
)
def test_words_are_one_line(body: bytes, said: str) -> None:
    assert words(body) == said


@pytest.mark.parametrize(
    ("status", "said", "version", "cure"),
    [
        (401, "unauthorized", 2, "IOT_INFLUX_TOKEN"),
        (403, "no rights", 1, "IOT_INFLUX_USERNAME"),
        (404, "404 page not found", 2, "IOT_INFLUX_VERSION is 1"),
        (404, "404 page not found", 1, "IOT_INFLUX_VERSION is 2"),
        (404, 'database not found: "x"', 1, "IOT_INFLUX_BUCKET"),
        (404, 'bucket "x" not found', 2, "IOT_INFLUX_BUCKET"),
        (302, "over there", 2, "IOT_INFLUX_URL"),
        (503, "later", 2, ""),
    ],
)
def test_each_failure_has_a_cure(status: int, said: str, version: int, cure: str) -> None:
    found = unavailable(status, said.encode(), "", version)
    assert cure in found.cure
    assert bool(cure) == bool(found.cure)
    assert f"answers {status}: {said}" in str(found)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("30", 30.0), ("", 0.0), ("Wed, 21 Oct 2026 07:28:00 GMT", 0.0), ("99999", 300.0), ("²", 0.0)],
)
def test_a_server_may_say_when_to_come_again(header: str, seconds: float) -> None:
    assert unavailable(429, b"", header, 2).retry_after == seconds
