"""`iot-stream rules check` and `test`: what they print, and their exit codes. They need no server."""

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner, Result

from app.cli.main import build
from app.errors import PermanentError

RULES = '[{"key": "temperature", "operator": ">", "threshold": 80, "for_seconds": 60, "message": "hot"}]'
READINGS = """\
time,device_id,temperature
2026-11-21T09:00:00Z,truck-1,90
2026-11-21T09:01:00Z,truck-1,95.5
2026-11-21T09:01:30Z,truck-2,95
noon,truck-2,95
2026-11-21T09:03:30Z,truck-1,20
2026-11-21T09:02:30Z,truck-2,95
"""


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rules.json").write_text(RULES)
    (tmp_path / "bad.json").write_text(RULES.replace("[{", "[\n{").replace('">"', '"is"'))
    (tmp_path / "readings.csv").write_text(READINGS)
    return tmp_path


def run(*words: str) -> Result:
    return CliRunner().invoke(build("rules"), ["rules", *words])


def test_a_byte_order_mark_is_no_mistake(files: Path) -> None:
    (files / "marked.json").write_text(RULES.replace("\n", "\r\n"), encoding="utf-8-sig")
    (files / "marked.csv").write_text(READINGS, encoding="utf-8-sig")
    assert run("check", "marked.json").stdout == "marked.json: 1 rules, no mistakes\n"
    plain = run("test", "rules.json", "--readings", "readings.csv", "--json")
    marked = run("test", "marked.json", "--readings", "marked.csv", "--json")
    assert (marked.exit_code, marked.stdout) == (0, plain.stdout)


def test_a_file_in_utf_16_is_named_so(files: Path) -> None:
    (files / "wide.json").write_text(RULES, encoding="utf-16")
    assert "wide.json is UTF-16: save the file as UTF-8" in str(run("check", "wide.json").exception)


@pytest.mark.usefixtures("files")
def test_check() -> None:
    good, bad = run("check", "rules.json"), run("check", "bad.json")
    assert (good.exit_code, good.stdout) == (0, "rules.json: 1 rules, no mistakes\n")
    assert (bad.exit_code, bad.stdout) == (1, 'bad.json:2: rules[0].operator: "is" is not one of > < >= <= ==\n')
    assert run("check", "none.json").exit_code == 2


@pytest.mark.usefixtures("files")
def test_check_for_a_machine() -> None:
    good, bad = run("check", "rules.json", "--json"), run("check", "bad.json", "--json")
    assert (good.exit_code, json.loads(good.stdout)) == (0, {"valid": True, "mistakes": []})
    assert bad.exit_code == 1
    assert [one["line"] for one in json.loads(bad.stdout)["mistakes"]] == [2]


@pytest.mark.usefixtures("files")
def test_the_timeline() -> None:
    done = run("test", "rules.json", "--readings", "readings.csv")
    assert done.exit_code == 0
    assert [" ".join(line.split()) for line in done.stdout.splitlines()[1:]] == [
        "11-21 09:01:00 truck-1 temperature FIRING warning 95.5",
        "11-21 09:02:30 truck-2 temperature FIRING warning 95.0",
        "11-21 09:03:30 truck-1 temperature RESOLVED warning 20.0 2 min 30 s",
        "5 readings of 2 devices, 0 of them late: 2 alerts, 1 still open",
    ]
    assert "readings.csv:5: would be a dead letter: bad_time: time noon" in done.stderr.replace('"', "")


@pytest.mark.usefixtures("files")
def test_the_timeline_for_a_machine() -> None:
    done = json.loads(run("test", "rules.json", "--readings", "readings.csv", "--json").stdout)
    assert (done["readings"], done["devices"], done["late"]) == (5, 2, 0)
    assert [one["line"] for one in done["refused"]] == [5]
    assert [(one["device_id"], one["status"]) for one in done["events"]] == [
        ("truck-1", "FIRING"), ("truck-1", "RESOLVED"), ("truck-2", "FIRING")]  # fmt: skip
    first, second = done["alerts"]
    assert (first["first_seen"], first["fired_at"], first["resolved_at"]) == (
        "2026-11-21T09:00:00Z", "2026-11-21T09:01:00Z", "2026-11-21T09:03:30Z")  # fmt: skip
    assert second["resolved_at"] is None


@pytest.mark.usefixtures("files")
def test_wrong_rules_are_refused_with_all_mistakes() -> None:
    done = run("test", "bad.json", "--readings", "readings.csv")
    assert isinstance(done.exception, PermanentError)
    assert 'bad.json:2: rules[0].operator: "is"' in str(done.exception)


def test_a_value_is_never_markup(files: Path) -> None:
    (files / "rules.json").write_text('[{"key": "k", "operator": "==", "threshold": "[red]:smile:", "message": "m"}]')
    (files / "readings.jsonl").write_text('{"time": 1000000000, "device_id": "[b]", "k": "[red]:smile:"}\n')
    shown = run("test", "rules.json", "--readings", "readings.jsonl").stdout
    assert "[red]:smile:" in shown
    assert "[b]" in shown


EXPECTED = """\
[{"event_time": "2026-11-21T09:01:00Z", "device_id": "truck-1", "rule_id": "temperature", "status": "FIRING"},
 {"event_time": "2026-11-21T09:02:30Z", "device_id": "truck-2", "rule_id": "temperature", "status": "FIRING"},
 {"event_time": "2026-11-21T09:03:30Z", "device_id": "truck-1", "rule_id": "temperature", "status": "RESOLVED"}]
"""
TEST = ("test", "rules.json", "--readings", "readings.csv", "--expect", "expected.json")


def test_readings_do_what_is_expected(files: Path) -> None:
    (files / "expected.json").write_text(EXPECTED)
    done = run(*TEST)
    assert (done.exit_code, [" ".join(line.split()) for line in done.stdout.splitlines()]) == (0, [
        "5 readings of 2 devices, 0 of them late: 2 alerts, 1 still open",
        "rule readings held fired resolved not tried",
        "temperature 5 4 2 1",
        "1 of 1 rules have fired",
        "as expected: 3 events",
    ])  # fmt: skip
    machine = json.loads(run(*TEST, "--json").stdout)
    assert (machine["as_expected"], machine["missing"], machine["unexpected"]) == (True, [], [])
    assert machine["coverage"] == [
        {"rule_id": "temperature", "devices": 2, "readings": 5, "held": 4, "fired": 2, "resolved": 1}
    ]


def test_what_a_test_prints_can_be_expected_of_the_next(files: Path) -> None:
    printed = run("test", "rules.json", "--readings", "readings.csv", "--json").stdout
    (files / "expected.json").write_text(printed)
    assert run(*TEST).exit_code == 0
    (files / "rules.json").write_text(RULES.replace("hot", "very hot"))
    assert 'message="very hot"' in run(*TEST).stdout


def test_what_differs_is_shown_as_a_diff_and_ends_with_1(files: Path) -> None:
    (files / "expected.json").write_text(EXPECTED.replace("09:02:30Z", "09:02:00Z"))
    done = run(*TEST)
    assert done.exit_code == 1
    assert done.stdout.splitlines()[:4] == [
        '  2026-11-21T09:01:00Z truck-1 temperature FIRING severity="warning" value=95.5',
        "- 2026-11-21T09:02:00Z truck-2 temperature FIRING (line 2)",
        '+ 2026-11-21T09:02:30Z truck-2 temperature FIRING severity="warning" value=95.0',
        '  2026-11-21T09:03:30Z truck-1 temperature RESOLVED severity="warning" value=20.0',
    ]
    assert done.stdout.splitlines()[-1] == "not as expected: 1 events are missing, 1 were not expected"
    machine = run(*TEST, "--json")
    found = json.loads(machine.stdout)
    assert (machine.exit_code, found["as_expected"], [one["line"] for one in found["missing"]]) == (1, False, [2])
    assert [one["device_id"] for one in found["unexpected"]] == ["truck-2"]


def test_only_what_is_near_a_difference_is_shown(files: Path) -> None:
    readings = [{"time": 1_000_000_000 + n, "temperature": 90 - 80 * (n % 2)} for n in range(20)]
    (files / "readings.csv").write_text("".join(json.dumps(one) + "\n" for one in readings))
    (files / "readings.csv").rename(files / "readings.jsonl")
    (files / "rules.json").write_text(RULES.replace(', "for_seconds": 60', ""))
    found = json.loads(run("test", "rules.json", "--readings", "readings.jsonl", "--json").stdout)
    del found["events"][10]
    (files / "expected.json").write_text(json.dumps(found))
    done = run("test", "rules.json", "--readings", "readings.jsonl", "--expect", "expected.json")
    lines = [line[0] for line in done.stdout.splitlines()[:7]]
    assert (done.exit_code, lines) == (1, [".", " ", " ", "+", " ", " ", "."])


def test_junit_has_a_case_for_each_rule(files: Path) -> None:
    """A text in a reading may have what XML cannot."""
    cold = '{"id": "a<b", "key": "k", "operator": "==", "threshold": "\\u0001&", "message": "m"}]'
    (files / "rules.json").write_text(RULES[:-1] + ", " + cold)
    (files / "readings.jsonl").write_text('{"time": 1000000000, "k": "\\u0001&"}\n{"time": "\\u0002<"}\n')
    (files / "expected.json").write_text("[]")
    done = run("test", "rules.json", "--readings", "readings.jsonl", *TEST[-2:], "--junit", "out.xml")
    assert done.exit_code == 1
    suite = ElementTree.parse(files / "out.xml").getroot()[0]
    assert (suite.get("tests"), suite.get("failures")) == ("2", "1")
    hot, other = suite.findall("testcase")
    assert (hot.get("name"), len(hot), other.get("name")) == ("temperature", 0, "a<b")
    failure = other.find("failure")
    assert failure is not None
    assert str(failure.text).startswith("+ 2001-09-09T01:46:40Z device a<b FIRING")
    assert "readings.jsonl:2: would be a dead letter" in str(suite.findtext("system-err"))


def test_junit_of_what_is_as_expected(files: Path) -> None:
    (files / "expected.json").write_text(EXPECTED)
    assert run(*TEST, "--junit", "out.xml").exit_code == 0
    suite = ElementTree.parse(files / "out.xml").getroot()[0]
    assert (suite.get("failures"), [len(case) for case in suite.findall("testcase")]) == ("0", [0])


def test_wrong_expectations_and_places_end_with_2_and_1(files: Path) -> None:
    (files / "expected.json").write_text(EXPECTED.replace("status", "state"))
    wrong = run(*TEST)
    assert (wrong.exit_code, "expected.json:1: [0].state: unknown field" in wrong.stderr) == (2, True)
    assert run(*TEST[:-1], "none.json").exit_code == 2
    alone = run(*TEST[:-2], "--junit", "out.xml")
    assert (alone.exit_code, "name the expected events with --expect" in alone.stderr) == (2, True)
    (files / "expected.json").write_text(EXPECTED)
    nowhere = run(*TEST, "--junit", "none/out.xml")
    assert isinstance(nowhere.exception, PermanentError)
    assert "cannot write none/out.xml: No such file or directory" in str(nowhere.exception)


def test_the_rules_of_all_users_apply_where_the_file_has_none_of_their_id(files: Path) -> None:
    fleet = [
        {"key": "temperature", "operator": ">", "threshold": 10, "message": "m"},
        {"id": "cool", "key": "temperature", "operator": "<", "threshold": 50, "message": "m"},
    ]
    (files / "fleet.json").write_text(json.dumps(fleet))
    words = ("test", "rules.json", "--readings", "readings.csv", "--json")
    events = json.loads(run(*words, "--defaults", "fleet.json").stdout)["events"]
    assert [(one["rule_id"], one["status"], one["threshold"]) for one in events] == [
        ("temperature", "FIRING", 80), ("temperature", "RESOLVED", 80), ("cool", "FIRING", 50),
        ("temperature", "FIRING", 80),
    ]  # fmt: skip
    (files / "rules.json").write_text('[{"id": "cool", "enabled": false}]')
    events = json.loads(run(*words, "--defaults", "fleet.json").stdout)["events"]
    assert {(one["rule_id"], one["threshold"]) for one in events} == {("temperature", 10)}
    (files / "fleet.json").write_text("[{}]")
    refused = run(*words, "--defaults", "fleet.json")
    assert "fleet.json:1: rules[0].key: missing" in str(refused.exception)
