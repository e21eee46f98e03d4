"""`iot-stream rules check` and `test`: what they print, and their exit codes. They need no server."""

import json
from pathlib import Path

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
