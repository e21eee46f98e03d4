"""The limit of dead letters: what it stops at, and what it lets pass."""

from collections.abc import Iterable

import pytest

from app.core.deadletters.limit import DeadLetterLimit, Excess, cause_of
from app.core.model.records import Reason, Rejected, Stage
from tests.unit.records import Message


def records(count: int, users: int, first: int = 0) -> list[Message]:
    """Of a device of each of `users` users in turn."""
    return [of(b"u%d" % (n % users), b"d", n) for n in range(first, first + count)]


def of(user: bytes, device: bytes, offset: int, topic: bytes = b"users/%s/devices/%s/telemetry") -> Message:
    """As a bridge makes it."""
    named = topic.replace(b"%s", user, 1).replace(b"%s", device)
    return Message(offset=offset, key=user + b"/" + device, headers=[("mqtt_topic", named)])


def bad(some: Iterable[Message], reason: Reason = Reason.BAD_JSON, stage: Stage = Stage.DECODE) -> list[Rejected]:
    return [Rejected(record, reason, stage, f"bad at {record.offset}") for record in some]


def all_bad(limit: DeadLetterLimit, count: int, users: int = 100) -> Excess | None:
    batch = records(count, users)
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


def test_nine_broken_users_never_stop_anything_and_eleven_do() -> None:
    limit = DeadLetterLimit(1000, 0.5, 10_000)
    assert [all_bad(limit, 5000, users=9) for _ in range(20)] == [None] * 20
    assert all_bad(DeadLetterLimit(1000, 1.0, 100_000), 5000, users=11) is not None


TOPICS = [
    b"users/%s/devices/%s/telemetry",
    b"users/%s/%s",  # means nothing
    b"users/%s/devices/\x01%s/telemetry",
    b"users/%s",
    b"iot/%s/%s/telemetry",
    b"iot/%s//%s",
    b"anything/%s/%s",  # names nobody
    b"users",
    b"",
]


@pytest.mark.parametrize("topic", TOPICS)
def test_one_account_stops_nothing_with_any_topic_key_and_number_of_devices(topic: bytes) -> None:
    limit = DeadLetterLimit(1000, 0.5, 10_000)
    limit.done(1, 0, ["alice"])
    for first in range(0, 60_000, 500):
        batch = [of(b"mallory", b"d%d" % n, n, topic) for n in range(first, first + 500)]
        assert limit.check(batch, bad(batch)) is None
        limit.done(500, 500)
    assert limit.row <= 100
    assert all_bad(limit, 5000) is not None  # everybody, all the same


def test_a_key_or_payload_makes_nobody_another_user() -> None:
    limit = DeadLetterLimit(100, 1.0, 10**6, users=lambda: ["alice", "bob"])
    batch = [Message(offset=n, key=b"u%d/d" % n, value=b'{"user_id": "u%d"}' % n) for n in range(1000)]
    assert limit.check(batch, bad(batch, Reason.IDENTITY_MISMATCH)) is None
    assert limit.row == 10


def test_who_writes_into_kafka_is_trusted_and_its_keys_name_the_users() -> None:
    limit = DeadLetterLimit(100, 1.0, 10**6, users=lambda: ["alice", "bob"])
    batch = [Message(offset=n, key=b"order-%d" % n, headers=()) for n in range(101)]  # a foreign topic
    assert limit.check(batch[:100], bad(batch[:100])) is None
    assert limit.check(batch[100:], bad(batch[100:])) is not None
    same = [Message(offset=n, key=b"u/d%d" % n, headers=()) for n in range(1000)]
    assert DeadLetterLimit(100, 1.0, 10**6, users=lambda: ["alice", "bob"]).check(same, bad(same)) is None


def of_one_user(count: int) -> list[Message]:
    return [of(b"alice", b"d%d" % n, n) for n in range(count)]


def test_where_there_is_one_user_only_a_device_counts_for_a_tenth() -> None:
    batch = of_one_user(101)
    assert DeadLetterLimit(100, 1.0, 10**6).check(batch, bad(batch)) is not None
    one_device = [of(b"alice", b"d%d" % (n % 9), n) for n in range(5000)]
    assert DeadLetterLimit(100, 0.5, 100).check(one_device, bad(one_device)) is None


@pytest.mark.parametrize("how", ["rules", "readings", "dead letters", "before"])
def test_one_of_two_known_users_stops_nothing(how: str) -> None:
    limit = DeadLetterLimit(100, 0.5, 200, users=lambda: ["bob"] if how == "rules" else [])
    if how == "readings":
        limit.done(1, 0, ["bob", "bob"])
    if how == "dead letters":
        limit.check(one := [of(b"bob", b"d", 0)], bad(one))
    if how == "before":
        limit.resume([cause_of(b"bob/d", (), "bad_json")])
    batch = of_one_user(1000)
    assert limit.check(batch, bad(batch)) is None


def test_what_the_first_user_counted_for_alone_counts_no_more_beside_a_second() -> None:
    limit = DeadLetterLimit(100, 1.0, 10**6)
    batch = of_one_user(100)
    assert limit.check(batch, bad(batch)) is None
    other = [of(b"bob", b"d%d" % n, n) for n in range(1000)]
    assert limit.check(other, bad(other)) is None
    assert limit.row == 20


def test_users_may_count_for_more_by_setting() -> None:
    batch = of_one_user(101)
    known = DeadLetterLimit(100, 1.0, 10**6, 1.0, lambda: ["alice", "bob"])
    assert known.check(batch, bad(batch)) is not None


def test_records_without_a_key_are_nobodys() -> None:
    batch = [Message(offset=n, key=None, headers=()) for n in range(1001)]
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
    """The records were good until the database refused them: that must not end their own row of dead letters."""
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
    limit.resume(cause_of(b"v%d/d" % n, (), "bad_json") for n in range(95))
    excess = all_bad(limit, 10)
    assert excess is not None
    assert excess.reasons == {"bad_json": 101}


def test_a_restart_counts_no_more_of_one_account_and_of_what_people_send() -> None:
    limit = DeadLetterLimit(100, 1.0, 10**6, users=lambda: ["alice", "bob"])
    for _ in range(12):  # each partition has its stretch
        limit.resume(cause_of(b"mallory/d%d" % n, [("mqtt_topic", b"users/mallory/x")], "bad_json") for n in range(99))
        limit.resume(cause_of(b"a%d/d" % n, (), "invalid_command") for n in range(99))
    assert limit.row == 10


@pytest.mark.parametrize("reason", [Reason.UNSUPPORTED_KIND, Reason.INVALID_RULES, Reason.INVALID_COMMAND])
def test_what_people_send_does_not_count(reason: Reason) -> None:
    limit, batch = DeadLetterLimit(10, 0.1, 100), records(1000, 1000)
    assert limit.check(batch, bad(batch, reason)) is None


def test_what_a_person_put_back_counts_for_nothing() -> None:
    """Else a replay of letters that nobody has mended would stop the platform."""
    limit = DeadLetterLimit(1000, 0.5, 4000)
    replayed = records(5000, 100)
    for record in replayed:
        record.headers = [*record.headers, ("replay_count", b"1")]
    assert limit.check(replayed, bad(replayed)) is None
    assert limit.row == 0
    assert all_bad(limit, 1000) is None
    assert limit.check(replayed, bad(replayed)) is None
    assert all_bad(limit, 1) is not None
