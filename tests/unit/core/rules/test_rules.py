"""Which readings a rule's condition holds for, and which rules are refused with which words."""

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.rules.field_readers import reportable
from app.core.rules.parse import RULES_BYTES_MAX, RULES_MAX, parse
from app.core.rules.prefilter import any_holds, prefilter_for
from app.core.rules.rule import InvalidRules, RuleSet, compile_for
from tests import DEFAULT
from tests.unit.readings import reading, rule, rules, ruleset


def refused(text: str | bytes) -> tuple[str, ...]:
    parsed = parse(text, "u", DEFAULT)
    assert isinstance(parsed, InvalidRules), parsed
    assert parsed.user_id == "u"
    return parsed.reasons


def reasons(*definitions: object) -> tuple[str, ...]:
    return refused(msgspec.json.encode(definitions))


# value against the threshold 80:  79.9  80  80.1
OPERATORS = [
    (">", (False, False, True)),
    ("<", (True, False, False)),
    (">=", (False, True, True)),
    ("<=", (True, True, False)),
    ("==", (False, True, False)),
]


@pytest.mark.parametrize(("operator", "expected"), OPERATORS)
@pytest.mark.parametrize("threshold", [80, 80.0])
def test_operators_on_numbers(operator: str, expected: tuple[bool, ...], threshold: float) -> None:
    for value, holds in zip((79.9, 80, 80.1), expected, strict=True):
        assert any_holds(rules(rule("temperature", operator, threshold)), reading(temperature=value)) is holds
        assert any_holds(rules(rule("load", operator, threshold)), reading(load=value)) is holds
        assert any_holds(rules(rule("a.b.c", operator, threshold)), reading(a={"b": {"c": value, "x": [1]}})) is holds


@pytest.mark.parametrize(("operator", "expected"), OPERATORS)
def test_operators_on_battery(operator: str, expected: tuple[bool, ...]) -> None:
    for value, holds in zip((79, 80, 81), expected, strict=True):
        assert any_holds(rules(rule("battery", operator, 80)), reading(battery=value)) is holds


@pytest.mark.parametrize(
    ("threshold", "value", "holds"),
    [
        ("open", "open", True), ("open", "Open", False), ("", "", True), ("é\n\"", "é\n\"", True),
        (True, True, True), (True, False, False), (False, False, True), (False, True, False),
        (1, 1, True), (1, 1.0, True), (1.5, 1.5, True), (-3, -3, True),
        (9007199254740993, 9007199254740993, True), (9007199254740993, 9007199254740992, False),
        # never across kinds: 1 is not true, "1" is not 1
        (1, True, False), (True, 1, False), (0, False, False), ("1", 1, False), (1, "1", False), ("true", True, False),
        ("", None, False), (0, None, False), (False, None, False), ("[]", [], False), (0, {}, False),
    ],
)  # fmt: skip
def test_equality(threshold: object, value: object, holds: bool) -> None:
    assert any_holds(rules(rule("f", "==", threshold)), reading(f=value)) is holds
    assert any_holds(rules(rule("o.f", "==", threshold)), reading(o={"f": value})) is holds


@pytest.mark.parametrize(
    "given_reading",
    [
        reading(), reading(a=None), reading(a=5), reading(a="x"), reading(a=[]), reading(a={}), reading(a={"b": None}),
        reading(a={"b": "90"}), reading(a={"b": True}), reading(a={"b": {"c": 90}}), reading(a={"b": [90]}),
        reading(a={"x": {"b": 90}}), reading(b=90), reading(a=msgspec.Raw(b'{"b":1e400}')),
        reading(a=msgspec.Raw(b'{"b":"\xff"}')),
    ],
)  # fmt: skip
def test_a_value_missing_or_of_another_kind_is_not_read(given_reading: object) -> None:
    (compiled,) = rules(rule("a.b", "<", 1e9))
    assert compiled.read(given_reading) is None  # type: ignore[arg-type]


def test_a_field_named_like_the_whole_key_wins() -> None:
    (compiled,) = rules(rule("a.b"))
    assert compiled.read(reading(**{"a.b": 1, "a": {"b": 2}})) == 1  # type: ignore[arg-type]
    assert compiled.read(reading(**{"a.b": 1})) == 1  # type: ignore[arg-type]
    assert compiled.read(reading(a={"b": 2})) == 2
    assert compiled.read(reading(**{"a.b": "x", "a": {"b": 2}})) is None  # type: ignore[arg-type]


@pytest.mark.parametrize("operator", [">", "<", ">=", "<=", "=="])
def test_nan_never_holds(operator: str) -> None:
    assert not any_holds(rules(rule("temperature", operator, 80)), reading(temperature=math.nan))


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, None), (math.nan, None), (math.inf, None), (10**400, None), (-(10**400), None),
        (0, 0), (-0.5, -0.5), (True, True), (2**63 - 1, 2**63 - 1), (-(2**63), -(2**63)), (2**63, float(2**63)),
        (10**30, 1e30), ("x" * 256, "x" * 256), ("x" * 257, "x" * 255 + "…"),
    ],
)  # fmt: skip
def test_what_an_alert_can_report(value: float | str | None, shown: float | str | None) -> None:
    assert reportable(value) == shown
    assert type(reportable(value)) is type(shown)


def test_defaults_and_given_fields() -> None:
    plain, full = ruleset(
        rule(), rule("x.y", "<=", 1, id="low", severity="critical", devices=["a*"], clear_threshold=2)
    ).rules
    assert (plain.id, plain.severity, plain.devices, plain.message) == ("temperature", "warning", ("*",), "m")
    assert (full.id, full.severity, full.devices) == ("low", "critical", ("a*",))
    assert plain.stays(81)
    assert not plain.stays(80)
    assert full.stays(2)
    assert not full.stays(2.5)


def test_the_mqtt_message_and_the_table_give_the_same_rules() -> None:
    array = msgspec.json.encode([rule(), rule("battery", "<", 5)])
    as_object = b'{"rules":' + array + b',"version":3}'
    sets = [parse(text, "u", DEFAULT) for text in (array, array.decode(), as_object, as_object.decode())]
    prints = [[r.fingerprint for r in s.rules] for s in sets if isinstance(s, RuleSet)]
    assert len(prints) == 4
    assert prints.count(prints[0]) == 4
    assert parse("[]", "u", DEFAULT) == RuleSet("u", ())


def test_null_means_absent() -> None:
    (compiled,) = ruleset(rule(id=None, severity=None, devices=None, clear_threshold=None, for_seconds=None)).rules
    assert (compiled.id, compiled.severity, compiled.devices) == ("temperature", "warning", ("*",))


def test_devices_are_case_sensitive_globs() -> None:
    both = ruleset(rule(devices=["truck-*", "van-[12]"]), rule("battery"))
    for device, ids in {
        "truck-1": ["temperature", "battery"], "van-2": ["temperature", "battery"],
        "van-3": ["battery"], "Truck-1": ["battery"], "my-truck-1": ["battery"],
    }.items():  # fmt: skip
        assert [r.id for r in compile_for(both, device)] == ids


def test_hostile_globs_stay_fast() -> None:
    assert compile_for(ruleset(rule(devices=["*a" * 100])), "a" * 200 + "b") == ()


def test_fingerprint_is_of_the_meaning() -> None:
    def fingerprint(**changes: object) -> str:
        return ruleset({**rule(), **changes}).rules[0].fingerprint

    base = fingerprint()
    for same in (
        {"threshold": 80.0},
        {"message": "other"},
        {"id": "other"},
        {"devices": ["x"]},
        {"severity": "warning"},
    ):
        assert fingerprint(**same) == base
    rest = [fingerprint(**other) for other in (
        {"threshold": 80.5}, {"operator": ">="}, {"key": "battery"}, {"severity": "critical"}, {"clear_threshold": 70},
        {"key": "f", "operator": "==", "threshold": "80"}, {"key": "f", "operator": "==", "threshold": 1},
        {"key": "f", "operator": "==", "threshold": True},
    )]  # fmt: skip
    assert len({base, *rest}) == len(rest) + 1


# what is wrong -> all of the words of the one reason
def _wrong(field: str, *values: object) -> list[tuple[dict[str, object], str]]:
    return [({field: value}, f".{field}: ") for value in values]


WRONG = [
    ({"key": 5}, '.key: 5 is not the name of a field'),
    ({"key": ""}, '.key: "" is not the name of a field'),
    ({"key": 'a"b'}, 'no quotes, backslashes or control characters'),
    ({"key": "a\tb"}, 'no quotes, backslashes or control characters'),
    ({"key": "x" * 201}, "1 to 200 characters"),
    ({"key": "a..b"}, '.key: "a..b" is not 1 to 32 names with single dots'),
    ({"key": ".a"}, "names with single dots"),
    ({"key": ".".join("a" * 33)}, "1 to 32 names"),
    ({"key": "timestamp"}, '.key: "timestamp" is not a measured field'),
    ({"operator": "=>"}, '.operator: "=>" is not one of > < >= <= =='),
    ({"operator": ["<"]}, '.operator: ["<"] is not one of'),
    ({"key": "f", "threshold": "80"}, '.threshold: "80" is not a number, which every operator but == needs'),
    ({"threshold": True}, ".threshold: true is not a number"),
    ({"threshold": [80]}, ".threshold: [80] is not a number"),
    ({"threshold": "NaN"}, '.threshold: "NaN" is not a number'),
    ({"threshold": 2**63}, ".threshold: 9223372036854775808 is not a number"),
    ({"operator": "==", "threshold": "x"}, '"x" is not a number, which the key temperature needs'),
    ({"key": "f", "operator": "==", "threshold": "x" * 257}, "a text of at most 256 characters"),
    ({"key": "f", "operator": "==", "threshold": {}}, ".threshold: {} is not a number within 64 bits, true, false"),
    ({"message": 7}, ".message: 7 is not a text of at most 1000 characters"),
    ({"message": "x" * 1001}, "at most 1000 characters"),
    ({"message": "a\0b"}, "without NUL"),
    ({"id": ""}, '.id: "" is not a text of 1 to 200'),
    ({"id": 3}, ".id: 3 is not a text"),
    ({"id": "a\0"}, "printable characters"),
    ({"severity": "bad"}, '.severity: "bad" is not one of info, warning, critical'),
    ({"severity": ["info"]}, '.severity: ["info"] is not one of'),
    ({"clear_threshold": "x"}, '.clear_threshold: "x" is not a number'),
    ({"clear_threshold": 81}, ".clear_threshold: 81 is above the threshold 80; with > it has to be at or below it"),
    ({"operator": "<=", "clear_threshold": 79}, "79 is below the threshold 80; with <= it has to be at or above it"),
    ({"operator": "==", "clear_threshold": 80}, ".clear_threshold: == has no clear_threshold"),
    ({"devices": "truck-*"}, '.devices: "truck-*" is not a list of 1 to 100'),
    ({"devices": []}, ".devices: [] is not a list of 1 to 100"),
    ({"devices": ["a", 5]}, ".devices: [1]: 5 is not a device id or glob"),
    ({"treshold": 1}, ".treshold: unknown field; did you mean threshold?"),
    ({"colour": 1}, ".colour: unknown field; known are key, operator, threshold"),
    ({"for_seconds": -1}, ".for_seconds: -1 is not a number of seconds from 0 to 2592000"),
    ({"clear_for_seconds": -1}, ".clear_for_seconds: -1 is not a number of seconds from 0 to 2592000"),
    ({"cooldown_seconds": "5"}, '.cooldown_seconds: "5" is not a number of seconds'),
    ({"consecutive": 0}, ".consecutive: 0 is not a whole number from 1 to 10000"),
    ({"consecutive": 2.5}, ".consecutive: 2.5 is not a whole number"),
    ({"consecutive": True}, ".consecutive: true is not a whole number"),
    *_wrong("enabled", 0, "false", []),
    *_wrong("of", 3, [3], [3, 5, 7], [0, 5], [1, 61], [1.5, 2], [True, 2], ["1", 2], {}),
    ({"of": [3, 5.5]}, ".of: [3,5.5] is not two whole numbers from 1 to 60, such as [3, 5]"),
    ({"of": [5, 3]}, ".of: [5,3]: of the last 3 readings there cannot be 5; write the smaller one first"),
    ({"of": [3, 5], "consecutive": 2}, ".of: not beside consecutive; leave out one of the two"),
    ({"of": [3, 5], "for_seconds": 2}, ".of: not beside for_seconds; leave out one of the two"),
    ({"escalate": 5}, '.escalate: 5 is not an object such as {"after_seconds": 600, "severity": "critical"}'),
    ({"escalate": {"after_seconds": 5}}, "is not an object such as"),
    ({"escalate": {"after_seconds": 0, "severity": "critical"}}, "after_seconds: 0 is not a number of seconds above 0"),
    ({"escalate": {"after_seconds": 5, "severity": "bad"}}, 'severity: "bad" is not one of info, warning, critical'),
    ({"escalate": {"after_seconds": 5, "severity": "info"}}, '"info" is not above the rule\'s own severity, warning'),
    ({"flap": {"times": 3}}, '.flap: {"times":3} is not an object such as {"times": 3, "within_seconds": 600}'),
    ({"flap": {"times": 0, "within_seconds": 5}}, "times: 0 is not a whole number from 1 to 50"),
    ({"flap": {"times": 1, "within_seconds": 0}}, "within_seconds: 0 is not a number of seconds above 0"),
    ({"id": "$offline"}, '.id: "$offline" is the name of alerts that the program makes itself'),
    ({"key": "$mass-offline"}, '.id: "$mass-offline" is the name of alerts that the program makes itself'),
    ({"no_data_seconds": 0}, ".no_data_seconds: 0 is not a number of seconds above 0, up to 2592000"),
    ({"no_data_seconds": "60"}, '.no_data_seconds: "60" is not a number of seconds from 0'),
]  # fmt: skip


@pytest.mark.parametrize(("change", "words"), WRONG, ids=[words for _, words in WRONG])
def test_a_wrong_field_is_named(change: dict[str, object], words: str) -> None:
    found = reasons(rule("battery"), {**rule(), **change})
    assert len(found) == 1
    assert found[0].startswith("rules[1].")
    assert words in found[0]


def test_missing_fields_are_named() -> None:
    found = reasons({})
    assert [reason.split(";")[0] for reason in found] == [
        f"rules[0].{field}: missing" for field in ("key", "operator", "threshold", "message")
    ]


PART = {"key": "battery", "operator": "<", "threshold": 10}
WRONG_PARTS = [
    ({"all": PART}, ".all: {"),
    ({"all": []}, ".all: [] is not a list of 1 to 20 conditions"),
    ({"any": [PART, 5]}, ".any: [1]: 5 is not an object"),
    ({"all": [{**PART, "id": "m"}]}, ".all: [0].id: a condition has only key, operator, threshold, clear_threshold"),
    ({"all": [{"key": "battery", "operator": "<"}]}, ".all: [0].threshold: missing"),
    ({"all": [{**PART, "operator": "~"}]}, '.all: [0].operator: "~" is not one of'),
    ({"all": [PART], "any": [PART]}, ".all: not beside any"),
    ({"all": [PART], "key": "battery"}, ".key: not beside all"),
    ({"all": [PART], "id": None}, ".id: missing; a rule of several conditions needs it"),
    ({"all": [PART], "message": None}, ".message: missing"),
]


@pytest.mark.parametrize(("change", "words"), WRONG_PARTS, ids=[words for _, words in WRONG_PARTS])
def test_a_wrong_condition_among_several_is_named(change: dict[str, object], words: str) -> None:
    (found,) = reasons({"id": "both", "message": "m", **change})
    assert words in found


# values of (temperature > 80, battery < 10) -> does all hold, does any
@pytest.mark.parametrize(
    ("values", "both", "either"),
    [
        ((90, 5), True, True), ((90, 50), False, True), ((70, 50), False, False),
        ((90, None), None, True), ((70, None), False, None), ((None, 50), False, None), ((None, None), None, None),
        ((math.nan, 5), None, True),
    ],
)  # fmt: skip
def test_what_is_not_known_decides_nothing(values: tuple[float, int], both: object, either: object) -> None:
    parts = [{"key": "temperature", "operator": ">", "threshold": 80}, PART]
    one = reading(temperature=values[0], battery=values[1])
    for word, wanted in (("all", both), ("any", either)):
        (joined,) = rules({"id": "r", "message": "m", word: parts})
        assert joined.holds(joined.read(one)) is wanted
        if wanted is True:
            assert not prefilter_for((joined,), DEFAULT)(one)
        elif values[0] is None or not math.isnan(values[0]):
            assert prefilter_for((joined,), DEFAULT)(one)


def test_the_fingerprint_of_a_plain_rule_is_what_stored_episodes_have() -> None:
    """As version 0.1.0 made them; another value would end every open alert at an update."""
    plain, damped = ruleset(rule(), rule("x.y", "<=", 1, clear_threshold=2.5, severity="critical")).rules
    assert (plain.fingerprint, damped.fingerprint) == ("7456ff259e8f0d77", "e4ff0a4329367f28")
    same: tuple[dict[str, object], ...] = (
        {"for_seconds": 0}, {"consecutive": 1}, {"cooldown_seconds": 5}, {"flap": {"times": 1, "within_seconds": 2}},
        {"escalate": {"after_seconds": 5, "severity": "critical"}},
    )  # fmt: skip
    assert {ruleset({**rule(), **change}).rules[0].fingerprint for change in same} == {plain.fingerprint}
    rest = ({"for_seconds": 1}, {"clear_for_seconds": 1}, {"consecutive": 2}, {"of": [1, 2]}, {"of": [2, 2]})
    assert len({plain.fingerprint} | {ruleset({**rule(), **change}).rules[0].fingerprint for change in rest}) == 6


def test_every_problem_is_named_at_once() -> None:
    found = reasons({**rule(), "operator": "!", "severity": 1}, 7, rule("battery"), {**rule(), "message": None})
    assert [reason[:18] for reason in found] == [
        "rules[0].operator:", "rules[0].severity:", "rules[1]: 7 is not", "rules[3].message: ",
    ]  # fmt: skip


def test_duplicate_ids_are_refused() -> None:
    found = reasons(rule(), rule(operator="<"), rule("battery", id="temperature"))
    assert [reason[:35] for reason in found] == [
        'rules[1].id: "temperature" is rules', 'rules[2].id: "temperature" is rules'
    ]  # fmt: skip
    assert len(ruleset(rule(), rule(operator="<", id="cold")).rules) == 2


def test_sizes_are_capped() -> None:
    most = [rule(id=str(i)) for i in range(RULES_MAX)]
    assert len(ruleset(*most).rules) == RULES_MAX
    assert reasons(*most, rule(id="x")) == (f"rules: {RULES_MAX + 1} rules; at most {RULES_MAX} are allowed",)
    assert "bytes of JSON" in refused("[" + " " * RULES_BYTES_MAX + "]")[0]
    many = reasons(*([5] * 30))
    assert len(many) == 21
    assert many[-1] == "and 10 more problems"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "there is nothing"), ("\n ", "there is nothing"), ("{", "not JSON"),
        ("[NaN]", "not JSON"), (b"\xff", "not JSON"), (b'["\xff"]', "not JSON"),
        ('[{"threshold": 1e400}]', "not JSON"), ('["\ud800"]', "not JSON"), ("[" * 100_000, "not JSON"),
        ("5", "give a JSON array"), ("null", "give a JSON array"), ("{}", "give a JSON array"),
        ('{"rules":{}}', "give a JSON array"), ("[5]", "rules[0]: 5 is not an object"), ("[null]", "rules[0]: null is"),
    ],
)  # fmt: skip
def test_what_is_no_list_of_rules_is_refused(text: str | bytes, words: str) -> None:
    (found,) = refused(text)
    assert words in found


def test_deep_nesting_is_refused() -> None:
    """Every depth up to the interpreter's limit: what could just be decoded may be too deep to be shown."""
    for depth in range(100, 1100):
        nested = "[" * depth + "]" * depth
        assert refused('[{"key":"a","operator":">","message":"m","threshold":' + nested + "}]")


def test_text_that_is_not_utf8_is_not_read() -> None:
    for key, one in (("f", reading(f=msgspec.Raw(b'"\xff"'))), ("o.f", reading(o=msgspec.Raw(b'{"f":"\xff"}')))):
        (compiled,) = rules(rule(key, "==", "x"))
        assert compiled.read(one) is None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
FIELDS = (
    *("key", "operator", "threshold", "message", "id", "severity", "clear_threshold", "devices", "other"),
    *("all", "any", "for_seconds", "consecutive", "of", "escalate", "flap"),
)
fields = st.sampled_from(FIELDS)
plausible = st.sampled_from(["temperature", "a.b", ">", "==", 80, "x", True, "info", ["*"], "m"])


@given(st.lists(json_values | st.dictionaries(fields, plausible | json_values, max_size=8), max_size=3))
def test_parse_never_raises_and_what_it_takes_can_be_evaluated(definitions: list[object]) -> None:
    parsed = parse(msgspec.json.encode(definitions), "u", DEFAULT)
    if isinstance(parsed, InvalidRules):
        assert parsed.reasons
    else:
        assert len(parsed.rules) == len(definitions)
        any_holds(parsed.rules, reading(temperature=81, battery=3, a={"b": "x"}))


@given(st.text() | st.binary())
def test_parse_never_raises_on_any_text(text: str | bytes) -> None:
    parse(text, "u", DEFAULT)
