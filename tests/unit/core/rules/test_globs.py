"""Device ids and globs: what takes in what, and what it may cost."""

import time
from fnmatch import fnmatchcase

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.core.presence.device_classes import DeviceClass, DeviceClasses
from app.core.presence.device_presence import PresenceLimits
from app.core.rules.condition_checks import GLOBS_CHARS_MAX, GLOBS_MAX, SEARCHED_MAX
from app.core.rules.globs import Glob, Globs
from app.core.rules.rule import InvalidRules
from app.core.user_config.document import parse_config
from app.core.user_config.rulebook import WATCHES_MAX, RuleBook
from tests import DEFAULT

LETTERS = st.text(alphabet="ab*?[]!-", max_size=9)


@given(LETTERS, st.text(alphabet="ab[]-!*?\n", max_size=8))
@example("[", "[")
@example("[]]", "]")
@example("[!]a]b", "cb")
@example("*a?b*", "xxacbx")
@example("*ab*ba", "aba")
@example("a*a", "a")
@example("[a-b]*[!b]", "ab\n")
def test_globs_are_those_of_fnmatch(glob: str, name: str) -> None:
    ranges = [glob[at] <= glob[at + 2] for at in range(len(glob) - 2) if glob[at + 1] == "-"]
    if all(ranges):  # of a range that holds nothing fnmatch makes something else
        assert Glob(glob).matches(name) is fnmatchcase(name, glob)


NAMES = ["pump[1]", "a*b", "why?", "[", "]", "[]", "[!a]", "a[b-c]d", "\\d", "x.y+z", "^$", "pump[1]*"]


@pytest.mark.parametrize("name", NAMES)
def test_a_device_is_met_by_what_names_it_exactly_whatever_its_characters(name: str) -> None:
    assert Globs([name]).takes_in(name)
    assert name in Globs(["other", name]).hits(name)
    rule = {"key": "t", "operator": ">", "threshold": 1, "message": "m", "devices": [name]}
    window = {"from": "2026-11-21T03:00:00Z", "until": "2026-11-21T03:02:00Z", "devices": [name]}
    cov = {"keys": {"t": {"absolute": 1}}, "heartbeat_seconds": 60, "devices": [name]}
    sampling = {"cov": [cov], "averages": [{"key": "t", "seconds": 60, "devices": [name]}]}
    book = RuleBook(DEFAULT)
    config = {"rules": [rule], "maintenance": [window], "sampling": sampling}
    assert book.apply([("u", msgspec.json.encode(config).decode())]) == []
    watch = book.watch_for("u", name)
    assert len(watch.rules) == len(watch.maintenance) == 1
    assert watch.sampling is not None
    assert watch.sampling.policy is not None
    assert len(watch.sampling.landing) == 1
    assert book.in_maintenance(("u", name), 1_795_230_060)
    assert not book.in_maintenance(("u", name), 1_795_230_120)
    classes = DeviceClasses([DeviceClass(f"u/{name}", 7.0)], PresenceLimits(5.0))
    assert classes(("u", name)).after == 7.0
    other = book.watch_for("u", "quite another")
    assert (other.rules, other.sampling) == ((), None)


def test_classes_in_brackets_still_take_in_what_they_did() -> None:
    assert [name for name in ("pump1", "pump2", "pump3", "pump[12]") if Globs(["pump[12]"]).takes_in(name)] == [
        "pump1", "pump2", "pump[12]",
    ]  # fmt: skip


WORST = [
    "*a" * 100,
    "*" + "a" * 198 + "b",
    "*" + "a" * 97 + "?" + "a" * 98 + "b*",
    "*[!b]" + "a" * 190 + "b*",
    "a*" * 99,
]


@pytest.mark.parametrize("glob", WORST)
def test_no_glob_takes_more_than_its_length_times_that_of_the_id(glob: str) -> None:
    """As a regular expression such a glob takes for ever; 2,000 such ids must take less than this thread's second."""
    begin = time.thread_time()
    matcher = Glob(glob)
    for tail in range(500):
        matcher.matches("a" * 2000 + f"c{tail}")
    assert time.thread_time() - begin < 2.5  # 0.3 s alone


def rules(*lists: list[str]) -> str:
    one = {"key": "t", "operator": ">", "threshold": 1, "message": "m"}
    return msgspec.json.encode([{**one, "id": f"r{n}", "devices": some} for n, some in enumerate(lists)]).decode()


def split(globs: list[str]) -> list[list[str]]:
    return [globs[at : at + 100] for at in range(0, len(globs), 100)]


def reasons(text: str) -> tuple[str, ...]:
    found = parse_config(text, "u", DEFAULT)
    return found.reasons if isinstance(found, InvalidRules) else ()


def test_invented_devices_do_not_fill_the_memory_with_compiled_rules() -> None:
    book = RuleBook(DEFAULT)
    assert book.apply([("u", rules(*[[f"*{letter}*"] for letter in "abcdefghijklmnop"]))]) == []
    for n in range(1, WATCHES_MAX * 3):
        name = "".join(letter for at, letter in enumerate("abcdefghijklmnop") if n >> at & 1)
        assert len(book.watch_for("u", name).rules) == len(name)
        assert len(book._watches["u"]) <= WATCHES_MAX


def test_what_a_configuration_may_cost() -> None:
    assert reasons(rules(*split([f"a{n}*" for n in range(GLOBS_MAX)]))) == ()
    assert reasons(rules(*split([f"a{n}*" for n in range(GLOBS_MAX + 1)]))) == (
        "rules: 1001 globs in devices; at most 1000 are allowed, while ids without *, ? and [ do not count",
    )
    long = [f"*{'x' * 190}{n:03}*" for n in range(200)]
    assert "characters; at most 20000" in reasons(rules(*split(long)))[0]
    searched = [f"*?{'x' * 50}{n:03}*" for n in range(12)]
    assert "between two stars in parts of 648 characters; at most 500" in reasons(rules(searched))[0]
    assert (GLOBS_CHARS_MAX, SEARCHED_MAX) == (20_000, 500)


def test_honest_configurations_are_taken_as_before() -> None:
    many = [f"truck-{n}" for n in range(5_000)]
    assert reasons(rules(*split(many))) == ()  # ids cost nothing
    assert reasons(rules(*[["truck-*", "van-[0-9]*", "ship-??"]] * 200)) == ()  # the same in every rule


def test_globs_of_maintenance_and_sampling_are_bounded_too() -> None:
    some = [f"a{n}*" for n in range(100)]
    window = {"from": "2026-11-21T03:00:00Z", "until": "2026-11-21T03:02:00Z", "devices": some}
    document = {"maintenance": [window] * 11}
    assert reasons(msgspec.json.encode(document).decode())[0].startswith("maintenance: 1100 globs in devices")
    cov = {"keys": {"t": {"absolute": 1}}, "heartbeat_seconds": 60, "devices": some}
    document = {"sampling": {"cov": [cov] * 11}}  # type: ignore[dict-item]
    assert reasons(msgspec.json.encode(document).decode())[0].startswith("sampling: 1100 globs in devices")


def test_conditions_of_all_rules_together_are_bounded() -> None:
    part = {"key": "t", "operator": ">", "threshold": 1}
    several = [{"id": f"r{n}", "message": "m", "all": [part] * 20} for n in range(51)]
    assert reasons(msgspec.json.encode(several[:50]).decode()) == ()
    assert reasons(msgspec.json.encode(several).decode()) == (
        "rules: 1020 conditions in all rules together; at most 1000 are allowed",
    )
