"""A device whose clock was set back: after some readings in a row its rules follow it, and after nothing else."""

from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.alerts.outputs import active_effects
from app.core.batch.effects import Statement
from app.core.batch.output import BatchOutput
from app.core.decode.decoder import DecodeLimits
from app.core.processing.processor import Processor
from app.core.state.device_state import DeviceState, decode, encode
from app.core.user_config.rulebook import RuleBook
from tests import DEFAULT
from tests.unit.presence_world import Given
from tests.unit.readings import rule
from tests.unit.records import NOW, NOW_MS, Message

HOUR = 3600.0
HOT = rule("temperature", ">", 80)
Log = list[Message]


class World:
    """A device, its log and a worker."""

    def __init__(
        self, *rules: dict[str, object], needed: int = 5, sampling: object = None, lenient: bool = False
    ) -> None:
        self.book = RuleBook(DEFAULT)
        document: dict[str, object] = {"rules": rules or [HOT]}
        document |= {"sampling": sampling} if sampling else {}
        assert not self.book.apply([(user, msgspec.json.encode(document).decode()) for user in ("u", "n")])
        self.needed, self.lenient = needed, lenient
        self.states: dict[bytes, bytes] = {}
        self.log: Log = []
        self.works: list[BatchOutput] = []
        self.epoch = self.sequence = 0

    def reads(
        self,
        came: float,
        behind: float,
        temperature: float = 20,
        *,
        sequence: int | None = -1,
        stamp: float | None = None,
        headers: Sequence[tuple[str, bytes]] = (),
    ) -> None:
        """A reading that came in at that second, from a clock that is so many seconds behind."""
        self.sequence += 1
        body: dict[str, Any] = {"time": NOW + timedelta(seconds=came - behind), "temperature": temperature}
        if sequence is not None:
            body["sequence_id"] = self.sequence if sequence == -1 else sequence
        at = NOW_MS + round(came * 1000)
        topic = b"iot/n/s/telemetry" if self.lenient else b"users/u/devices/d/telemetry"
        known = [("mqtt_topic", topic), ("kind", b"telemetry"), ("ingest_ms", b"%d" % at), *headers]
        logged = at if stamp is None else NOW_MS + round(stamp * 1000)
        self.log.append(Message(msgspec.json.encode(body), known, b"", logged, len(self.log)))

    def goes_on(self, came: float, count: int, behind: float, temperature: float = 20, **more: Any) -> float:
        """So many readings, one a second."""
        for number in range(count):
            self.reads(came + number, behind, temperature, **more)
        return came + count

    def work(self, cuts: Sequence[int] = (), start: int = 0, now: float = 1e9) -> list[tuple[str, float]]:
        """Process the log in batches, each by a worker that has just started; what is sent: status, seconds."""
        self.works = []
        for begin, end in zip([start, *cuts], [*cuts, len(self.log)], strict=True):
            if begin == end:
                continue
            processor = Processor(
                DecodeLimits(), DEFAULT, self.book, lambda _, key: self.states.get(key), set_back_after=self.needed
            )
            self.epoch += 1
            given = Given(self.log[begin:end], end, self.epoch)
            self.works.append(processor(given, NOW.timestamp() + now))  # type: ignore[arg-type]
            self.states |= self.works[-1].states
        events = [event for work in self.works for event in work.events]
        return [(str(event.status), (event.event_time - NOW).total_seconds()) for event in events]

    @property
    def set_back(self) -> list[float]:
        return [round(found.seconds, 3) for work in self.works for found in work.set_back]

    @property
    def state(self) -> DeviceState:
        return decode(self.states[b"n/s" if self.lenient else b"u/d"])


def test_the_fifth_reading_in_a_row_shows_it() -> None:
    world = World()
    came = world.goes_on(0, 10, 0)
    world.goes_on(came, 8, HOUR, 95)
    assert world.work() == [("FIRING", 14 - HOUR)]
    assert world.set_back == [HOUR - 1]  # from the newest time to the first of the run
    (found,) = world.works[0].set_back
    assert (found.user_id, found.device_id, found.at) == ("u", "d", NOW_MS + 14_000)
    (effect,) = [one for one in world.works[0].alert_effects if one.statement is Statement.UPSERT_SET_BACK]
    assert effect.args == ("u/d", "u", "d", NOW + timedelta(seconds=14), HOUR - 1, "")
    assert len(world.works[0].rows) == 18


@pytest.mark.parametrize(
    ("needed", "reported"), [(0, []), (1, [("FIRING", 11 - HOUR)]), (2, [("FIRING", 11 - HOUR)]), (9, [])]
)
def test_after_how_many_is_a_setting(needed: int, reported: list[tuple[str, float]]) -> None:
    world = World(needed=needed)
    world.goes_on(world.goes_on(0, 10, 0), 2, HOUR, 95)
    assert world.work() == reported


@pytest.mark.parametrize("lenient", [False, True])
@pytest.mark.parametrize("needed", [3, 5])
def test_however_the_log_is_cut_and_again_it_is_silent(needed: int, lenient: bool) -> None:
    def world() -> World:
        one = World(needed=needed, lenient=lenient)
        more: Any = {"sequence": None} if lenient else {}
        came = one.goes_on(one.goes_on(0, 4, 0, **more), 7, HOUR, 95, **more)
        came = one.goes_on(one.goes_on(came, 3, 0, **more), 7, HOUR, 96, **more)
        one.goes_on(came, 2, HOUR, **more)
        return one

    whole = world()
    reported = whole.work()
    assert [status for status, _ in reported] == ["FIRING", "RESOLVED", "FIRING", "RESOLVED"]
    assert len(whole.set_back) == 2
    length = len(whole.log)
    for cut in range(length + 1):
        for again in range(0, cut + 1, 3):
            one = world()
            assert one.work([cut]) == reported, cut
            assert one.states == whole.states
            assert one.work(start=again) == []
            assert one.set_back == []
    assert [len(work.rows) for work in whole.works] == [length]


def test_what_is_kept_is_little_and_goes_away() -> None:
    world = World()
    came = world.goes_on(0, 10, 0)
    world.work()
    rest = len(world.states[b"u/d"])
    world.goes_on(came, 3, HOUR)
    world.work(start=10)
    assert world.state.back is not None
    assert world.state.back.run is not None
    assert len(world.states[b"u/d"]) < rest + 60
    world.reads(13, 0)
    world.work(start=13)
    assert world.state.back is None
    assert len(world.states[b"u/d"]) == rest
    came = world.goes_on(14, 6, HOUR)
    world.work(start=14)
    assert world.state.back is not None
    assert world.state.latest == NOW + timedelta(seconds=19 - HOUR)
    world.reads(came + HOUR, HOUR - 1)
    world.work(start=20)
    assert world.state.back is None


def no_set_back() -> Iterator[tuple[str, World]]:
    """What a device sends whose clock was not set back: hot readings that must notify nobody."""
    world = World()
    came = world.goes_on(0, 3, 0)
    for number in range(600):
        world.reads(came + number / 100, HOUR - number, 95)
    yield "ten minutes of history in six seconds", world

    world = World()
    came = world.goes_on(0, 3, 0)
    for number in range(100):
        world.reads(came, HOUR - number, 95)
    yield "history at once", world

    world = World()
    came = world.goes_on(0, 3, 0)
    for number in range(50):
        world.reads(came + number, HOUR, 95)
        world.reads(came + number + 0.5, 0) if number % 4 == 3 else None
    yield "late ones among others", world

    world = World()
    came = world.goes_on(0, 3, 0)
    for number in range(50):
        world.reads(came + number, HOUR + 2 * number, 95)
    yield "newest first", world

    world = World()
    world.goes_on(world.goes_on(0, 3, 0), 50, HOUR, 95, sequence=7)
    yield "the same sequence", world

    world = World()
    world.goes_on(world.goes_on(0, 3, 0), 50, HOUR, 95, stamp=HOUR)
    yield "a replay: sent on long before it came into the log", world

    world = World()
    world.goes_on(world.goes_on(0, 3, 0), 50, HOUR, 95, headers=[("replay_count", b"1")])
    yield "a replay that says so", world

    world = World()
    world.goes_on(0, 50, 0, 20)
    world.log += [msgspec.structs.replace(one, offset=one.offset + 50) for one in world.log[:49]]
    hot = [(one, one.value.replace(b"20", b"95", 1) if one.value else b"") for one in world.log[50:]]
    world.log[50:] = [msgspec.structs.replace(one, value=value) for one, value in hot]
    yield "what a writer writes twice: it came in before the newest", world

    world = World()
    world.goes_on(world.goes_on(0, 3, 0), 50, HOUR, 95, headers=[("mqtt_dup", b"1")])
    yield "what a broker sends again", world

    world = World()
    came = world.goes_on(0, 3, 0)
    for number in range(50):
        world.reads(came + number, HOUR + number, 95)
    yield "a clock that stands still", world


@pytest.mark.parametrize(("what", "world"), list(no_set_back()), ids=lambda one: one if isinstance(one, str) else "")
def test_what_is_no_set_back(what: str, world: World) -> None:
    assert world.work() == [], what
    assert world.set_back == []


def test_a_batch_of_a_gateway_is_believed_once_it_keeps_pace() -> None:
    """Ten readings at once, every ten seconds: history looks the same until the next ten have come."""
    world = World()
    world.goes_on(0, 10, 0)
    for batch in range(3):
        for number in range(10):
            world.reads(20 + batch * 10, HOUR - number, 95)
    reported = world.work()
    assert [status for status, _ in reported] == ["FIRING"]
    assert len(world.set_back) == 1


def test_a_gateway_whose_clock_is_set_back_makes_no_device_late() -> None:
    """The devices' own clocks are right, so they are ahead of when their readings came in."""
    world = World(rule("temperature", ">", 80, for_seconds=3))
    came = world.goes_on(0, 5, 0)
    for number in range(12):
        world.reads(came + number - 200, -200 + 1, 95)
    reported = world.work()
    assert [status for status, _ in reported] == ["FIRING"]
    world = World()
    came = world.goes_on(0, 5, 0)
    world.reads(came - HOUR, -HOUR, 95)
    assert [status for status, _ in world.work()] == []  # too far ahead of its arrival: a dead letter
    world.reads(came - 200, -200, 95)
    assert [status for status, _ in world.work(start=6)] == ["FIRING"]  # at once, and at the newest time


def test_alerts_go_on_where_they_were() -> None:
    """Open alerts stay open, are sent again in time, and resolve after as long as the rule says."""
    slow = rule("temperature", ">", 80, clear_for_seconds=8, id="slow")
    waits = rule("temperature", ">", 80, for_seconds=6, id="waits")
    rests = rule("temperature", ">", 80, cooldown_seconds=30, id="rests")
    world = World(slow, waits, rests)
    came = world.goes_on(0, 3, 0, 95)  # slow and rests fire
    came = world.goes_on(came, 2, 0, 20)  # slow begins to clear, rests rests
    world.work()
    begun = world.state.episodes["slow"].first_seen
    came = world.goes_on(came, 5, HOUR, 20)  # the clock is set back
    reported = world.work(start=5)
    assert world.state.episodes["slow"].first_seen == begun
    assert reported == []
    world.goes_on(came, 3, HOUR, 20)
    assert [status for status, _ in world.work(start=10)] == ["RESOLVED"]
    world.goes_on(13, 8, HOUR, 95)
    reported = world.work(start=13)
    rules = [event.rule_id for work in world.works for event in work.events]
    assert (rules, [status for status, _ in reported]) == (["slow", "waits"], ["FIRING", "FIRING"])
    world.goes_on(21, 15, HOUR, 95)
    world.work(start=21)
    assert [event.rule_id for work in world.works for event in work.events] == ["rests"]


def test_the_row_of_an_open_alert_is_not_older_than_before() -> None:
    """What is older than the row in active_alerts changes nothing there."""
    world = World()
    world.goes_on(world.goes_on(0, 3, 0, 95), 8, HOUR, 96)
    world.work([3])
    before, after = (
        [one for one in work.alert_effects if one.statement is Statement.UPSERT_ACTIVE_ALERT] for work in world.works
    )
    assert before[-1].args[9] <= after[-1].args[9]
    assert after[-1].args[6] == 96
    assert list(active_effects(DeviceState(), "u", "d")) == []


def test_an_alert_at_the_very_time_of_an_earlier_one_is_another() -> None:
    """A clock that is set back again and again passes the same seconds again."""
    world, hour = World(), HOUR
    for turn in range(3):
        came = turn * hour
        came = world.goes_on(came, 5, turn * hour, 20)
        world.goes_on(came, 1, turn * hour, 95)
        world.goes_on(came + 1, 2, turn * hour, 20)
    reported = world.work()
    assert reported == [("FIRING", 5.0), ("RESOLVED", 6.0)] * 3
    assert len({event.alert_id for work in world.works for event in work.events}) == 3


SAMPLING = {
    "cov": [{"keys": {"temperature": {"absolute": 25}}, "heartbeat_seconds": 4}],
    "averages": [{"key": "temperature", "seconds": 6}],
}


def test_windows_and_change_of_value_follow() -> None:
    world = World(rule("avg(temperature,6s)", ">", 75), sampling=SAMPLING)
    world.goes_on(world.goes_on(0, 10, 0), 12, HOUR, 95)
    reported = world.work()
    assert [status for status, _ in reported] == ["FIRING"]
    rows = [(row[0] - NOW).total_seconds() for row in world.works[0].rows]
    back = [second for second in rows if second < 0]
    assert back == [10 - HOUR, 11 - HOUR, 12 - HOUR, 13 - HOUR, 14 - HOUR, 18 - HOUR]  # late readings, then every 4 s
    dropped = world.works[0].dropped
    world.work()
    assert world.works[0].dropped == dropped  # what was left out is left out again
    assert world.works[0].events == []


@given(
    st.lists(
        st.tuples(st.sampled_from([0.0, 0.1, 1.0, 5.0]), st.sampled_from([0.0, 10.0, HOUR]), st.sampled_from([20, 95])),
        min_size=1,
        max_size=30,
    ),
    st.lists(st.integers(0, 30), max_size=4),
)
def test_any_clock_is_followed_alike_however_the_log_is_cut(
    steps: list[tuple[float, float, int]], cuts: list[int]
) -> None:
    def world() -> World:
        one, came = World(rule("temperature", ">", 80, for_seconds=1, clear_for_seconds=1), needed=3), 0.0
        for passed, behind, temperature in steps:
            came += passed
            one.reads(came, behind, temperature)
        return one

    whole, parts = world(), world()
    reported = whole.work()
    assert parts.work(sorted(min(cut, len(parts.log)) for cut in cuts)) == reported
    assert parts.states[b"u/d"] == whole.states[b"u/d"]
    assert encode(decode(whole.states[b"u/d"])) == whole.states[b"u/d"]
    ids = [(event.alert_id, event.status, event.repeat) for work in whole.works for event in work.events]
    assert len(ids) == len(set(ids))
