"""A rule set tried on readings: which alerts a worker would send for them. Nothing else changes."""

from app.backtest.coverage import Coverage
from app.core.alerts.evaluate import evaluate
from app.core.model.alert_event import AlertEvent
from app.core.model.records import Reading
from app.core.processing.sampled_step import evaluate_sampled, with_figures
from app.core.rules.prefilter import Prefilter, prefilter_for
from app.core.rules.rule import Rule, RuleSet, compile_for
from app.core.sampling.compile import sampling_for, with_rules
from app.core.sampling.policy import Sampling
from app.core.schema.schema import Schema
from app.core.state.device_state import DeviceState


class DryRun:
    """Steps readings in the order given, each device with a state of its own that begins empty."""

    def __init__(self, rules: RuleSet, schema: Schema, coverage: Coverage | None = None) -> None:
        """`rules` are compiled for `schema`, which the readings are of; `coverage`, of the same rules, is kept too."""
        self._rules, self._schema, self._asked = rules, schema, with_rules(None, rules, schema)
        self._devices: dict[tuple[str, str], _DryRunDevice] = {}
        self._quiet: dict[tuple[str, ...], Prefilter] = {}  # devices with the same rules share one
        self._coverage = coverage
        self.readings = 0
        self.late = 0  # older than the newest of their device: they move nothing

    def take(self, reading: Reading) -> tuple[AlertEvent, ...]:
        """The alerts that this reading causes, in the order in which they would be sent."""
        name = (reading.user_id, reading.device_id)
        device = self._devices.get(name)
        if device is None:
            device = self._devices[name] = self._device(reading.device_id)
        offset, late = self.readings, reading.time < device.state.latest
        self.readings += 1
        self.late += late
        if device.sampling is not None:
            events = evaluate_sampled(device.state, reading, device.sampling, device, offset)[0]
        else:
            events = evaluate(device.state, reading, device.rules, offset, device.quiet)
        if self._coverage is not None and not late:
            self._cover(self._coverage, device, reading, events)
        return events

    def _cover(
        self, coverage: Coverage, device: "_DryRunDevice", reading: Reading, events: tuple[AlertEvent, ...]
    ) -> None:
        samples = device.state.samples
        if device.sampling is not None and samples is not None:
            reading = with_figures(reading, samples, device.sampling.asked)
        coverage.add_reading(reading, device.rules)
        for event in events:
            coverage.add_event(event)

    @property
    def devices(self) -> int:
        """How many devices there were readings of."""
        return len(self._devices)

    def _device(self, device_id: str) -> "_DryRunDevice":
        rules = compile_for(self._rules, device_id)
        ids = tuple(rule.id for rule in rules)
        if ids not in self._quiet:
            self._quiet[ids] = prefilter_for(rules, self._schema)
        if self._coverage is not None:
            self._coverage.add_device(rules)
        return _DryRunDevice(rules, self._quiet[ids], sampling_for(self._asked, rules, device_id))


class _DryRunDevice:
    __slots__ = ("quiet", "rules", "sampling", "state")

    maintenance = ()
    mutes = ()

    def __init__(self, rules: tuple[Rule, ...], quiet: Prefilter, sampling: Sampling | None) -> None:
        self.rules, self.quiet, self.sampling = rules, quiet, sampling
        self.state = DeviceState()
