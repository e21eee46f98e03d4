"""The JSON Schemas: they take what the program takes, refuse what it refuses, and are the files of docs/schemas."""

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from jsonschema import Draft202012Validator
from typer.testing import CliRunner

from app.cli.data.config import SCHEMAS
from app.cli.main import build
from app.cli.schemas.catalogue import CATALOGUE, json_schema
from app.cli.schemas.user_config import rule as rule_schema
from app.core.alerts.commands import CommandAction
from app.core.model.alert_event import AlertEvent, Cause, Status, as_sent, to_json
from app.core.model.records import Reading
from app.core.routing.address import Address, address_of
from app.core.rules.rule import InvalidRules
from app.core.rules.rule_checks import checks_of_rule
from app.core.user_config.document import parse_config
from app.settings import Settings
from tests import DEFAULT
from tests.unit.core.alerts.test_alert_cases import CASES as TIMELINES
from tests.unit.core.alerts.test_alert_cases import rule_of
from tests.unit.core.decode.test_decode_cases import CASES, record_of
from tests.unit.core.rules.test_rules import PART, WRONG, WRONG_PARTS
from tests.unit.readings import rule
from tests.unit.records import read
from tools.documents import DOCS

# What a schema cannot say: the words of these mistakes.
BEYOND = (
    "1 to 200 characters", "names with single dots", "1 to 32 names", "not a measured field", "is not a number, which",
    "threshold: true is not a number", '"NaN" is not a number', "without NUL", "printable characters",
    "is above the threshold", "is below the threshold", "== has no clear_threshold", "above the rule's own severity",
    "$mass-offline", "9223372036854775808 is not a number", "there cannot be",
)  # fmt: skip


def takes(name: str, value: Any) -> bool:
    return bool(Draft202012Validator(json_schema(name, DEFAULT)).is_valid(value))


@pytest.mark.parametrize("name", CATALOGUE)
def test_each_is_a_schema_and_a_file(name: str) -> None:
    made = json_schema(name, DEFAULT)
    Draft202012Validator.check_schema(made)
    assert json.loads((DOCS / "schemas" / f"{name}.json").read_text()) == made, "run `make docs`"
    printed = CliRunner().invoke(build("config"), ["config", "schema", name])
    assert json.loads(printed.stdout) == made
    assert list(CATALOGUE) == list(SCHEMAS)


def test_a_name_that_there_is_not() -> None:
    done = CliRunner().invoke(build("config"), ["config", "schema", "alerts"])
    assert (done.exit_code, "sensor-telemetry" in done.output) == (2, True)


def test_a_rule_has_the_fields_that_are_checked() -> None:
    assert set(rule_schema()["properties"]) == set(checks_of_rule(DEFAULT))


@pytest.mark.parametrize("case", TIMELINES, ids=lambda case: case["name"])
def test_rules_that_work_are_taken(case: dict[str, Any]) -> None:
    whole = rule_of(case)
    assert not isinstance(parse_config(json.dumps([whole]), "u", DEFAULT), InvalidRules)
    assert takes("rules", [whole])
    assert takes("rules", {"rules": [whole], "version": 3})


BARE = {**PART, "clear_threshold": None}


def test_documents_that_work_are_taken() -> None:
    documents: tuple[Any, ...] = (
        [], {"rules": []}, [{"id": "off", "enabled": False}], [{"key": "k", "enabled": False}],
        [{**rule(), "enabled": False}],
        [{**rule(), "enabled": True, "of": [3, 5]}],
        [rule(id=None, severity=None, devices=None, clear_threshold=None, for_seconds=None)],
        [{"id": "both", "message": "m", "all": [PART]}, {"id": "one", "message": "", "any": [PART, BARE]}],
        {"maintenance": [{"from": "2026-11-21T22:00:00Z", "until": "2026-11-22T04:00:00Z", "devices": None}]},
        {"sampling": {"cov": [{"keys": {"t": {"absolute": 0.5}}, "heartbeat_seconds": 300}], "averages": None}},
    )  # fmt: skip
    for document in documents:
        assert not isinstance(parse_config(json.dumps(document), "u", DEFAULT), InvalidRules), document
        assert takes("rules", document), document


@pytest.mark.parametrize(
    ("change", "words"), [*WRONG, *WRONG_PARTS], ids=[words for _, words in [*WRONG, *WRONG_PARTS]]
)
def test_rules_that_are_refused_are_refused(change: dict[str, Any], words: str) -> None:
    wrong = {**rule(), **change} if (change, words) in WRONG else {"id": "both", "message": "m", **change}
    assert isinstance(parse_config(json.dumps([wrong]), "u", DEFAULT), InvalidRules)
    if not any(part in words for part in BEYOND):
        assert not takes("rules", [wrong])


def number(text: str) -> int | float:
    """A number with a fraction of zeros is an integer, in JSON Schema and to the worker."""
    exact = Decimal(text)
    return int(exact) if abs(exact) < 1 << 64 and exact == int(exact) else float(text)


@pytest.mark.parametrize("case", [case for case in CASES if case["file"] == "accepted"], ids=lambda case: case["name"])
def test_telemetry_that_is_stored_is_taken(case: dict[str, Any]) -> None:
    record = record_of(case)
    assert isinstance(read(record), Reading)
    assert record.value is not None
    address = address_of(record)
    assert isinstance(address, Address)
    name = "sensor-telemetry" if address.lenient else "telemetry"
    assert takes(name, json.loads(record.value, parse_float=number))


GOOD = {"sequence_id": 1, "timestamp": "2026-11-21T09:05:41Z", "temperature": 91.5, "engine": {"oil": 104}}


@pytest.mark.parametrize(
    "change",
    [
        {"sequence_id": None}, {"sequence_id": "1"}, {"sequence_id": 1.5}, {"sequence_id": 1 << 63},
        {"timestamp": None},        {"timestamp": True}, {"temperature": "91"}, {"battery": 90.5}, {"user_id": 5.5},
    ],
    ids=str,
)  # fmt: skip
def test_telemetry_that_is_refused_is_refused(change: dict[str, Any]) -> None:
    assert takes("telemetry", GOOD)
    assert takes("telemetry", {**GOOD, "time": GOOD["timestamp"], "timestamp": None})
    assert not takes("telemetry", {**GOOD, **change})


def test_commands() -> None:
    ids = {"device_id": "truck-1", "rule_id": "temperature"}
    assert all(takes("command", {**ids, "action": action, "duration_minutes": 30}) for action in CommandAction)
    assert takes("command", {**ids, "action": "DISABLE"})
    for wrong in ({}, {"duration_minutes": 0}, {"duration_minutes": None}, {"duration_minutes": 1e9}):
        assert not takes("command", {**ids, "action": "SNOOZE", **wrong})
    assert not takes("command", {"device_id": "d", "action": "ACK"})
    assert not takes("command", {**ids, "action": "STOP"})


def test_alerts_that_are_sent() -> None:
    now = datetime(2026, 11, 21, 9, 5, 41, tzinfo=UTC)
    event = AlertEvent("a" * 32, "alice", "truck-1", "t", Status.FIRING, "critical", "too hot", 91.5, 80, now, now)
    more = msgspec.structs.replace(event, cause=Cause.ESCALATED, repeat=1, suppressed=True, traceparent="00-1-2-01")
    for text in (to_json(event), to_json(more), as_sent(to_json(event), late=True)):
        assert takes("alert", json.loads(text))
    assert not takes("alert", {**json.loads(to_json(event)), "status": "BURNING"})


def test_settings() -> None:
    defaults = {name: field.default for name, field in Settings.model_fields.items()}
    assert list(json_schema("settings", DEFAULT)["properties"]) == list(defaults)
    assert takes("settings", {"kafka_broker": "k:9092", "bridge_filters": ["users/#"], "batch_max_rows": 10})
    assert takes("settings", {"sinks": ["parquet"]})
    assert takes("settings", {"sinks": {"archive": {"kind": "parquet", "dir": "/srv"}}})
    classes = [{"devices": "alice/truck-*", "offline_after": 300, "alert": True}]
    assert takes("settings", {"offline_classes": classes})
    for wrong in (
        {"kafka_brokers": "k:9092"}, {"batch_max_rows": 0}, {"log_level": "LOUD"}, {"mqtt_port": 70000}, {"sinks": 5},
        {"offline_classes": [{"devices": 5}]},
    ):  # fmt: skip
        assert not takes("settings", wrong), wrong
