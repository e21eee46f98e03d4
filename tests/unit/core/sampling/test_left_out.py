"""What becomes of readings that are no row where change of value is set."""

from collections.abc import Sequence

from msgspec import Struct

from app.core.model.records import Reading
from app.core.sampling.change_of_value import Policy
from app.core.sampling.left_out import Absent, AbsentReading, StoredReadings, judge
from app.core.user_config.rulebook import RuleBook
from tests import DEFAULT
from tests.unit.readings import START, reading

SETTINGS = """{"rules": [], "sampling": {"cov": [
    {"keys": {"temperature": {"absolute": 1}}, "heartbeat_seconds": 300, "devices": ["d*"]}]}}"""
CHANGED = START.timestamp()  # when the settings were


class Record(Struct):
    offset: int
    timestamp: int
    key: bytes | None = None
    value: bytes | None = None
    headers: Sequence[tuple[str, bytes]] = ()


def policies() -> RuleBook:
    book = RuleBook(DEFAULT)
    assert book.apply([("u", SETTINGS)]) == []
    return book


def policy_of(user_id: str, device_id: str) -> Policy | None:
    sampling = policies().watch_for(user_id, device_id).sampling
    return sampling.policy if sampling else None


def log(
    *values: float | None, device: str = "d1", seconds: int = 1, after: float = 3600
) -> list[tuple[Record, Reading]]:
    """A reading a second, at offsets from 0 on; the records came `after` seconds after the settings."""
    return [
        (
            Record(number, int((CHANGED + after) * 1000)),
            reading(number * seconds, device=device, temperature=value),
        )
        for number, value in enumerate(values)
    ]


def judged(readings: list[tuple[Record, Reading]], *absent: int) -> Absent:
    return judge(readings, set(absent), policy_of, {"u": CHANGED}, int(CHANGED * 1000) + 7_200_000)


def test_what_is_within_the_dead_band_of_the_row_before_is_left_out() -> None:
    assert judged(log(20, 20.5, 21, 19, 25, 25.9), 1, 2, 3, 5) == Absent({1, 2, 3, 5}, set())


def test_what_moved_is_lost_and_stays_so_whatever_comes_after() -> None:
    assert judged(log(20, 20.5, 25, 20.2), 1, 2, 3) == Absent({1, 3}, set())


def test_what_is_older_than_the_settings_may_have_been_left_out_by_others() -> None:
    assert judged(log(20, 20.5, 25, after=5), 1, 2) == Absent({1}, {2})
    assert judged(log(20, 20.5, 25, after=-3600), 1, 2) == Absent({1}, {2})


def test_a_heartbeat_is_not_left_out() -> None:
    assert judged(log(20, 20, 20, 20, seconds=100), 1, 2, 3) == Absent({1, 2}, set())


def test_before_the_first_row_nothing_is_known() -> None:
    assert judged(log(20, 30, 40, 40), 0, 1) == Absent({0, 1}, set())


def test_a_device_without_change_of_value_leaves_nothing_out() -> None:
    assert judged(log(20, 20, device="e1"), 0, 1) == Absent(set(), set())


def test_what_is_known_of_devices_is_bounded_and_the_one_seen_longest_ago_is_forgotten() -> None:
    rows, now_ms = StoredReadings(policy_of, {"u": CHANGED}, devices_max=2), int(CHANGED * 1000) + 7_200_000
    moved = {device: log(20, 90, device=device) for device in ("d1", "d2", "d3")}
    for device in ("d1", "d2", "d1", "d3"):
        rows.stored(moved[device][0][1])
    assert [rows.absent(*moved[device][1], now_ms) for device in ("d1", "d3", "d2")] == [
        AbsentReading.LOST,
        AbsentReading.LOST,
        AbsentReading.LEFT_OUT,  # nothing is known of it any more
    ]
