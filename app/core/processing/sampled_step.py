"""One step of a device with change of value or rolling windows.

Readings that are dropped by change of value are stepped and averaged like all others; only their rows are left out.
"""

from collections.abc import Iterator
from typing import Protocol

import msgspec

from app.core.alerts.evaluate import evaluate
from app.core.batch.effects import Effect, Statement
from app.core.model.alert_event import AlertEvent
from app.core.model.namespaces import user_of, way_of
from app.core.model.records import Reading
from app.core.model.times import micros
from app.core.rules.field_readers import reportable
from app.core.rules.maintenance import Span
from app.core.rules.mutes import Mute
from app.core.rules.prefilter import Prefilter
from app.core.rules.rule import Rule
from app.core.sampling.change_of_value import Policy, StoredChain
from app.core.sampling.policy import Sampling, WindowReference
from app.core.sampling.rolling_window import RollingWindow, WindowStats, bucket_of
from app.core.state.device_state import DeviceState
from app.core.state.samples import Samples

_FIGURE = {"avg": 1, "min": 2, "max": 3, "count": 0}  # where the figure is in WindowStats
_NONE_YET = {"count": b"0"}  # what a window without readings says; of all others, null


class Rules(Protocol):
    """What `evaluate` needs of a device's rules; a DeviceRules fits."""

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The rules of the device, in their order."""

    @property
    def quiet(self) -> Prefilter:
        """The cheap test for readings that no rule has to look at."""

    @property
    def maintenance(self) -> tuple[Span, ...]:
        """The maintenance windows of the device: event times, microseconds since 1970, from the first up to
        the second.
        """

    @property
    def mutes(self) -> tuple[Mute, ...]:
        """The user's mutes that take in the device."""


def evaluate_sampled(
    state: DeviceState, reading: Reading, sampling: Sampling, rules: Rules, offset: int, at: int = 0
) -> tuple[tuple[AlertEvent, ...], bool]:
    """Step a reading through windows, rules and change of value: the alerts it causes, and whether its row is dropped.
    `at`: when its record came in, as `evaluate` takes it.

    An offset that was stepped before changes nothing: its row is dropped if it is known to have been dropped, else
    stored. A reading newer than everything stepped was not stepped (the topic was made anew, and counts from 0 again):
    its row is stored.
    """
    samples = state.samples
    if offset <= state.applied_offset:
        chain = samples.chain if samples and sampling.policy and reading.time <= state.newest else None
        return (), chain is not None and chain.dropped(offset)
    if samples is None:
        samples = state.samples = Samples()
    late = reading.time < state.latest
    if sampling.windows:
        _count(state, samples, reading, sampling)
    elif samples.windows:
        samples.windows = {}
    shown = with_figures(reading, samples, sampling.asked) if sampling.asked and not late else reading
    before, state.episodes_changed = state.episodes_changed, False
    events = evaluate(state, shown, rules.rules, offset, rules.quiet, rules.maintenance, at, rules.mutes)
    spoke = bool(events) or state.episodes_changed
    state.episodes_changed = state.episodes_changed or before
    return events, _drops(samples, reading, sampling.policy, offset, late, spoke)


def _drops(samples: Samples, reading: Reading, policy: Policy | None, offset: int, late: bool, spoke: bool) -> bool:
    """Whether the row is dropped. A reading that came late is stored, and so is one that caused an alert's event."""
    if policy is None:
        samples.chain = None
        return False
    chain = samples.chain
    if chain is None:
        chain = samples.chain = StoredChain(offset)
    if not late:
        more = chain.must_store(reading, micros(reading.time), policy, must=spoke)
        if not more:
            return True
    chain.stored(offset)
    return False


def _count(state: DeviceState, samples: Samples, reading: Reading, sampling: Sampling) -> None:
    time, windows = micros(reading.time), samples.windows
    for wanted in sampling.windows:
        window = windows.get(wanted.name)
        if window is None:
            window = windows[wanted.name] = RollingWindow()
        number = bucket_of(time, wanted.seconds)
        value = reportable(wanted.read(reading))
        if value is None or isinstance(value, str):
            window.move(number)
        else:
            window.add(number, float(value))
    state.sampled = True
    if len(windows) > len(sampling.windows):  # the configuration has changed
        names = {wanted.name for wanted in sampling.windows}
        samples.windows = {name: window for name, window in windows.items() if name in names}


def with_figures(reading: Reading, samples: Samples, asked: tuple[WindowReference, ...]) -> Reading:
    """The reading as rules see it: each figure of a window is one more field, which no device can send.

    `samples` are those of the device, with a window for each that is `asked` for.
    """
    extra, figures = dict(reading.extra), dict[str, WindowStats | None]()
    for one in asked:
        if one.window not in figures:
            figures[one.window] = samples.windows[one.window].figures()
        found = figures[one.window]
        text = _NONE_YET.get(one.function, b"null") if found is None else b"%r" % found[_FIGURE[one.function]]
        extra[one.key] = msgspec.Raw(text)
    return msgspec.structs.replace(reading, extra=extra)


def average_effects(state: DeviceState, sampling: Sampling, owner: str, device_id: str) -> Iterator[Effect]:
    """The rows of rolling_averages after a batch in which the windows moved: one for each window that has readings."""
    if not state.sampled or state.samples is None:
        return
    for wanted in sampling.landing:
        window = state.samples.windows.get(wanted.name)
        figures = window.figures() if window else None
        if figures is not None:
            ids = (user_of(owner), device_id, wanted.key, wanted.seconds)
            args = (*ids, state.latest, *figures, way_of(owner))
            yield Effect(Statement.UPSERT_AVERAGE, args)
