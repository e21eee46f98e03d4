"""The AsyncAPI document: whole in itself, of the topics and messages that the program has, and the file of docs/."""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from typer.testing import CliRunner

from app.cli.main import build
from app.cli.schemas.asyncapi import MQTT, asyncapi, kafka_channels
from app.core.alerts.digest import HeldAlert, digest
from app.core.deadletters.envelope import to_record
from app.core.model.records import Kind, Reason, Rejected, Stage
from app.core.presence.last_will import word_of
from app.core.processing.replies import answer
from app.core.routing.mqtt_topics import is_own_output, route
from app.gateways.mqtt.packets import Publish
from app.gateways.mqtt.records import to_record as record_of
from app.kafka.topics import wanted
from app.settings import Settings
from tests.unit.records import Message
from tools.documents import DOCS

DEFAULTS = Settings.model_construct()
DOCUMENT = asyncapi(DEFAULTS)
NOW = datetime(2026, 11, 21, 9, 5, 41, tzinfo=UTC)


def at(pointer: str) -> Any:
    """What a reference points to. Raises KeyError where it points to nothing."""
    assert pointer.startswith("#/")
    found: Any = DOCUMENT
    for name in pointer[2:].split("/"):
        found = found[int(name) if isinstance(found, list) else name.replace("~1", "/")]
    return found


def references(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        for key, value in part.items():
            if key == "$ref":
                yield value
            else:
                yield from references(value)
    elif isinstance(part, list):
        for one in part:
            yield from references(one)


def takes(message: str, value: Any) -> bool:
    """Whether a payload is one of the message, by the schema as it stands in the document."""
    schema = {**DOCUMENT, "$ref": f"{at(f'#/components/messages/{message}')['payload']['$ref']}/schema"}
    return bool(Draft202012Validator(schema).is_valid(value))


def has_headers(message: str, headers: list[tuple[str, bytes]]) -> bool:
    schema = at(f"#/components/messages/{message}/headers")
    known = {name for name, _ in headers} <= set(schema["properties"])
    return known and Draft202012Validator(schema).is_valid({name: value.decode() for name, value in headers})


def test_the_file_is_up_to_date_and_printed() -> None:
    assert json.loads((DOCS / "schemas" / "asyncapi.json").read_text()) == DOCUMENT, "run `make docs`"
    printed = json.loads(CliRunner().invoke(build("config"), ["config", "schema", "asyncapi"]).stdout)
    assert set(printed) == set(DOCUMENT)


def test_it_is_a_document_of_asyncapi_3() -> None:
    assert DOCUMENT["asyncapi"] == "3.0.0"
    assert {"title", "version"} <= set(DOCUMENT["info"])
    assert set(DOCUMENT) <= {
        "asyncapi", "id", "info", "servers", "defaultContentType", "channels", "operations", "components"
    }  # fmt: skip
    for server in DOCUMENT["servers"].values():
        assert {"host", "protocol"} <= set(server)
        assert server["protocol"] in ("mqtt", "secure-mqtt", "kafka", "kafka-secure")
    for message in DOCUMENT["components"]["messages"].values():
        assert set(message) <= {"name", "title", "payload", "headers", "bindings"}
        assert message.get("headers", {"type": "object"})["type"] == "object"
    for schema in DOCUMENT["components"]["schemas"].values():
        assert set(schema) == {"schemaFormat", "schema"}


def test_every_reference_points_to_something() -> None:
    found = [*references(DOCUMENT)]
    assert len(found) > 40
    for one in found:
        at(one)


def test_channels_have_their_parameters_and_operations_their_messages() -> None:
    for name, channel in DOCUMENT["channels"].items():
        assert set(channel.get("parameters", {})) == set(re.findall(r"{(\w+)}", channel["address"])), name
        assert channel["messages"]
    used = set()
    for operation in DOCUMENT["operations"].values():
        assert operation["action"] in ("send", "receive")
        channel = operation["channel"]["$ref"]
        used.add(channel.rpartition("/")[2])
        there = {f"{channel}/messages/{name}" for name in at(channel)["messages"]}
        assert {one["$ref"] for one in operation["messages"]} == there
    assert used == set(DOCUMENT["channels"])


@pytest.mark.parametrize("name", DOCUMENT["components"]["schemas"])
def test_payloads_are_schemas(name: str) -> None:
    Draft202012Validator.check_schema(DOCUMENT["components"]["schemas"][name]["schema"])


def test_topics_of_mqtt_are_those_that_are_routed() -> None:
    kinds = set()
    for entry in MQTT.values():
        topic = re.sub(r"{(\w+)}", r"\1-1", entry.address)
        if entry.action == "send":
            assert is_own_output(topic)
        else:
            kinds.add(route(topic).kind)
    assert kinds == {Kind.TELEMETRY, Kind.STATUS, Kind.CONFIG, Kind.ALERTS_MANAGE}


def test_topics_of_kafka_are_those_that_are_made() -> None:
    named = {one.address: channel for channel, one in kafka_channels(DEFAULTS).items()}
    changelog = f"{DEFAULTS.group_id}-state-changelog"  # the workers' own
    specs = {one.name: one for one in wanted(DEFAULTS)}
    assert set(specs) - {changelog} == set(named) - {DEFAULTS.kafka_quarantine_topic}
    for topic in set(specs) - {changelog}:
        binding = DOCUMENT["channels"][named[topic]]["bindings"]["kafka"]
        assert (binding["topic"], binding["partitions"]) == (topic, DEFAULTS.kafka_partitions)
        assert binding["topicConfiguration"]["retention.ms"] == int(specs[topic].config["retention.ms"])


def test_the_settings_name_the_topics() -> None:
    own = Settings.model_construct(kafka_topic="plant", kafka_partitions=3)
    made = asyncapi(own)["channels"]["input"]
    assert (made["address"], made["bindings"]["kafka"]["partitions"]) == ("plant", 3)


def test_records_of_the_bridge_have_these_headers() -> None:
    message = Publish("users/alice/devices/truck-1/telemetry", b"{}", 17, [], again=True, retained=True)
    record = record_of(message, 1_795_000_000_000)
    assert has_headers("kafka-telemetry", record.headers)
    assert not has_headers("kafka-telemetry", [("kind", b"nonsense")])


def test_a_dead_letter() -> None:
    source = Message(b"\xff{", key=b"\xff", headers=[("mqtt_topic", b"users/a/config"), ("ingest_ms", b"5")])
    rejected = Rejected(source, Reason.BAD_ENCODING, Stage.DECODE, "not UTF-8")
    for partition in (3, -1):
        _, value, headers = to_record(rejected, "iot-stream", partition, NOW.isoformat())
        assert takes("kafka-dead-letter", json.loads(value))
        assert has_headers("kafka-dead-letter", headers)
    assert not takes("kafka-dead-letter", {**json.loads(value), "reason": "bad_luck"})
    assert not has_headers("kafka-dead-letter", headers[:-1])


def test_a_refusal_and_a_digest() -> None:
    rejected = Rejected(Message(b"{}", key=b"a"), Reason.INVALID_RULES, Stage.VALIDATE, "rules: missing")
    reply = answer(rejected, Kind.CONFIG, "alice", 3, 1_795_000_000_000)
    assert reply is not None
    assert takes("mqtt-refusal", json.loads(reply.value))
    assert reply.topic == MQTT["configErrors"].address.replace("{user}", "alice")
    held = [HeldAlert("a" * 32, "FIRING", 0, "truck-1", "t", "critical", NOW)]
    assert takes("mqtt-digest", json.loads(digest("alice", held)))
    assert not takes("mqtt-digest", {"status": "FIRING"})


@pytest.mark.parametrize(
    "payload", [b'"online"', b"false", b"0", b'{"state": "offline"}', b'{"online": false, "ip": "::1"}']
)
def test_a_status(payload: bytes) -> None:
    assert word_of(payload)
    assert takes("mqtt-status", json.loads(payload))
    assert not takes("mqtt-status", {})
    assert not takes("mqtt-status", [])


def test_rules_are_checked_below_their_references() -> None:
    rule = {"key": "temperature", "operator": ">", "threshold": 80, "message": "too hot"}
    assert takes("mqtt-rules", [rule])
    assert takes("kafka-rules", {"rules": [rule]})
    assert not takes("mqtt-rules", [{**rule, "operator": "~"}])
