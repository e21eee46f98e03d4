"""Which letters an option leaves in, and which name a selection has."""

import pytest

from app.core.model.records import Reason
from app.deadletters.selection import Chooser, Selection
from app.kafka.reading.offset_ranges import OffsetRange
from tests.unit.deadletters.letters import held, letter, plain
from tests.unit.records import NOW_MS


@pytest.mark.parametrize(
    ("selection", "fits"),
    [
        (Selection(), True),
        (Selection(reasons=("bad_time", "bad_json")), True),
        (Selection(reasons=("bad_time",)), False),
        (Selection(stages=("decode",)), True),
        (Selection(stages=("store",)), False),
        (Selection(topics=("users/u1/*",)), True),
        (Selection(topics=("users/u2/*", "*/d2/*")), False),
        (Selection(user="u1"), True),
        (Selection(user="u"), False),
        (Selection(devices=("d?",)), True),
        (Selection(devices=("e*",)), False),
        (Selection(partitions=(3, 4)), True),
        (Selection(partitions=(4,)), False),
        (Selection(offsets=(OffsetRange(None, 17, 17),)), True),
        (Selection(offsets=(OffsetRange(3, 0, 16), OffsetRange(4, 0, None))), False),
        (Selection(reasons=("bad_json",), user="u2"), False),
    ],
)
def test_every_option_must_fit(selection: Selection, fits: bool) -> None:
    assert Chooser(selection).takes(letter()) is fits


def test_times_are_inclusive() -> None:
    for since, until, fits in [(0, 0, True), (1, None, False), (None, -1, False), (-1, 1, True), (None, None, True)]:
        times = [None if at is None else NOW_MS + at for at in (since, until)]
        assert Chooser(Selection(), *times).takes(letter()) is fits


def test_whose_a_letter_is() -> None:
    named = letter(held(user="alice", device="truck-1"))
    assert (named.user_id, named.device_id) == ("alice", "truck-1")
    for fields, ids in [
        ({"original_topic": "iot/n1/s1/telemetry"}, ("n1", "s1")),
        ({"original_topic": "users/bob/no/such/topic"}, ("bob", "")),
        ({"original_topic": "in", "payload": b'{"user_id":"u9","device_id":"d9"}'}, ("u9", "d9")),
        ({"original_topic": "in", "payload": b"\xff"}, ("", "")),
    ]:
        found = letter(plain(**fields))  # type: ignore[arg-type]  # payload is bytes
        assert (found.user_id, found.device_id) == ids
    assert letter(plain()).reason == "other"


def test_a_selection_has_a_name_of_its_own_whatever_the_order() -> None:
    one = Selection(reasons=("a", "b"), user="u")
    assert one.digest() == Selection(reasons=("b", "a"), user="u").digest() != Selection(reasons=("a",)).digest()
    assert one.digest("x") != one.digest("y")
    assert Selection().is_all
    assert not one.is_all


def test_the_offsets_of_a_partition() -> None:
    asked = Selection(offsets=(OffsetRange(3, 5, 9), OffsetRange(None, 7, 20)))
    assert (asked.first(3), asked.end(3, 100), asked.end(3, 12)) == (5, 21, 12)
    assert (asked.first(1), asked.end(1, 100), asked.wants_partition(1)) == (7, 21, True)
    only = Selection(offsets=(OffsetRange(3, 5, None),))
    assert (only.wants_partition(1), only.wants_partition(3), only.end(3, 100)) == (False, True, 100)
    assert Selection(partitions=(1,)).wants_partition(2) is False


def test_every_reason_can_be_asked_for() -> None:
    for reason in Reason:
        assert Chooser(Selection(reasons=(reason.value,))).takes(letter(held(reason=reason)))
