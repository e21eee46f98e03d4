"""Which rules apply while the present rules are refused: the rules before them, whoever knew those."""

from datetime import datetime, timedelta

from app.core.rules.conditions import Comparison
from app.core.user_config.last_known_good import ConfigRevision, LastKnownGood
from app.core.user_config.rulebook import RuleBook
from tests import DEFAULT
from tests.unit.readings import START

RULE = '[{"key": "t", "operator": ">", "threshold": 80, "message": "m"}]'
HOT, COLD, WRONG = RULE, RULE.replace(">", "<"), RULE.replace(">", "~")
_count = iter(range(1000))


def change(text: str | None, accepted: str | None = None, user: str = "u") -> ConfigRevision:
    return ConfigRevision(user, text, later(), accepted)


def meaning(book: RuleBook, user: str = "u") -> list[str]:
    """The operators of the rules that apply."""
    return [rule.condition.operator for rule in book.rules_for(user, "d") if isinstance(rule.condition, Comparison)]


def later() -> datetime:
    return START + timedelta(seconds=next(_count))


def test_what_is_taken_is_noted_once() -> None:
    in_force = LastKnownGood(RuleBook(DEFAULT))
    first = change(HOT)
    assert in_force.apply([first]) == ([], [first])
    assert in_force.apply([change(HOT, accepted=HOT)]) == ([], [])


def test_a_mistake_leaves_what_was_in_force() -> None:
    book = RuleBook(DEFAULT)
    in_force = LastKnownGood(book)
    in_force.apply([change(HOT)])
    wrong = change(WRONG, accepted=COLD)  # noting it may have failed: what this worker took is newer
    (refused,), taken = in_force.apply([wrong])
    assert (refused.change, taken) == (wrong, [])
    assert "operator" in refused.reasons[0]
    assert meaning(book) == [">"]


def test_a_worker_that_starts_after_the_mistake_takes_what_others_took() -> None:
    book = RuleBook(DEFAULT)
    in_force = LastKnownGood(book)
    refused, taken = in_force.apply([change(WRONG, accepted=HOT), change(WRONG, user="v"), change(COLD, user="w")])
    assert [one.change.user_id for one in refused] == ["u", "v"]
    assert [one.user_id for one in taken] == ["w"]
    assert meaning(book) == [">"]
    assert meaning(book, "v") == []
    in_force.apply([change(WRONG, accepted=COLD)])
    assert meaning(book) == [">"]


def test_what_an_other_version_accepted_may_be_refused_here() -> None:
    book = RuleBook(DEFAULT)
    in_force = LastKnownGood(book)
    (refused,), _ = in_force.apply([change(WRONG, accepted=WRONG)])
    assert refused.change.user_id == "u"
    in_force.apply([change(WRONG, accepted=HOT)])
    assert meaning(book) == [">"]


def test_a_deleted_row_leaves_nothing() -> None:
    book = RuleBook(DEFAULT)
    in_force = LastKnownGood(book)
    in_force.apply([change(HOT)])
    assert in_force.apply([change(None)]) == ([], [])
    in_force.apply([change(WRONG)])
    assert meaning(book) == []
