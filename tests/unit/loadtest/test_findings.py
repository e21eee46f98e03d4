import json

import pytest

from app.loadtest.findings import Findings, LoadVerdict, Sought, as_dict, text
from tests.unit.loadtest.world import ledger


@pytest.mark.parametrize(
    ("more", "verdict"),
    [
        ({"findings": Findings(rows=12_000, stored=12_000)}, LoadVerdict.COMPLETE),
        ({}, LoadVerdict.UNCHECKED),
        ({"interrupted": True}, LoadVerdict.INTERRUPTED),
        ({"findings": Findings(missing=Sought(1, ["u/d 7"]))}, LoadVerdict.INCOMPLETE),
        ({"findings": Findings(doubled=Sought(1, ["d"]))}, LoadVerdict.INCOMPLETE),
        ({"findings": Findings(altered=Sought(1, ["d"]))}, LoadVerdict.INCOMPLETE),
        ({"findings": Findings(strange=Sought(1, ["d"]))}, LoadVerdict.INCOMPLETE),
        ({"findings": Findings(alerts_missing=Sought(1, ["d"]))}, LoadVerdict.INCOMPLETE),
        ({"findings": Findings(alerts_unexpected=Sought(1, ["d"]))}, LoadVerdict.INCOMPLETE),
        ({"findings": Findings(), "unanswered": 1}, LoadVerdict.INCOMPLETE),
        ({"findings": Findings(), "refused": {"quota exceeded": 1}}, LoadVerdict.INCOMPLETE),
        ({"findings": Findings(), "sent": 11_999}, LoadVerdict.INCOMPLETE),
        ({"problem": "the database: away"}, LoadVerdict.INCOMPLETE),
        ({"nobody": 1}, LoadVerdict.INCOMPLETE),
    ],
)
def test_only_what_is_all_there_is_complete(more: dict[str, object], verdict: LoadVerdict) -> None:
    assert ledger(**more).verdict is verdict  # type: ignore[arg-type]


def test_the_text_names_what_is_missing_with_examples() -> None:
    found = Findings(rows=11_999, stored=11_999, missing=Sought(1, ["load-ab-1/load-ab-1-2 17 of 02:00:00.5Z"]))
    lines = text(ledger(found, nobody=3))
    assert lines[0].startswith("incomplete: 30 users, 90 devices, steady, 200 messages/s wanted, 200 acknowledged")
    assert any(line.split() == ["missing", "1", "load-ab-1/load-ab-1-2", "17", "of", "02:00:00.5Z"] for line in lines)
    assert any("does the bridge run?" in line for line in lines)
    assert not any(line.startswith(("doubled", "altered")) for line in lines)


def test_a_few_examples_are_enough() -> None:
    sought = Sought()
    sought.add(4, ["a", "b", "c", "d"])
    sought.add(4, ["e", "f", "g", "h"])
    assert (sought.count, sought.examples) == (8, ["a", "b", "c", "d", "e"])


def test_a_machine_reads_the_same() -> None:
    found = Findings(rows=3, alerts_expected=2, missing=Sought(1, ["x"]))
    again = json.loads(json.dumps(as_dict(ledger(found))))
    assert (again["verdict"], again["sent"], again["achieved"]) == ("incomplete", 12_000, 200)
    assert again["findings"]["missing"] == {"count": 1, "examples": ["x"]}
    assert again["findings"]["alerts_expected"] == 2
    assert json.loads(json.dumps(as_dict(ledger())))["findings"] is None
