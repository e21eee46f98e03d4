"""A device whose clock was set back: after some readings in a row its times are believed, so that its rules work again.

A reading older than the newest known says nothing to rules. When a device sends local time, or its clock was corrected,
all its readings would be older for as long as the clock was set back by. So when readings in a row come live, in
order, and about as fast as time passes, their time is taken for the newest. The decision follows from log and state
alone: a replay is silent.

No setback are: history, which a device sends much faster than it was recorded; a message that a gateway or a broker
sends again, which came in before the newest, or says so; a replay, which comes long after it was sent on; and late
readings among readings that are not late.
"""

import msgspec

from app.core.batch.effects import ClockSetback
from app.core.decode.decoder import hashed_id
from app.core.decode.future_times import AHEAD_MAX
from app.core.model.arrival import is_live, moment_of
from app.core.model.headers import REDELIVERED
from app.core.model.records import Reading, Record
from app.core.model.times import micros
from app.core.state.clock_run import ClockBack, ClockRun
from app.core.state.device_state import DeviceState

AHEAD_MS = AHEAD_MAX.total_seconds() * 1000
PACE = 4  # event times move at most so many times as fast as readings come in, or as slowly


def on_time(
    state: DeviceState, reading: Reading, record: Record, at: int, needed: int
) -> tuple[Reading, ClockSetback | None]:
    """A reading as rules see it: no later than just after its arrival, `at` ms since 1970; the row keeps its own time.

    When the reading is the last of `needed` in a row (0: never) that show that the device's clock was set back, the
    state is moved there too. A reading that is late only because its gateway's clock was set back counts as in time.
    """
    time, latest = min(reading.time, moment_of(at) + AHEAD_MAX), state.latest
    found = None
    if record.offset <= state.applied_offset:
        pass  # the record was stepped before
    elif time >= latest:
        _in_order(state, micros(time))
    else:
        run = _run(state, reading, micros(time), record, at) if needed else None
        if run is not None and run.readings >= needed and _paced(run):
            seconds = (micros(latest) - run.first) / 1_000_000
            found = ClockSetback(reading.user_id, reading.device_id, at, seconds, state.way)
            _move(state, micros(latest) - run.first, record.offset)
            state.latest = time
        elif reading.time >= latest:
            time = latest
    return reading if time == reading.time else msgspec.structs.replace(reading, time=time), found


def _in_order(state: DeviceState, time: int) -> None:
    """A reading is in time: the run of late readings ends; from the newest time ever known on, times are new again."""
    back = state.back
    if back is not None:
        back.run, back.anew = None, False
        if time > back.high:
            state.back = None


def _run(state: DeviceState, reading: Reading, time: int, record: Record, at: int) -> ClockRun | None:
    """The run that this late reading continues or begins; None where the reading says nothing about a clock."""
    newest = micros(state.latest)
    came_later = (at + AHEAD_MS) * 1000 >= newest or micros(reading.time) >= newest or time == at * 1000
    again = any(name == REDELIVERED for name, _ in record.headers)
    if not came_later or again or not is_live(record, at) or (state.back is not None and state.back.anew):
        return None
    back = state.back = state.back or ClockBack()
    sequence = None if reading.sequence_id == hashed_id(record.value or b"") else reading.sequence_id
    run = back.run
    if run is None or not _goes_on(run, time, at, sequence):
        run = back.run = ClockRun(1, time, at, time, at, sequence)
    else:
        run.readings, run.last, run.last_at, run.sequence = run.readings + 1, time, at, sequence
    return run


def _goes_on(run: ClockRun, time: int, at: int, sequence: int | None) -> bool:
    counted = sequence is None or run.sequence is None or sequence > run.sequence
    return counted and time >= run.last and at >= run.last_at


def _paced(run: ClockRun) -> bool:
    passed, came = run.last - run.first, (run.last_at - run.first_at) * 1000
    return 0 < passed <= PACE * came and came <= PACE * passed


def _move(state: DeviceState, by: int, offset: int) -> None:
    """Let all durations go on where they were: event times in the state move back, but for those of alerts sent."""
    high = micros(state.latest)
    state.back = ClockBack(None, offset, max(high, state.back.high if state.back else high))
    state.episodes_changed = True
    state.episodes = {name: episode for name, episode in state.episodes.items() if episode.fired}  # others open anew
    for episode in state.episodes.values():
        episode.fired_at = (episode.fired_at or episode.first_seen) - by
        episode.clear_since = None if episode.clear_since is None else episode.clear_since - by
        episode.heard_time -= by if episode.heard_time else 0
    for note in state.notes.values():
        note.rest_until = _before(note.rest_until, by)  # a snooze ends by arrival
        note.fired, note.fired_until = tuple(time - by for time in note.fired), _before(note.fired_until, by)
    state.instants = {}
    if state.samples is not None:
        state.samples.windows = {}
        if state.samples.chain is not None:
            state.samples.chain.time = None  # the next reading is stored


def _before(time: int, by: int) -> int:
    return max(0, time - by)
