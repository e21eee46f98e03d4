"""Any readings, batches, crashes and replays: the alerts are as a naive model sends them that never crashes.

Two ways to persist are tested. Writing every state that is `dirty` keeps the whole promise. Writing only states with
`episodes_changed` keeps it for devices whose readings come in time order and rules that stay as they are; the last
tests show what is lost otherwise.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.alerts.evaluate import evaluate
from app.core.model.alert_event import AlertEvent
from app.core.model.records import Reading
from app.core.rules.rule import compile_for
from app.core.state.device_state import DeviceState, decode, encode
from tests.unit.readings import reading, rule, ruleset

RULES = ruleset(
    rule("temperature", ">", 80, clear_threshold=60),
    rule("battery", "<=", 10),
    rule("engine.mode", "==", "fault", devices=["d1"]),
)
Log = list[Reading]
Persist = Callable[[DeviceState], bool]


def every_dirty_state(state: DeviceState) -> bool:
    return state.dirty


def only_changed_episodes(state: DeviceState) -> bool:
    return state.episodes_changed


def model(log: Log) -> list[tuple[Any, ...]]:
    """(device, rule, status, first_seen, event_time, value) as the promise says; shares no code with the app."""
    latest: dict[str, Any] = {}
    open_since: dict[tuple[str, str], Any] = {}
    alerts = []
    for one in log:
        device = one.device_id
        if device in latest and one.time < latest[device]:
            continue
        latest[device] = one.time
        engine = msgspec.json.decode(one.extra["engine"]) if "engine" in one.extra else {}
        mode = engine.get("mode") if isinstance(engine, dict) and device == "d1" else None
        t, b = one.temperature, one.battery
        for name, value, starts, goes_on in (
            ("temperature", t, t is not None and t > 80, t is not None and t > 60),
            ("battery", b, b is not None and b <= 10, b is not None and b <= 10),
            ("engine.mode", mode if isinstance(mode, str) else None, mode == "fault", mode == "fault"),
        ):
            since = open_since.get((device, name))
            if value is None:
                continue
            if since is None and starts:
                open_since[device, name] = one.time
                alerts.append((device, name, "FIRING", one.time, one.time, value))
            elif since is not None and not goes_on:
                del open_since[device, name]
                alerts.append((device, name, "RESOLVED", since, one.time, value))
    return alerts


@dataclass
class World:
    """What outlives a worker: the log, the committed offset, the persisted states and the alerts sent."""

    log: Log
    persist: Persist
    committed: int = 0
    persisted: dict[str, bytes] = field(default_factory=dict)
    sent: list[AlertEvent] = field(default_factory=list)
    memory: dict[str, DeviceState] = field(default_factory=dict)  # of the worker: gone with it

    def batch(self, size: int, effects: int | None) -> None:
        """Take a batch and do the first `effects` of: each send, each persist, the commit; then crash. None: all."""
        first, self.committed_next = self.committed, min(self.committed + size, len(self.log))
        events: list[AlertEvent] = []
        touched: dict[str, DeviceState] = {}
        for offset in range(first, self.committed_next):
            one = self.log[offset]
            state = touched.setdefault(one.device_id, self.state_of(one.device_id))
            events += evaluate(state, one, compile_for(RULES, one.device_id), offset)
        todo: list[Callable[[], None]] = [lambda e=event: self.sent.append(e) for event in events]  # type: ignore[misc]
        todo += [lambda d=device, s=state: self.put(d, s)  # type: ignore[misc]
                 for device, state in touched.items() if self.persist(state)]  # fmt: skip
        todo.append(self.commit)
        for act in todo[:effects]:
            act()
        if effects is not None and effects < len(todo):
            self.memory.clear()

    def state_of(self, device: str) -> DeviceState:
        if device not in self.memory:
            data = self.persisted.get(device)
            self.memory[device] = decode(data) if data is not None else DeviceState()
        return self.memory[device]

    def put(self, device: str, state: DeviceState) -> None:
        self.persisted[device] = encode(state)
        state.mark_persisted()

    def commit(self) -> None:
        self.committed = self.committed_next

    def finish(self) -> None:
        while self.committed < len(self.log):
            self.batch(3, None)


def first_of_each(events: list[AlertEvent]) -> list[AlertEvent]:
    """What a receiver keeps that drops every repeat of (alert_id, status)."""
    kept: dict[tuple[str, str], AlertEvent] = {}
    for event in events:
        kept.setdefault((event.alert_id, event.status), event)
    return list(kept.values())


def by_device(alerts: list[tuple[Any, ...]]) -> dict[str, list[tuple[Any, ...]]]:
    return {device: [alert for alert in alerts if alert[0] == device] for device in ("d1", "d2")}


def plain(events: list[AlertEvent]) -> list[tuple[Any, ...]]:
    return [(e.device_id, e.rule_id, str(e.status), e.first_seen, e.event_time, e.value) for e in events]


def check(world: World) -> None:
    """The kept alerts are the model's, and each episode has one id, one FIRING and at most one RESOLVED, in order."""
    kept = first_of_each(world.sent)
    assert by_device(plain(kept)) == by_device(model(world.log))
    statuses: dict[str, list[str]] = {}
    for event in kept:
        statuses.setdefault(event.alert_id, []).append(event.status)
    assert all(seen in (["FIRING"], ["FIRING", "RESOLVED"]) for seen in statuses.values())


def logs(times: st.SearchStrategy[list[int]]) -> st.SearchStrategy[Log]:
    fields: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
        {"device": st.sampled_from(["d1", "d2"])},
        optional={
            "temperature": st.sampled_from([50.0, 60.0, 70.0, 80.0, 90.0, None]),
            "battery": st.sampled_from([5, 10, 50, None]),
            "engine": st.sampled_from([{"mode": "fault"}, {"mode": "ok"}, {"mode": 1}, {}, 7]),
        },
    )
    return times.flatmap(
        lambda ts: st.lists(fields, min_size=len(ts), max_size=len(ts)).map(
            lambda fs: [reading(t, **f) for t, f in zip(ts, fs, strict=True)]
        )
    )


any_times = st.lists(st.integers(0, 8), max_size=40)
in_order = any_times.map(sorted)
batches = st.tuples(st.just("batch"), st.integers(1, 9), st.none() | st.integers(0, 8))
rewinds = st.tuples(st.just("rewind"), st.integers(0, 40), st.none())
restores = st.tuples(st.just("restore"), st.integers(0, 40), st.none())
restarts = st.tuples(st.just("restart"), st.just(0), st.none())


def drive(world: World, plan: list[tuple[str, int, int | None]]) -> None:
    """batch: see World.batch. rewind: offsets go back. restart: memory is lost. restore: all of an earlier moment."""
    saved = [(0, dict(world.persisted))]
    for what, number, effects in plan:
        if what == "batch":
            world.batch(number, effects)
            saved.append((world.committed, dict(world.persisted)))
            continue
        if what == "rewind":
            world.committed = max(0, world.committed - number)
        if what == "restore":
            world.committed, world.persisted = saved[number % len(saved)][0], dict(saved[number % len(saved)][1])
        world.memory.clear()
    world.finish()


@given(logs(any_times), st.lists(batches | rewinds | restores | restarts, max_size=12))
def test_every_dirty_state_persisted_keeps_the_promise(log: Log, plan: list[tuple[str, int, int | None]]) -> None:
    world = World(log, every_dirty_state)
    drive(world, plan)
    check(world)


@given(logs(in_order), st.lists(batches | rewinds | restores | restarts, max_size=12))
def test_only_changed_episodes_persisted_keeps_it_for_readings_in_order(
    log: Log, plan: list[tuple[str, int, int | None]]
) -> None:
    world = World(log, only_changed_episodes)
    drive(world, plan)
    check(world)


@given(logs(any_times), st.lists(st.integers(1, 9), max_size=12))
@pytest.mark.parametrize("persist", [every_dirty_state, only_changed_episodes])
def test_batches_may_be_cut_anywhere_while_the_worker_lives(persist: Persist, log: Log, sizes: list[int]) -> None:
    world = World(log, persist)
    drive(world, [("batch", size, None) for size in sizes])
    check(world)


@given(logs(any_times), st.integers(0, 40))
def test_a_replay_is_silent_and_changes_nothing(log: Log, back: int) -> None:
    world = World(log, every_dirty_state)
    world.finish()
    sent, persisted = list(world.sent), dict(world.persisted)
    drive(world, [("rewind", back, None)])
    assert world.sent == sent
    assert world.persisted == persisted


LATE = [reading(0, device="d1", temperature=70.0), reading(10, device="d1", temperature=70.0),
        reading(5, device="d1", temperature=90.0)]  # fmt: skip


@pytest.mark.parametrize(("persist", "alerts"), [(every_dirty_state, 0), (only_changed_episodes, 1)])
def test_after_a_restart_a_late_reading_needs_the_persisted_time(persist: Persist, alerts: int) -> None:
    """Persisting changed episodes alone, a restart forgets the latest time, and a late reading fires."""
    world = World(LATE, persist)
    drive(world, [("batch", 2, None), ("restart", 0, None)])
    assert model(LATE) == []
    assert len(world.sent) == alerts


def test_persisting_only_changed_episodes_can_leave_a_firing_unresolved() -> None:
    """A crash between send and persist: the replay judges a late reading the first run did not, another id fires."""
    log = [*LATE, reading(11, device="d1", temperature=90.0), reading(12, device="d1", temperature=50.0)]
    outcomes = {}
    for persist in (every_dirty_state, only_changed_episodes):
        world = World(log, persist)
        drive(world, [("batch", 2, None), ("batch", 2, 1)])
        kept = first_of_each(world.sent)
        outcomes[persist] = [[e.alert_id for e in kept if e.status == status] for status in ("FIRING", "RESOLVED")]
    firing, resolved = outcomes[every_dirty_state]
    assert firing == resolved
    firing, resolved = outcomes[only_changed_episodes]
    assert len(firing) == 2
    assert len(resolved) == 1


@pytest.mark.parametrize(("persist", "alerts"), [(every_dirty_state, 0), (only_changed_episodes, 1)])
def test_a_replay_under_new_rules_is_silent_only_when_every_dirty_state_is_persisted(
    persist: Persist, alerts: int
) -> None:
    """A device without an episode has no persisted state in the other mode, and its history meets the new rule."""
    log = [reading(0, device="d1", humidity=99), reading(1, device="d1", humidity=20)]
    world = World(log, persist)
    world.finish()
    world.memory.clear()
    state = world.state_of("d1")
    assert len(evaluate(state, log[0], compile_for(ruleset(rule("humidity")), "d1"), 0)) == alerts
