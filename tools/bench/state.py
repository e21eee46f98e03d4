"""`python -m tools.bench.state`: the cost of one reading in rules and device state, in microseconds."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from time import perf_counter

import msgspec

from app.core.alerts.evaluate import evaluate
from app.core.model.records import Reading
from app.core.rules.parse import parse
from app.core.rules.prefilter import any_holds
from app.core.rules.rule import Rule, RuleSet, compile_for
from app.core.state.device_state import DeviceState, decode, encode
from tests import DEFAULT

READINGS = 30_000
REPEATS = 5
START = datetime(2025, 1, 1, tzinfo=UTC)

TWO = [
    {"key": "temperature", "operator": ">", "threshold": 80, "message": "hot"},
    {"key": "battery", "operator": "<", "threshold": 10, "message": "low"},
]
FIVE = [
    *TWO,
    {"key": "pressure", "operator": ">=", "threshold": 9.5, "message": "high"},
    {"key": "door", "operator": "==", "threshold": "open", "message": "open"},
    {"key": "engine.oil.temp", "operator": ">", "threshold": 120, "message": "oil", "clear_threshold": 110},
]
EXTRA = {
    "pressure": msgspec.Raw(b"1.25"),
    "door": msgspec.Raw(b'"closed"'),
    "engine": msgspec.Raw(b'{"rpm":2400,"oil":{"temp":90.5,"level":0.8}}'),
}


def rules(definition: Sequence[object]) -> tuple[Rule, ...]:
    """The compiled rules of a definition, for one user."""
    parsed = parse(msgspec.json.encode(definition), "user-1", DEFAULT)
    assert isinstance(parsed, RuleSet), parsed
    return compile_for(parsed, "device-1")


def readings(changing: bool) -> list[Reading]:
    """Readings in time order; with `changing`, an episode opens or closes on every third reading."""

    def one(i: int) -> Reading:
        hot = changing and (i // 3) % 2
        time = START + timedelta(milliseconds=i)
        return DEFAULT.reading(time, "user-1", "device-1", i, EXTRA, "{}", 90.0 if hot else 21.5, 77)

    return [one(i) for i in range(READINGS)]


def best(run: Callable[[], int], count: int) -> float:
    """The fewest microseconds per item of REPEATS runs; `run` returns a count, so that no work is optimised away."""
    times = []
    for _ in range(REPEATS):
        start = perf_counter()
        run()
        times.append(perf_counter() - start)
    return min(times) / count * 1e6


def stepping(ruleset: tuple[Rule, ...], given: list[Reading]) -> Callable[[], int]:
    """A run that steps one device's state through the readings; returns the number of alerts."""

    def run() -> int:
        state, alerts = DeviceState(), 0
        for offset, reading in enumerate(given):
            alerts += len(evaluate(state, reading, ruleset, offset))
        return alerts

    return run


def evaluating(ruleset: tuple[Rule, ...], given: list[Reading]) -> Callable[[], int]:
    """A run that only evaluates the rules; returns the number of readings that meet a rule."""
    return lambda: sum(any_holds(ruleset, reading) for reading in given)


def coding(state: DeviceState) -> Callable[[], int]:
    """A run that encodes and decodes a state READINGS times."""
    return lambda: sum(decode(encode(state)).applied_offset for _ in range(READINGS))


def main() -> None:
    """Print microseconds a reading for rules, states and their encoding."""
    for name, definition in (("2 rules", TWO), ("5 rules", FIVE)):
        ruleset = rules(definition)
        quiet, busy = readings(changing=False), readings(changing=True)
        assert stepping(ruleset, quiet)() == 0
        alerts = stepping(ruleset, busy)()
        print(f"{name}: evaluate only, nothing holds   {best(evaluating(ruleset, quiet), READINGS):6.2f} us a reading")
        print(f"{name}: step, nothing changes          {best(stepping(ruleset, quiet), READINGS):6.2f} us a reading")
        cost = best(stepping(ruleset, busy), READINGS)
        print(f"{name}: step, {alerts} alerts in {READINGS}    {cost:6.2f} us a reading")
    for name, until in (("no episode", 3), ("one open episode", 4)):
        state = DeviceState()
        for offset, reading in enumerate(readings(changing=True)[:until]):
            evaluate(state, reading, rules(TWO), offset)
        print(f"encode and decode, {name}: {best(coding(state), READINGS):6.2f} us, {len(encode(state))} bytes")


if __name__ == "__main__":
    main()
