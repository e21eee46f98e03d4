"""The meaning of a receiver's answers, invalid answers included."""

import time
from datetime import UTC, datetime
from email.utils import format_datetime

import pytest

from app.sinks.feed.client import LONGEST_WAIT, rejected_of, retry_after
from app.sinks.pushing.answer import SHOWN, BatchTaken, said
from tests.fuzzing import INPUTS, broken

ANSWER = b'{"accepted":1,"rejected":[{"index":0,"reason":"bad","error":"no"},{"index":2,"reason":"rate_limited"}]}'


def test_an_answer_names_what_it_leaves_out() -> None:
    assert rejected_of(ANSWER, 3) == BatchTaken({0: "the receiver rejects it: bad: no"}, [2])
    assert rejected_of(ANSWER, 1) == BatchTaken({0: "the receiver rejects it: bad: no"}, [])


def test_seconds_and_dates_are_waited_for_up_to_an_hour() -> None:
    soon = format_datetime(datetime.fromtimestamp(time.time() + 120, UTC), usegmt=True)
    assert [retry_after(text) for text in ("0", " 7 ", "99999")] == [0, 7, LONGEST_WAIT]
    assert 115 < retry_after(soon) <= 120
    for nonsense in (None, "", "soon", "-5", "1.5", "٣", "Mon, 01 Jan 1990 00:00:00 GMT", "Mon, 99 Foo", "9" * 5000):
        assert retry_after(nonsense) in (0, LONGEST_WAIT)


def test_what_a_receiver_says_is_one_short_line() -> None:
    assert said("no\n\x1b[31m  way\u202e") == "no ?[31m way?"
    assert len(said("x" * 5000)) == SHOWN


@pytest.mark.fuzz
def test_no_answer_makes_it_raise() -> None:
    tokens = [*b'{ } [ ] , : " - 0 99999999999999999999 null true 1e9 "index" "rejected"'.split(), b"\xff", b"\\ud800"]
    found = set()
    for body in broken([ANSWER, b"[]", b'{"rejected":0}', b"ok"], tokens, INPUTS, 1):
        taken = rejected_of(body, 3)
        assert {*taken.rejected, *taken.later} <= {0, 1, 2}
        assert not set(taken.rejected) & set(taken.later)
        found.add(len(taken.rejected) + len(taken.later))
    assert found == {0, 1, 2}


@pytest.mark.fuzz
def test_no_header_makes_it_raise() -> None:
    seeds = [b"Wed, 21 Oct 2099 07:28:00 GMT", b"120", b"Wed, 21 Oct 2015 07:28:00 +0200", b"21 Oct 99"]
    tokens = [*b"- + : , 0 9 99999 GMT Feb 30 -0000 +9999".split(), b" ", b"\x00", b"\xff"]
    waits = [retry_after(text.decode("latin-1")) for text in broken(seeds, tokens, INPUTS, 2)]
    assert all(0 <= wait <= LONGEST_WAIT for wait in waits)
    assert len(set(waits)) > 3
