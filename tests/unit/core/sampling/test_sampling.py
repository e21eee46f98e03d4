"""`sampling` of a configuration: what is refused, figures of windows as keys of rules, and what a batch makes of it."""

from datetime import timedelta
from typing import Any

import msgspec
import pytest

from app.core.batch.books import books
from app.core.batch.effects import Statement, WriteResult
from app.core.batch.output import BatchOutput
from app.core.rules.rule import InvalidRules
from app.core.sampling.checks import AVERAGES_MAX
from app.core.sampling.compile import WINDOWS_MAX
from app.core.state.device_state import decode
from app.core.user_config.document import Config, parse_config
from tests import DEFAULT
from tests.unit.core.processing.test_processor import HOT, NOW, START, Subject, other, telemetry
from tests.unit.readings import rule

COV = {"keys": {"temperature": {"absolute": 1}}, "heartbeat_seconds": 300}
AVERAGE = {"key": "temperature", "seconds": 60}


def parsed(sampling: object, **more: object) -> Config | InvalidRules:
    return parse_config(msgspec.json.encode({"sampling": sampling, **more}), "u", DEFAULT)


@pytest.mark.parametrize(
    ("sampling", "words"),
    [
        (None, "sampling: null is not an object such as"),
        ([COV], "sampling: [{"),
        ({"dedupe": []}, "sampling.dedupe: unknown field; known are cov, averages"),
        ({"cov": COV}, "is not a list of at most 100 objects such as"),
        ({"cov": [5]}, "sampling.cov[0]: 5 is not an object such as"),
        ({"cov": [{**COV, "band": 1}]}, "sampling.cov[0].band: unknown field; known are keys, heartbeat_seconds"),
        ({"cov": [{"keys": COV["keys"]}]}, "sampling.cov[0].heartbeat_seconds: null is not a whole number of seconds"),
        ({"cov": [{**COV, "heartbeat_seconds": 0}]}, "0 is not a whole number of seconds from 1 to 604800"),
        ({"cov": [{**COV, "heartbeat_seconds": True}]}, "true is not a whole number"),
        ({"cov": [{**COV, "keys": {}}]}, "sampling.cov[0].keys: {} is not an object of 1 to 50 keys"),
        ({"cov": [{**COV, "keys": {"t": 5}}]}, 'cov[0].keys.t: 5 is not a dead-band such as {"absolute": 0.5}'),
        ({"cov": [{**COV, "keys": {"t": {}}}]}, "{} is not a dead-band"),
        ({"cov": [{**COV, "keys": {"t": {"percent": -1}}}]}, "keys.t.percent: -1 is not a number from 0 on"),
        ({"cov": [{**COV, "keys": {"time": {"absolute": 1}}}]}, '"time" is not a measured field'),
        ({"cov": [{**COV, "keys": {"avg(t,5s)": {"absolute": 1}}}]}, '"avg(t,5s)" is not a measured field; name'),
        ({"cov": [{**COV, "devices": []}]}, "sampling.cov[0].devices: [] is not a list of 1 to 100"),
        ({"averages": [{"key": "t"}]}, "averages[0].seconds: null is not a whole number of seconds from"),
        ({"averages": [{"seconds": 5}]}, "sampling.averages[0].key: null is not the name of a field"),
        ({"averages": [{**AVERAGE, "seconds": 86401}]}, "86401 is not a whole number of seconds from 1 to 86400"),
        ({"averages": [AVERAGE] * (AVERAGES_MAX + 1)}, "is not a list of at most 20 objects"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_and_refuses_everything(sampling: object, words: str) -> None:
    found = parsed(sampling, rules=[HOT])
    assert isinstance(found, InvalidRules)
    assert words in "; ".join(found.reasons)


def test_what_is_left_out_is_none_and_an_empty_one_ends_it() -> None:
    found = parsed({"cov": [COV], "averages": [AVERAGE]})
    assert isinstance(found, Config)
    assert (found.rules, found.windows, bool(found.sampling)) == (None, None, True)
    empty = parsed({}, rules=[])
    assert isinstance(empty, Config)
    assert empty.sampling is not None
    assert not empty.sampling


@pytest.mark.parametrize(
    ("key", "right"),
    [
        ("avg(temperature,60s)", True), ("count(engine.oil.temp,86400s)", True), ("max(a,b,1s)", True),
        ("avg(temperature,60)", False), ("avg(temperature, 60s)", False), ("avg(temperature,0s)", False),
        ("min(temperature,86401s)", False), ("avg(avg(t,5s),5s)", False), ("avg()", False), ("avg(time,5s)", False),
        ("mean(temperature)", True),  # the name of a field, if an odd one
    ],
)  # fmt: skip
def test_keys_of_windows(key: str, right: bool) -> None:
    assert isinstance(parse_config(msgspec.json.encode([rule(key)]), "u", DEFAULT), Config) is right


def test_a_window_is_compared_with_numbers_and_there_are_not_too_many() -> None:
    found = parse_config(msgspec.json.encode([rule("avg(t,5s)", "==", "on")]), "u", DEFAULT)
    assert isinstance(found, InvalidRules)
    assert "is not a number, which the key avg(t,5s) needs" in found.reasons[0]
    many = [rule(f"avg(t,{n}s)") for n in range(1, WINDOWS_MAX + 2)]
    found = parse_config(msgspec.json.encode(many), "u", DEFAULT)
    assert isinstance(found, InvalidRules)
    assert found.reasons == ("rules: they ask for 21 different windows; at most 20 are allowed",)


def subject(sampling: dict[str, Any], *rules: dict[str, object]) -> Subject:
    made = Subject()
    document = {"rules": rules, "sampling": sampling}
    assert made.book.apply([("u", msgspec.json.encode(document).decode())]) == []
    return made


def sequence(work: BatchOutput) -> list[int]:
    return [row[3] for row in work.rows]


def averages(work: BatchOutput) -> list[tuple[Any, ...]]:
    return [effect.args for effect in work.alert_effects if effect.statement is Statement.UPSERT_AVERAGE]


def test_dropped_rows_are_in_the_books_and_a_batch_that_comes_again_is_the_same() -> None:
    process = subject({"cov": [COV]}, HOT)
    values = [20, 20.5, 22, 21.5, 85, 85.5, 85.5, 20]
    records = [telemetry(n, temperature=value) for n, value in enumerate(values)]
    work = process(*records)
    assert sequence(work) == [0, 2, 4, 7]
    assert work.dropped == {"cov": 4}
    assert [event.status for event in work.events] == ["FIRING", "RESOLVED"]
    assert books(records, work, WriteResult(rows=4)).dropped_by_policy == 4
    again = process(*records, epoch=2)  # the states were written, the offset was not committed
    assert (sequence(again), again.dropped, again.events) == ([0, 2, 4, 7], {"cov": 4}, [])
    rest = process(*records[3:], telemetry(8, temperature=20.5), epoch=3)
    assert sequence(rest) == [4, 7]


def test_an_older_history_is_stored_whole() -> None:
    process = subject({"cov": [COV]})
    before = Subject()
    records = [telemetry(n, temperature=20) for n in range(6)]
    found = before(*records[:3]).states  # the mark alone: these were stepped
    process.states = {(0, key): value for key, value in found.items()}
    assert sequence(process(*records)) == [0, 1, 2, 3]
    assert sequence(process(*records, epoch=2)) == [0, 1, 2, 3]


def test_a_device_without_rules_is_sampled_and_without_anything_has_no_state() -> None:
    process = subject({"averages": [AVERAGE]})
    work = process(telemetry(0, temperature=20), telemetry(1, temperature=30), telemetry(30, device="e", battery=5))
    assert averages(work) == [("u", "d", "temperature", 60, START + timedelta(seconds=1), 2, 25.0, 20.0, 30.0, "")]
    assert work.alert_effects[-1].statement is Statement.UPSERT_AVERAGE
    assert process.book.apply([("u", None)]) == []
    work = process(telemetry(31, temperature=20))
    assert averages(work) == []
    assert decode(work.states[b"u/d"]).samples is None


def test_averages_in_any_cut_and_again() -> None:
    sampling = {"averages": [AVERAGE, {"key": "engine.oil", "seconds": 3600, "devices": ["d*"]}]}
    records = [telemetry(n * 9 % 200, temperature=n, engine={"oil": n / 2}) for n in range(100)]
    records = [at_offset(one, offset) for offset, one in enumerate(records)]
    whole = averages(subject(sampling)(*records))
    parts = subject(sampling)
    for begin in range(0, 100, 7):
        last = averages(parts(*records[begin : begin + 7], epoch=begin))
    assert last == whole
    assert len(whole) == 2
    assert averages(parts(*records[50:], epoch=1000)) == []  # nothing moves


def at_offset(record: Any, offset: int) -> Any:
    return msgspec.structs.replace(record, offset=offset)


def test_figures_as_keys_of_rules() -> None:
    hot, few = rule("avg(temperature,60s)", ">", 80), rule("count(temperature,60s)", "<", 2, message="few")
    process = subject({}, hot, few)
    values = [90, 20, 90, 90, 90]
    work = process(*(telemetry(n, temperature=value) for n, value in enumerate(values)))
    reported = [(event.rule_id, event.status, event.value) for event in work.events]
    assert reported == [
        ("avg(temperature,60s)", "FIRING", 90.0),
        ("count(temperature,60s)", "FIRING", 1),
        ("avg(temperature,60s)", "RESOLVED", 55.0),
        ("count(temperature,60s)", "RESOLVED", 2),
    ]
    assert averages(work) == []  # nobody asked for rows
    spoofed: dict[str, Any] = {"battery": 5, "avg(temperature,60s)": 99}
    work = process(telemetry(200, **spoofed))  # no device may say so itself
    assert [(event.rule_id, event.status, event.value) for event in work.events] == [
        ("count(temperature,60s)", "FIRING", 0)
    ]
    work = process(
        at_offset(telemetry(190, temperature=100), 201), telemetry(202, battery=6)
    )  # late, and in the window
    assert [(event.rule_id, event.value) for event in work.events] == [("avg(temperature,60s)", 100.0)]


def test_no_device_can_send_a_figure_that_is_not_there() -> None:
    """`avg(engine.oil,60s)` with its point is no path into what a device sent either."""
    process = subject({}, rule("avg(engine.oil,60s)", ">", 80))
    spoofed: dict[str, Any] = {"avg(engine": {"oil,60s)": 99}}
    assert process(telemetry(0, **spoofed)).events == []
    (event,) = process(telemetry(1, **spoofed, engine={"oil": 90})).events
    assert event.value == 90.0


def test_a_topic_made_anew_loses_no_row() -> None:
    """The topic's offsets are those of records that were processed long ago, but its records are newer."""
    process = subject({"cov": [COV]})
    assert sequence(process(*(telemetry(n, temperature=20) for n in range(50)))) == [0]
    anew = [at_offset(telemetry(100 + n, temperature=20), n) for n in range(50)]
    assert sequence(process(*anew, epoch=2)) == list(range(100, 150))


def test_a_start_loads_no_devices_and_knows_whose_alerts_are_open() -> None:
    process = subject({"cov": [COV]}, HOT | {"no_data_seconds": 9})
    work = process(telemetry(0, temperature=20), telemetry(1, device="hot", temperature=90))
    partition = process.processor.partitions.partition(2, 0)
    for key, value in work.states.items():
        process.processor.partitions.seed(partition, key, value, NOW)
    assert process.processor.devices == 0
    assert [name for name, _ in partition.registry.heard] == [("u", "hot")]


def test_a_joined_rule_of_a_window_and_a_field() -> None:
    both = [{"key": "max(temperature,60s)", "operator": ">", "threshold": 80},
            {"key": "battery", "operator": "<", "threshold": 20}]  # fmt: skip
    process = subject({}, {"id": "both", "all": both, "message": "m"})
    work = process(telemetry(0, temperature=90, battery=50), telemetry(1, temperature=20, battery=10))
    assert [(event.rule_id, event.value) for event in work.events] == [("both", 90.0)]


def test_sampling_over_mqtt_is_its_own_statement() -> None:
    document = {"sampling": {"cov": [COV]}}
    (effect,) = Subject()(other("users/u/config", msgspec.json.encode(document), 0)).effects
    assert effect.statement is Statement.UPSERT_SAMPLED_CONFIG
    assert effect.args[:3] == ("u", None, None)
    assert msgspec.json.decode(effect.args[7]) == document["sampling"]
