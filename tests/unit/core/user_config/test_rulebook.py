"""The rules that apply: what is taken, what is refused, and which devices ask again."""

import msgspec

from app.core.user_config.rulebook import RuleBook
from tests import DEFAULT
from tests.unit.readings import rule


def text(*rules: dict[str, object]) -> str:
    return msgspec.json.encode(rules).decode()


def ids(book: RuleBook, user: str = "u", device: str = "d") -> list[str]:
    return [each.id for each in book.rules_for(user, device)]


def test_nobody_has_rules_at_first() -> None:
    book = RuleBook(DEFAULT)
    assert (ids(book), book.users, book.version) == ([], 0, 0)


def test_each_user_has_rules_of_their_own() -> None:
    book = RuleBook(DEFAULT)
    assert book.apply([("u", text(rule("temperature"), rule("battery"))), ("v", text(rule("humidity")))]) == []
    assert ids(book) == ["temperature", "battery"]
    assert ids(book, "v") == ["humidity"]
    assert ids(book, "w") == []
    assert book.users == 2


def test_globs_choose_the_devices() -> None:
    book = RuleBook(DEFAULT)
    book.apply([("u", text(rule("temperature", devices=["pump-*"]), rule("battery")))])
    assert ids(book, device="pump-1") == ["temperature", "battery"]
    assert ids(book, device="fan") == ["battery"]


def test_a_bad_set_is_refused_whole_and_the_old_rules_stay() -> None:
    book = RuleBook(DEFAULT)
    book.apply([("u", text(rule("temperature")))])
    refused = book.apply(
        [("u", text(rule("battery"), {"key": "x", "operator": "~"})), ("v", "{"), ("w", text(rule("humidity")))]
    )
    assert [one.user_id for one in refused] == ["u", "v"]
    assert "rules[1]" in refused[0].reasons[0]
    assert ids(book) == ["temperature"]
    assert ids(book, "v") == []
    assert ids(book, "w") == ["humidity"]


def test_no_rules_and_an_empty_set_are_the_same() -> None:
    book = RuleBook(DEFAULT)
    for nothing in (None, "[]"):
        book.apply([("u", text(rule("temperature")))])
        assert book.apply([("u", nothing)]) == []
        assert (ids(book), book.users) == ([], 0)
    assert book.apply([("nobody", None)]) == []


def test_every_change_has_a_new_version() -> None:
    book = RuleBook(DEFAULT)
    versions = []
    for change in (text(rule("temperature")), "not JSON", None):
        book.apply([("u", change)])
        versions.append(book.version)
    assert len({0, *versions}) == 4


def test_what_is_watched_changes_with_the_rules_and_is_shared_while_they_stay() -> None:
    book = RuleBook(DEFAULT)
    book.apply([("u", text(rule("temperature", threshold=80)))])
    before = book.watch_for("u", "d")
    assert book.watch_for("u", "another") is before
    book.apply([("v", text(rule("battery")))])
    assert book.watch_for("u", "d") is before
    book.apply([("u", text(rule("temperature", threshold=90)))])  # the same ids mean something else now
    after = book.watch_for("u", "d")
    assert after is not before
    assert after.rules == book.rules_for("u", "d")
    book.apply([("u", None)])
    assert book.watch_for("u", "d").rules == ()


def test_a_device_is_asked_for_by_name_once_anything_names_devices() -> None:
    book = RuleBook(DEFAULT)
    everywhere, somewhere = rule("temperature"), rule("battery", devices=["d*"])
    window = {"from": "2026-11-21T22:00:00Z", "until": "2026-11-22T04:00:00Z", "devices": ["d*"]}
    for config in (
        {"rules": [everywhere, somewhere]},
        {"rules": [everywhere], "maintenance": [window]},
        {"rules": [everywhere], "sampling": {"averages": [{"key": "battery", "seconds": 60, "devices": ["d*"]}]}},
    ):
        book.apply([("u", text(everywhere))])
        assert book.watch_for("u", "d1") is book.watch_for("u", "e1")
        assert book.apply([("u", msgspec.json.encode(config).decode())]) == []
        assert book.watch_for("u", "d1") != book.watch_for("u", "e1")
        assert book.watch_for("u", "d1") is book.watch_for("u", "d2")
