"""Rules tried on files of readings: the golden timelines come out of JSON lines and of CSV as they do of a worker."""

import csv
import io
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from app.backtest.dry_run import DryRun
from app.backtest.readings_file import Refused, read
from app.core.model.alert_event import AlertEvent
from app.core.model.records import Reading
from app.core.rules.parse import parse
from app.core.rules.rule import RuleSet
from app.core.schema.schema import Schema
from app.errors import PermanentError
from app.settings.schema_struct import named
from tests import DEFAULT
from tests.unit.core.alerts.test_alert_cases import CASES, rule_of
from tests.unit.readings import START, rule, ruleset

# A rehearsal knows no commands and no maintenance windows.
PLAIN = [
    case
    for case in CASES
    if "maintenance" not in case and not any(isinstance(what, str) for _, what, *_ in case["timeline"])
]


def rows(case: dict[str, Any]) -> list[dict[str, Any]]:
    found = []
    for second, what, *_ in case["timeline"]:
        fields = what if isinstance(what, dict) else {"temperature": what}
        found.append({"time": (START + timedelta(seconds=second)).isoformat(), **fields})
    return found


def flat(fields: dict[str, Any], above: str = "") -> dict[str, Any]:
    """Nested fields by their whole name, as a rule's key and a column have it."""
    found: dict[str, Any] = {}
    for name, value in fields.items():
        found |= flat(value, f"{above}{name}.") if isinstance(value, dict) else {f"{above}{name}": value}
    return found


def as_lines(readings: list[dict[str, Any]]) -> str:
    return "".join(f"{json.dumps(one)}\n" for one in readings)


def as_csv(readings: list[dict[str, Any]]) -> str:
    text, flattened = io.StringIO(), [flat(one) for one in readings]
    writer = csv.DictWriter(text, list(dict.fromkeys(name for one in flattened for name in one)))
    writer.writeheader()
    for one in flattened:
        writer.writerow({name: json.dumps(v) if isinstance(v, bool) else v for name, v in one.items()})
    return text.getvalue()


def played(path: Path, rules: RuleSet) -> tuple[DryRun, list[tuple[AlertEvent, ...]]]:
    rehearsal = DryRun(rules, DEFAULT)
    found = []
    for reading in read(path, DEFAULT):
        assert isinstance(reading, Reading), reading
        found.append(rehearsal.take(reading))
    return rehearsal, found


@pytest.mark.parametrize("form", ["jsonl", "csv"])
@pytest.mark.parametrize("case", PLAIN, ids=[case["name"] for case in PLAIN])
def test_golden_timelines(case: dict[str, Any], form: str, tmp_path: Path) -> None:
    file = tmp_path / f"readings.{form}"
    file.write_text(as_csv(rows(case)) if form == "csv" else as_lines(rows(case)))
    rules = parse(msgspec.json.encode([rule_of(case)]), "u", DEFAULT)
    assert isinstance(rules, RuleSet)
    _, found = played(file, rules)
    reported = [[str(event.status) for event in events] for events in found]
    assert reported == [[words.split()[0] for words in words_of] for _, _, *words_of in case["timeline"]]


def test_there_are_enough_of_them() -> None:
    assert len(PLAIN) > 10


def test_each_device_has_its_own_state_and_rules(tmp_path: Path) -> None:
    file = tmp_path / "readings.jsonl"
    names = ["a-1", "b-1", "a-1", "b-1"]
    file.write_text(as_lines([{"time": 1e9 + n, "device_id": d, "temperature": 90} for n, d in enumerate(names)]))
    rehearsal, found = played(file, ruleset(rule(devices=["a-*"]), rule(id="all", operator=">=")))
    assert [[event.rule_id for event in events] for events in found] == [["temperature", "all"], ["all"], [], []]
    assert (rehearsal.readings, rehearsal.devices, rehearsal.late) == (4, 2, 0)


def test_a_late_reading_is_counted_and_moves_nothing(tmp_path: Path) -> None:
    file = tmp_path / "readings.jsonl"
    file.write_text(as_lines([{"time": 1e9 + n, "temperature": t} for n, t in [(5, 90), (3, 20), (6, 20)]]))
    rehearsal, found = played(file, ruleset(rule()))
    assert [len(events) for events in found] == [1, 0, 1]
    assert rehearsal.late == 1


def only(path: Path, schema: Schema = DEFAULT) -> Reading:
    (found,) = read(path, schema)
    assert isinstance(found, Reading), found
    return found


def test_what_psql_writes_of_raw_telemetry_is_read(tmp_path: Path) -> None:
    file = tmp_path / "export.csv"
    extra = '"{""door"": ""open"", ""engine"": {""rpm"": 12345678901234567890}}"'
    file.write_text(
        "time,user_id,device_id,sequence_id,temperature,battery,extra_data\n"
        f"2026-11-21 10:00:00.123+01,007,7,5,21.5,,{extra}\n"
    )
    found = only(file)
    assert (found.user_id, found.device_id, found.sequence_id) == ("007", "7", 5)
    assert (found.time.isoformat(), found.temperature, found.battery) == (
        "2026-11-21T09:00:00.123000+00:00",
        21.5,
        None,
    )
    assert found.extra_json == '{"door":"open","engine":{"rpm": 12345678901234567890}}'


def test_what_psql_writes_of_own_columns_is_read(tmp_path: Path) -> None:
    """Columns by their names, though devices call the fields otherwise; what devices send stays readable."""
    schema = named("examples.logistics:Package")
    file = tmp_path / "export.csv"
    head = "time,user_id,device_id,sequence_id,weight_kg,hub,latitude,longitude,shock_g,opened,extra_data\n"
    file.write_text(
        f'{head}2026-11-21 10:00:00+01,u,d,5,2.4,12,53.5,,3,t,"{{""weight_kg"": 9, ""opened_by"": ""t""}}"\n'
    )
    found = only(file, schema)
    assert (found.weight_kg, found.hub, found.latitude, found.shock_g, found.opened) == (2.4, "12", 53.5, 3, True)
    assert json.loads(found.extra_json) == {"weight_kg": 9, "opened_by": "t"}
    file.write_text("time,weight,weight_kg,shock,opened\n1000000000,2,9,3,false\n")
    found = only(file, schema)
    assert (found.weight_kg, found.shock_g, found.opened, found.extra_json) == (2.0, 3, False, '{"weight_kg":9}')


def test_cells_are_what_they_look_like(tmp_path: Path) -> None:
    file = tmp_path / "readings.csv"
    file.write_text("\ufefftime,a,b,c,d,e\n1000000000, 5 ,true,open,,1.50\n")
    assert only(file).extra_json == '{"a":5,"b":true,"c":"open","e":1.50}'


def test_the_first_character_tells_when_the_name_does_not(tmp_path: Path) -> None:
    for text in ('\n {"time": 1000000000, "a": 1}\n', "time,a\n1000000000,1\n"):
        (tmp_path / "readings").write_text(text)
        assert json.loads(only(tmp_path / "readings").extra_json) == {"a": 1}


def test_what_a_worker_would_refuse_is_named_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "readings.jsonl"
    lines = ['{"time": 1000000000, "temperature": 1}', "", '{"time": "noon"}', "{", '{"temperature": 1}',
             '{"time": 1, "temperature": "90"}', '{"time": 1, "device_id": 1.5}', "7"]  # fmt: skip
    file.write_text("\n".join(lines))
    found = [(one.line, one.reason) for one in read(file, DEFAULT) if isinstance(one, Refused)]
    assert found == [(3, "bad_time"), (4, "bad_json"), (5, "missing_field"), (6, "wrong_type"), (7, "wrong_type"),
                     (8, "not_an_object")]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.json", b'[{"time": 1}]', "one JSON object a line"),
        ("a", b"\n[\n", ":2: an array"),
        ("a.csv", b"", "the columns are nothing"),
        ("a.csv", b"when,temperature\n1,2\n", "time or timestamp; the columns are when, temperature"),
        ("a.csv", b"time,a\n1,2,3\n", ":2: more cells"),
        ("a.csv", b'time,a\n1,"2"x\n', ":2: not CSV"),
        ("a.jsonl", b'{"time": 1}\n\xff\n', "not UTF-8"),
    ],
)
def test_files_that_are_neither(name: str, content: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(PermanentError, match=words):
        list(read(tmp_path / name, DEFAULT))
