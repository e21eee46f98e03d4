"""Every field of a rule and every command, against a slow model: any readings, edits, batches, restarts and replays."""

from dataclasses import dataclass, field
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from app.core.alerts.commands import Command, CommandAction, apply_command
from app.core.alerts.evaluate import evaluate
from app.core.alerts.outputs import active_effects
from app.core.alerts.staleness import mark_stale
from app.core.batch.effects import Statement
from app.core.model.alert_event import AlertEvent
from app.core.model.inactivity_claim import InactivityClaim
from app.core.model.times import micros
from app.core.rules.prefilter import prefilter_for
from app.core.rules.rule import Rule
from app.core.state.device_state import DeviceState, decode, encode
from tests import DEFAULT
from tests.unit.alert_model import Model, SentAlert
from tests.unit.readings import START, reading, rules
from tests.unit.records import Message

HOT = {"key": "temperature", "operator": ">", "threshold": 80}
DAMPED = {**HOT, "clear_threshold": 60}
LOW = {"key": "battery", "operator": "<", "threshold": 10}
CONDITIONS: list[dict[str, Any]] = [HOT, DAMPED, {"all": [DAMPED, LOW]}, {"any": [LOW, DAMPED]}]
TIMING = {
    "for_seconds": st.sampled_from([2, 5]),
    "clear_for_seconds": st.sampled_from([2, 5]),
    "consecutive": st.sampled_from([2, 3]),
    "of": st.sampled_from([[1, 2], [2, 2], [2, 3], [3, 5]]),
    "cooldown_seconds": st.sampled_from([3, 9]),
    "no_data_seconds": st.just(5),
    "escalate": st.just({"after_seconds": 4, "severity": "critical"}),
    "flap": st.fixed_dictionaries({"times": st.sampled_from([1, 2]), "within_seconds": st.sampled_from([4, 10])}),
}
ALONE = {"consecutive", "for_seconds"}  # not beside of
timings = (
    st.sets(st.sampled_from(sorted(TIMING)), max_size=3)
    .map(lambda names: names - ALONE if "of" in names else names)
    .flatmap(lambda names: st.fixed_dictionaries({name: TIMING[name] for name in sorted(names)}))
)
plain = st.builds(
    lambda condition, timing: {**condition, **timing, "id": "r", "message": "m"}, st.sampled_from(CONDITIONS), timings
)
counting = st.builds(
    lambda rule, of: {name: value for name, value in rule.items() if name not in ALONE} | {"of": of},
    plain,
    TIMING["of"],
)
rule_of = st.one_of(plain, counting)
readings = st.tuples(
    st.just("reading"),
    st.sampled_from([0, 1, 1, 1, 2, 5, -2]),  # seconds after the one before
    st.fixed_dictionaries(
        {}, optional={"temperature": st.sampled_from([50.0, 70.0, 90.0, 90.0]), "battery": st.sampled_from([5, 50])}
    ),
)
commands = st.tuples(st.just("command"), st.sampled_from([0, 3, 8]), st.sampled_from(list(CommandAction)))
edits = st.tuples(st.just("edit"), st.booleans(), st.none())
spans = st.lists(st.tuples(st.integers(0, 30), st.integers(1, 15)).map(lambda s: (s[0], s[0] + s[1])), max_size=2)
silences = st.tuples(st.just("silence"), st.sampled_from([0, 0, 1, 3]), st.none())  # claimed so many entries before
logs = st.lists(st.one_of(readings, readings, readings, readings, commands, edits, silences, silences), max_size=40)

dense = st.tuples(
    st.just("reading"),
    st.sampled_from([1, 1, 2]),
    st.fixed_dictionaries({"temperature": st.sampled_from([50.0, 70.0, 90.0]), "battery": st.sampled_from([5, 5, 50])}),
)
dense_logs = st.lists(st.one_of(dense, dense, dense, dense, dense, commands), min_size=8, max_size=25)


def edited(rule: dict[str, Any], number: int, *, meaning: bool) -> dict[str, Any]:
    """The rule with another meaning that no reading shows, or with the same meaning in other words."""
    if not meaning:
        return {**rule, "message": f"m{number}", "devices": ["d", "e"]}
    parts: dict[str, Any] = {word: [{**part, "threshold": part["threshold"] + number / 1000} for part in rule[word]]
             for word in ("all", "any") if word in rule}  # fmt: skip
    return {**rule, **parts} if parts else {**rule, "threshold": rule["threshold"] + number / 1000}


@dataclass
class Device:
    """The app's own state of one device, and what `active_alerts` and the receivers make of what it says."""

    state: DeviceState = field(default_factory=DeviceState)
    rows: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    reported: list[AlertEvent] = field(default_factory=list)
    refused: list[int] = field(default_factory=list)
    maintenance: tuple[tuple[int, int], ...] = ()
    lag: int = 0  # seconds by which the device's clock is behind

    def do(self, offset: int, rule: tuple[Rule, ...], entry: tuple[str, Any, Any], now: int) -> list[SentAlert]:
        """Apply one entry of a log."""
        kind, number, what = entry
        if kind == "reading":
            events = evaluate(
                self.state,
                reading(now, **what),
                rule,
                offset,
                prefilter_for(rule, DEFAULT),
                self.maintenance,
                round(START.timestamp() + now + self.lag) * 1000,
            )
            self.reported += events
            return [_plain(event) for event in events]
        if kind == "silence":
            claim = InactivityClaim("no_data", "u", "d", up_to=offset - number, rule_ids=("r",))
            record = Message(timestamp=(micros(START) + now * 1_000_000) // 1000, offset=offset)
            events = mark_stale(self.state, claim, rule, record, record.timestamp, self.maintenance)
            self.reported += events
            return [_plain(event) for event in events]
        if kind == "command":
            until = micros(START) + (now + self.lag + number) * 1_000_000 if what is CommandAction.SNOOZE else 0
            if apply_command(self.state, Command("u", "d", "r", what, until), rule, offset):
                self.refused.append(offset)
        return []

    def store(self) -> None:
        """The end of a batch: its effects are carried out, its state is written, and the worker starts anew."""
        for effect in active_effects(self.state, "u", "d"):
            if effect.statement is Statement.UPSERT_ACTIVE_ALERT:
                self.rows[effect.args[2]] = effect.args
            elif effect.args[2] in self.rows and self.rows[effect.args[2]][8] <= effect.args[3]:
                del self.rows[effect.args[2]]
        self.state.mark_persisted()
        self.state = decode(encode(self.state))


def _plain(event: AlertEvent) -> SentAlert:
    at, first = ((micros(t) - micros(START)) // 1_000_000 for t in (event.event_time, event.first_seen))
    why = str(event.cause or "") if event.age_seconds is UNSET else f"{event.age_seconds:.0f}"
    words = (str(event.severity), why, event.repeat or 0, event.suppressed is True)
    return (str(event.status), at, first, event.value, *words)


@given(rule_of, logs, st.sets(st.integers(0, 40)), st.sets(st.integers(0, 40)), spans, st.sampled_from([0, 0, 4]))
def test_alerts_are_those_of_the_model(
    given_rule: dict[str, Any],
    log: list[tuple[str, Any, Any]],
    cuts: set[int],
    replays: set[int],
    maintenance: list[tuple[int, int]],
    lag: int,
) -> None:
    _as_the_model(given_rule, log, cuts, replays, maintenance, lag)


@given(st.one_of(counting, plain), dense_logs, st.sets(st.integers(0, 25)), st.sampled_from([0, 4]))
def test_dense_readings_are_those_of_the_model(
    given_rule: dict[str, Any], log: list[tuple[str, Any, Any]], cuts: set[int], lag: int
) -> None:
    _as_the_model(given_rule, log, cuts, set(), [], lag)


def _as_the_model(
    given_rule: dict[str, Any],
    log: list[tuple[str, Any, Any]],
    cuts: set[int],
    replays: set[int],
    maintenance: list[tuple[int, int]],
    lag: int,
) -> None:
    begin = micros(START)
    in_micros = tuple((begin + first * 1_000_000, begin + last * 1_000_000) for first, last in maintenance)
    device, model = Device(maintenance=in_micros, lag=lag), Model(given_rule, maintenance=maintenance, lag=lag)
    rule = rules(given_rule)
    now, latest = 0, -1000
    refused = []
    done: list[tuple[int, tuple[str, Any, Any], int]] = []
    for offset, entry in enumerate(log):
        kind, number, what = entry
        now += number if kind == "reading" else 0
        expected: list[SentAlert] = []
        if kind == "edit":
            given_rule = edited(given_rule, offset, meaning=number)
            rule = rules(given_rule)
            if number:
                model.edit(given_rule)
        elif kind == "command":
            if not model.command(what.value, now + lag + number):
                refused.append(offset)
        elif kind == "silence":
            expected = model.silence(now, offset - number)
        elif now >= latest:
            latest = now
            expected = model.read(now, what, offset)
        assert device.do(offset, rule, entry, now) == expected
        done.append((offset, entry, now))
        if offset in cuts:
            device.store()
            _agrees(device, model)
        if offset in replays and device.state.applied_offset == offset:
            before = encode(device.state)
            assert [device.do(number, rule, one, at) for number, one, at in done] == [[]] * len(done)
            assert encode(device.state) == before
    device.store()
    _agrees(device, model)
    assert sorted(set(device.refused)) == refused
    _each_once(device.reported)


def _agrees(device: Device, model: Model) -> None:
    """active_alerts has the alert that was sent and is not over, and nothing else."""
    if model.alert is None:
        assert device.rows == {}
        return
    (row,) = device.rows.values()
    seconds = (micros(row[8]) - micros(START)) // 1_000_000
    assert (seconds, row[4], row[6]) == (model.alert.first_seen, model.alert.severity, model.last[1])
    assert (micros(row[9]) - micros(START)) // 1_000_000 == model.last[0]


def _each_once(reported: list[AlertEvent]) -> None:
    """One id an episode; FIRING first, RESOLVED last, each event sent once."""
    keys = [(event.alert_id, event.status, event.repeat or 0) for event in reported]
    assert len(set(keys)) == len(keys)
    episodes: dict[str, list[AlertEvent]] = {}
    for event in reported:
        episodes.setdefault(event.alert_id, []).append(event)
    for events in episodes.values():
        reported = [event for event in events if event.status != "RESOLVED"]
        assert reported[0].status == "FIRING"
        assert [event.repeat or 0 for event in reported] == list(range(len(reported)))
        assert events in (reported, [*reported, events[-1]])
        assert len({event.first_seen for event in events}) == 1
