"""The limit of dead letters: what it stops at, and what it lets pass."""

from collections.abc import Iterable

import pytest

from app.core.limit import DeadLetterLimit, Excess
from app.core.model import Reason, Rejected, Stage
from tests.unit.records import Message


def records(count: int, devices: int, first: int = 0) -> list[Message]:
    """Of `devices` devices in turn."""
    return [Message(offset=first + n, key=b"u/d%d" % ((first + n) % devices)) for n in range(count)]


def bad(some: Iterable[Message], reason: Reason = Reason.BAD_JSON, stage: Stage = Stage.DECODE) -> list[Rejected]:
    return [Rejected(record, reason, stage, f"bad at {record.offset}") for record in some]


def all_bad(limit: DeadLetterLimit, count: int, devices: int = 100) -> Excess | None:
    batch = records(count, devices)
    excess = limit.check(batch, bad(batch))
    limit.done(count, count)
    return excess


def test_as_many_in_a_row_as_allowed_pass_and_one_more_does_not() -> None:
    limit = DeadLetterLimit(1000, 1.0, 100_000)
    assert all_bad(limit, 600) is None
    assert all_bad(limit, 400) is None
    assert limit.row == 1000
    excess = all_bad(limit, 1)
    assert excess is not None
    assert (excess.rule, excess.reasons) == ("more than 1000 records in a row", {"bad_json": 1001})
    assert excess.sample.detail == "bad at 0"


def test_a_large_batch_is_stopped_by_itself() -> None:
    assert all_bad(DeadLetterLimit(1000, 1.0, 100_000), 5000) is not None


def test_nine_broken_devices_never_stop_anything_and_ten_do() -> None:
    limit = DeadLetterLimit(1000, 0.5, 10_000)
    assert [all_bad(limit, 5000, devices=9) for _ in range(20)] == [None] * 20
    assert all_bad(DeadLetterLimit(1000, 1.0, 100_000), 5000, devices=11) is not None


def test_records_without_a_key_are_no_device() -> None:
    batch = [Message(offset=n, key=None) for n in range(1001)]
    assert DeadLetterLimit(1000, 1.0, 10**6).check(batch, bad(batch)) is not None


def test_a_good_record_within_the_batch_ends_the_row() -> None:
    limit, batch = DeadLetterLimit(100, 1.0, 10**6), records(150, 50)
    assert limit.check(batch, bad(batch[:75] + batch[76:])) is None
    assert limit.row == 74


def test_a_batch_with_a_good_record_ends_the_row() -> None:
    limit = DeadLetterLimit(100, 1.0, 10**6)
    assert all_bad(limit, 90) is None
    limit.done(5, 4)
    assert all_bad(limit, 90) is None


def test_more_than_the_share_of_a_window_is_too_much_though_never_in_a_row() -> None:
    limit = DeadLetterLimit(1000, 0.5, 10_000)
    batch = records(100, 100)
    passed = 0
    while not (excess := limit.check(batch, bad(batch[:60]))):
        limit.done(100, 60)
        passed += 60
    assert excess.rule == "more than 50% of 10000 records"
    assert passed == 4980


def test_below_the_share_it_goes_on_for_ever() -> None:
    limit = DeadLetterLimit(1000, 0.5, 10_000)
    batch = records(100, 100)
    for _ in range(1000):
        assert limit.check(batch, bad(batch[:40])) is None
        limit.done(100, 40)


def test_no_limits() -> None:
    limit = DeadLetterLimit(0, 1.0, 10)
    assert [all_bad(limit, 5000) for _ in range(5)] == [None] * 5
    assert limit.row == 0


def test_what_the_database_refuses_counts_too_in_small_batches() -> None:
    """They were good until it said no: that must not end their own row."""
    limit = DeadLetterLimit(100, 1.0, 10**6)
    found = []
    for first in range(0, 200, 10):
        batch = records(10, 100, first)
        assert limit.check(batch, []) is None
        found.append(limit.check(batch, bad(batch, Reason.REFUSED_BY_DATABASE, Stage.STORE)))
        limit.done(10, 10)
    assert [one is not None for one in found].index(True) == 10


def test_a_restart_goes_on_counting_where_the_topic_ends() -> None:
    limit = DeadLetterLimit(100, 1.0, 10**6)
    limit.resume((b"u/d%d" % n, "bad_json") for n in range(95))
    excess = all_bad(limit, 10)
    assert excess is not None
    assert excess.reasons == {"bad_json": 101}


@pytest.mark.parametrize("reason", [Reason.UNSUPPORTED_KIND, Reason.INVALID_RULES, Reason.INVALID_COMMAND])
def test_what_people_send_does_not_count(reason: Reason) -> None:
    limit, batch = DeadLetterLimit(10, 0.1, 100), records(1000, 1000)
    assert limit.check(batch, bad(batch, reason)) is None
